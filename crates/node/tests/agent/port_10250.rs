//! The node's own server, as the API server uses it: client certificates, logs, upgraded streams.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, IsCa, Issuer,
    KeyPair,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{NODE, POD, World, condition, pod};
use berth_node::{ServingCertificate, ServingTls};

/// A CA, and what it signs.
pub(crate) struct Pki {
    issuer: Issuer<'static, KeyPair>,
    ca: CertificateDer<'static>,
    pub(crate) serving: ServingTls,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let own = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let cert = params.signed_by(&own, &issuer).unwrap();
        let serving = ServingTls {
            certificate: ServingCertificate::Given {
                cert_pem: cert.pem(),
                key_pem: own.serialize_pem(),
            },
            client_ca_pem: ca.pem(),
        };
        Self {
            ca: ca.der().clone(),
            issuer,
            serving,
        }
    }

    /// The certificate of a request in PEM, that ends so soon.
    pub(crate) fn sign(&self, request: &str, life: Duration) -> String {
        let mut request = CertificateSigningRequestParams::from_pem(request).unwrap();
        let now = std::time::SystemTime::now();
        request.params.not_before = now.into();
        request.params.not_after = (now + life).into();
        request.signed_by(&self.issuer).unwrap().pem()
    }

    /// Certificate and key of the node, in PEM.
    pub(crate) fn node(&self, name: &str, life: Duration) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let subject = &mut params.distinguished_name;
        subject.push(DnType::OrganizationName, "system:nodes");
        subject.push(DnType::CommonName, format!("system:node:{name}"));
        let now = std::time::SystemTime::now();
        params.not_before = now.into();
        params.not_after = (now + life).into();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// For `NAME` or `NAME,O=GROUP`.
    fn client(&self, user: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        let (name, group) = user.split_once(",O=").unwrap_or((user, ""));
        params.distinguished_name.push(DnType::CommonName, name);
        if !group.is_empty() {
            params
                .distinguished_name
                .push(DnType::OrganizationName, group);
        }
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        (cert.der().clone(), key)
    }

    pub(crate) fn config(&self, user: Option<&str>) -> rustls::ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.ca.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        match user {
            None => builder.with_no_client_auth(),
            Some(user) => {
                let (cert, key) = self.client(user);
                builder.with_client_auth_cert(vec![cert], key).unwrap()
            }
        }
    }
}

pub(crate) async fn port(world: &World) -> u16 {
    let node = world
        .until(NODE, "node Ready", |n| condition(n, "Ready") == "True")
        .await;
    let port = &node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"];
    u16::try_from(port.as_u64().unwrap()).unwrap()
}

pub(crate) async fn tls(
    world: &World,
    user: Option<&str>,
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let connector = tokio_rustls::TlsConnector::from(Arc::new(world.pki.config(user)));
    let stream = TcpStream::connect(("127.0.0.1", port(world).await))
        .await
        .unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    connector.connect(name, stream).await.unwrap()
}

pub(crate) async fn send(
    world: &World,
    user: Option<&str>,
    request: Request<Empty<Bytes>>,
) -> Response<Incoming> {
    let stream = tls(world, user).await;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection.with_upgrades());
    sender.send_request(request).await.unwrap()
}

pub(crate) async fn get(world: &World, user: Option<&str>, path: &str) -> (StatusCode, String) {
    let request = Request::get(path).body(Empty::new()).unwrap();
    let answer = send(world, user, request).await;
    let status = answer.status();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

pub(crate) const API_SERVER: Option<&str> = Some("kube-apiserver-kubelet-client,O=system:masters");

#[tokio::test]
async fn only_the_api_server_and_whoever_it_allows_may_ask() {
    let world = World::started().await;
    let list = "/pods";
    assert_eq!(get(&world, None, "/healthz").await.0, StatusCode::OK);
    assert_eq!(get(&world, None, list).await.0, StatusCode::UNAUTHORIZED);
    // The fake API answers no SubjectAccessReview that allows anything.
    let (status, text) = get(&world, Some("eve"), list).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert!(
        text.contains("user=eve, verb=get, resource=nodes, subresource=pods"),
        "{text}"
    );
    // Not by its name: that can be in any certificate that the CA signs.
    let named = Some("kube-apiserver-kubelet-client");
    let (status, text) = get(&world, named, list).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{text}");
    let (status, text) = get(&world, API_SERVER, list).await;
    assert_eq!(status, StatusCode::OK);
    let list: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(list["kind"], "PodList");
}

#[tokio::test]
async fn logs_are_read_from_the_runtimes_files() {
    let world = World::started().await;
    world.api.put(POD, pod(&json!({})));
    world.ready().await;
    let dir = world.dir.path().join("logs/default_web_u1/c");
    std::fs::create_dir_all(&dir).unwrap();
    let text = "2026-11-21T22:00:00Z stdout F one\n2026-11-21T22:00:01Z stderr F two\n";
    std::fs::write(dir.join("0.log"), text).unwrap();
    let path = "/containerLogs/default/web/c";
    assert_eq!(get(&world, API_SERVER, path).await.1, "one\ntwo\n");
    let tail = format!("{path}?tailLines=1&timestamps=true");
    assert_eq!(
        get(&world, API_SERVER, &tail).await.1,
        "2026-11-21T22:00:01Z two\n"
    );
    for (path, status, part) in [
        (
            "/containerLogs/default/web/none",
            404,
            "container \"none\" not found",
        ),
        (
            "/containerLogs/default/none/c",
            404,
            "pod \"none_default\" not found",
        ),
        (
            "/containerLogs/default/web/c?previous=true",
            400,
            "previous terminated container",
        ),
        ("/containerLogs/default/web/c?tailLines=x", 400, "tailLines"),
        ("/nothing", 404, "page not found"),
    ] {
        let (got, text) = get(&world, API_SERVER, path).await;
        assert_eq!(got.as_u16(), status, "{path}");
        assert!(text.contains(part), "{path}: {text}");
    }
}

/// A streaming server that upgrades to an echo and remembers what it was asked.
async fn echo() -> (String, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/exec/token", listener.local_addr().unwrap());
    let task = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n")
            .await
            .unwrap();
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        String::from_utf8(head).unwrap()
    });
    (url, task)
}

#[tokio::test]
async fn exec_is_passed_to_the_runtimes_stream_byte_for_byte() {
    let world = World::started().await;
    world.api.put(POD, pod(&json!({})));
    world.ready().await;
    let (url, server) = echo().await;
    world.cri.state.lock().stream_url = url;
    let request = Request::post(
        "/exec/default/web/c?command=sh&command=-c&command=a%20b&input=1&output=1&tty=1&error=1",
    )
    .header("connection", "Upgrade")
    .header("upgrade", "SPDY/3.1")
    .header("x-stream-protocol-version", "v4.channel.k8s.io")
    .body(Empty::new())
    .unwrap();
    let answer = send(&world, API_SERVER, request).await;
    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(
        answer.headers()["x-stream-protocol-version"],
        "v4.channel.k8s.io"
    );
    let mut stream = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    stream.write_all(b"\0\xffab").await.unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).await.unwrap();
    assert_eq!(back, b"\0\xffab");
    let head = server.await.unwrap();
    assert!(head.starts_with("POST /exec/token HTTP/1.1"), "{head}");
    assert!(head.to_lowercase().contains("upgrade: spdy/3.1"), "{head}");
    // With a terminal there is no separate standard error.
    world
        .called("Exec [\"sh\", \"-c\", \"a b\"] tty=true in=true out=true err=false")
        .await;
}
