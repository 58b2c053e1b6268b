//! A webhook of the test's own, with real TLS.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use parking_lot::Mutex;
use rcgen::{CertifiedIssuer, ExtendedKeyUsagePurpose, KeyPair};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A request that the webhook has got.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

/// A webhook.
pub(crate) struct HookServer {
    pub(crate) address: SocketAddr,
    pub(crate) ca_pem: String,
    pub(crate) got: Arc<Mutex<Vec<Got>>>,
    /// Connections that were begun, whether or not they came to a handshake.
    pub(crate) connections: Arc<AtomicUsize>,
}

pub(crate) type Answering =
    Arc<dyn Fn(Got) -> BoxFuture<'static, Response<Full<Bytes>>> + Send + Sync>;

/// An answer with a code and a body.
pub(crate) fn reply(code: u16, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap();
    response
}

/// The answer to a review: what `response` says, with the uid of the request.
pub(crate) fn reviewed(got: &Got, mut response: Value) -> Response<Full<Bytes>> {
    response["uid"] = got.body["request"]["uid"].clone();
    let review = json!({"apiVersion": got.body["apiVersion"], "kind": got.body["kind"], "response": response});
    reply(200, review.to_string())
}

/// A response that lets the object pass with a JSON patch.
pub(crate) fn patched(patch: &Value) -> Value {
    json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(patch.to_string())})
}

impl HookServer {
    /// A webhook at `localhost` that answers every review so.
    pub(crate) async fn start(answer: impl Fn(&Value) -> Value + Send + Sync + 'static) -> Self {
        Self::start_raw(Arc::new(move |got: Got| {
            let response = answer(&got.body["request"]);
            Box::pin(async move { reviewed(&got, response) })
        }))
        .await
    }

    pub(crate) async fn start_raw(answering: Answering) -> Self {
        let at = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Self::start_at(at, &["localhost"], answering).await
    }

    /// A webhook at an address, with a certificate for these names.
    pub(crate) async fn start_at(at: IpAddr, names: &[&str], answering: Answering) -> Self {
        Self::start_tls(at, names, answering, None).await
    }

    /// The same, for clients with a certificate of this CA alone.
    pub(crate) async fn start_tls(
        at: IpAddr,
        names: &[&str],
        answering: Answering,
        clients: Option<RootCertStore>,
    ) -> Self {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "hook-ca");
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &ca).unwrap().der().clone();
        Self::serve(at, (leaf, &key), ca.pem(), answering, clients).await
    }

    /// A webhook with a certificate that is its own CA, as small operators make it.
    #[allow(dead_code, reason = "only one suite uses it")]
    pub(crate) async fn start_self_signed(answer: Value) -> Self {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        let answering: Answering = Arc::new(move |got: Got| {
            let response = answer.clone();
            Box::pin(async move { reviewed(&got, response) })
        });
        let at = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let identity = (made.der().clone(), &key);
        Self::serve(at, identity, made.pem(), answering, None).await
    }

    async fn serve(
        at: IpAddr,
        (leaf, key): (CertificateDer<'static>, &KeyPair),
        ca_pem: String,
        answering: Answering,
        clients: Option<RootCertStore>,
    ) -> Self {
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap();
        let config = match clients {
            None => config.with_no_client_auth(),
            Some(roots) => {
                let provider = Arc::new(rustls::crypto::ring::default_provider());
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                config.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let mut config = config.with_single_cert(vec![leaf], key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((at, 0)).await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            ca_pem,
            got: Arc::default(),
            connections: Arc::default(),
        };
        let (got, connections) = (Arc::clone(&server.got), Arc::clone(&server.connections));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let (acceptor, got) = (acceptor.clone(), Arc::clone(&got));
                let answering = Arc::clone(&answering);
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let service = service_fn(move |request: Request<Incoming>| {
                        let (got, answering) = (Arc::clone(&got), Arc::clone(&answering));
                        async move {
                            let (parts, body) = request.into_parts();
                            let bytes = body.collect().await.unwrap().to_bytes();
                            let now = Got {
                                path: parts.uri.to_string(),
                                headers: parts.headers,
                                body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
                            };
                            got.lock().push(now.clone());
                            Ok::<_, Infallible>(answering(now).await)
                        }
                    });
                    let _ = Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        server
    }

    /// The requests of the reviews that it has got.
    pub(crate) fn requests(&self) -> Vec<Value> {
        let got = self.got.lock();
        got.iter().map(|got| got.body["request"].clone()).collect()
    }

    pub(crate) fn ca_bundle(&self) -> String {
        STANDARD.encode(&self.ca_pem)
    }

    /// A webhook of a configuration that reaches it by URL.
    pub(crate) fn hook(&self, name: &str, rules: Value) -> Value {
        json!({"name": name, "sideEffects": "None", "admissionReviewVersions": ["v1"], "rules": rules,
            "clientConfig": {"url": format!("https://localhost:{}/path", self.address.port()), "caBundle": self.ca_bundle()}})
    }
}

pub(crate) const MUTATING: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
pub(crate) const VALIDATING: &str =
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";

/// A rule about all operations on a resource of the core group's v1.
pub(crate) fn rule(resource: &str) -> Value {
    rule_of("", "v1", resource)
}

/// A rule about all operations on a resource.
pub(crate) fn rule_of(group: &str, version: &str, resource: &str) -> Value {
    json!([{"operations": ["*"], "apiGroups": [group], "apiVersions": [version], "resources": [resource]}])
}

/// A configuration of webhooks.
pub(crate) fn configuration(name: &str, webhooks: &[Value]) -> Value {
    json!({"metadata": {"name": name}, "webhooks": webhooks})
}

/// This machine's address besides loopback; none without a network.
pub(crate) fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified() && !ip.is_loopback()).then_some(ip)
}
