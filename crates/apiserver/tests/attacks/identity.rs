//! Credentials: tokens, audiences, certificates, reviews.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use berth_apiserver::authn::StaticToken;
use berth_apiserver::tls::TlsConfig;
use berth_apiserver::tokens::TokenConfig;
use berth_apiserver::user::User;
use berth_apiserver::{Config, StoreConfig};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rcgen::{CertifiedIssuer, ExtendedKeyUsagePurpose, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::harness::{Api, PATIENCE, PODS, pod};

const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";

fn tokens() -> TokenConfig {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    TokenConfig {
        issuer: "https://issuer".to_owned(),
        audiences: vec!["api".to_owned()],
        key: key.serialize_pem().into_bytes(),
        max_expiration_seconds: None,
    }
}

async fn start() -> Api {
    Api::start_with(|config| {
        config.tokens = Some(tokens());
        config.authn.static_tokens.push(StaticToken {
            token: "static".to_owned(),
            user: User {
                name: "robot".to_owned(),
                ..User::default()
            },
        });
    })
    .await
}

async fn review(api: &Api, token: &str, audiences: Value) -> Value {
    let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token, "audiences": audiences}});
    let answer = api.post(REVIEWS, body).await.expect(201);
    answer["status"].clone()
}

async fn token(api: &Api, account: &str, spec: Value) -> String {
    let body =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
    let answer = api
        .post(&format!("{ACCOUNTS}/{account}/token"), body)
        .await
        .expect(201);
    answer["status"]["token"].as_str().unwrap().to_owned()
}

/// A service that takes `vault` must not be told that a token for `shop` is for it.
#[tokio::test]
async fn a_review_answers_with_the_audiences_that_the_token_has() {
    let api = start().await;
    let token = token(&api, "default", json!({"audiences": ["vault", "api"]})).await;
    let both = review(&api, &token, json!(["shop", "vault"])).await;
    assert_eq!(both["authenticated"], true);
    assert_eq!(both["audiences"], json!(["vault"]));
    let none = review(&api, &token, json!(["shop"])).await;
    assert_eq!(none["authenticated"], Value::Null, "{none}");
    let own = review(&api, &token, json!([])).await;
    assert_eq!(own["audiences"], json!(["api"]));
}

#[tokio::test]
async fn a_static_token_is_for_the_api_server_only() {
    let api = start().await;
    let elsewhere = review(&api, "static", json!(["vault"])).await;
    assert_eq!(elsewhere["authenticated"], Value::Null, "{elsewhere}");
    let here = review(&api, "static", json!(["vault", "api"])).await;
    assert_eq!(here["user"]["username"], "robot");
    assert_eq!(here["audiences"], json!(["api"]));
}

#[tokio::test]
async fn a_token_ends_with_its_pod_and_its_account() {
    let api = start().await;
    let good = async |token: &str| review(&api, token, json!([])).await["authenticated"] == true;
    let uid = |object: &Value| object["metadata"]["uid"].clone();
    api.post(ACCOUNTS, json!({"metadata": {"name": "sa"}}))
        .await
        .expect(201);
    let mut body = pod("p");
    body["spec"]["serviceAccountName"] = json!("sa");
    let made = api.post(PODS, body.clone()).await.expect(201);
    let bound = json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": uid(&made)}});
    let of_pod = token(&api, "sa", bound).await;
    let of_account = token(&api, "sa", json!({})).await;
    assert!(good(&of_pod).await && good(&of_account).await);
    api.delete(&format!("{PODS}/p?gracePeriodSeconds=0"))
        .await
        .expect(200);
    assert!(!good(&of_pod).await);
    assert!(good(&of_account).await);
    api.post(PODS, body).await.expect(201);
    assert!(!good(&of_pod).await, "it is another pod with the name");
    api.delete(&format!("{ACCOUNTS}/sa")).await.expect(200);
    assert!(!good(&of_account).await);
    api.post(ACCOUNTS, json!({"metadata": {"name": "sa"}}))
        .await
        .expect(201);
    assert!(
        !good(&of_account).await,
        "it is another account with the name"
    );
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A client certificate of `user` that ends at `end`, and its key.
fn client(
    issuer: &CertifiedIssuer<'static, KeyPair>,
    user: &str,
    end: Duration,
) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, user);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + end;
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    (certificate.der().clone(), key)
}

/// A server with TLS that knows the clients of a CA, and anonymous ones.
struct Server {
    address: SocketAddr,
    certificate: CertificateDer<'static>,
    shutdown: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Server {
    async fn start(ca: &CertifiedIssuer<'static, KeyPair>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let store = StoreConfig::Sqlite {
            dir: dir.path().to_owned(),
        };
        let mut config = Config::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), store);
        config.tls = Some(TlsConfig {
            certificate: own.cert.pem().into_bytes(),
            key: own.signing_key.serialize_pem().into_bytes(),
            client_ca: Some(ca.pem().into_bytes()),
        });
        let server = config.build().await.unwrap();
        let address = server.local_addr();
        let shutdown = CancellationToken::new();
        tokio::spawn(server.serve(shutdown.clone()));
        Self {
            address,
            certificate: own.cert.der().clone(),
            shutdown,
            _dir: dir,
        }
    }

    async fn connect(
        &self,
        identity: (CertificateDer<'static>, PrivateKeyDer<'static>),
    ) -> SendRequest<Empty<Bytes>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![identity.0], identity.1)
            .unwrap();
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        sender
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Asks who the client is.
async fn code(connection: &mut SendRequest<Empty<Bytes>>) -> u16 {
    connection.ready().await.unwrap();
    let request = http::Request::get("/api")
        .header("host", "localhost")
        .body(Empty::new())
        .unwrap();
    let response = tokio::time::timeout(PATIENCE, connection.send_request(request))
        .await
        .expect("an answer in time")
        .unwrap();
    let code = response.status().as_u16();
    response.into_body().collect().await.unwrap();
    code
}

fn now() -> Duration {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap()
}

#[tokio::test]
async fn a_certificate_that_ends_ends_on_open_connections_too() {
    let ca = authority("known");
    let server = Server::start(&ca).await;
    // whole seconds: an X.509 time has no fractions
    let end = Duration::from_secs((now() + Duration::from_secs(4)).as_secs());
    let mut connection = server.connect(client(&ca, "short", end)).await;
    let mut longer = server
        .connect(client(&ca, "long", end + Duration::from_secs(3600)))
        .await;
    assert_eq!(code(&mut connection).await, 200);
    let past = end + Duration::from_secs(1);
    tokio::time::sleep(past.saturating_sub(now()) + Duration::from_millis(50)).await;
    assert_eq!(code(&mut connection).await, 401);
    assert_eq!(code(&mut longer).await, 200);
}

#[tokio::test]
async fn a_certificate_of_a_foreign_ca_is_refused_and_not_anonymous() {
    let ca = authority("known");
    let server = Server::start(&ca).await;
    let hour = now() + Duration::from_secs(3600);
    // another CA of the same name, too
    for foreign in [authority("foreign"), authority("known")] {
        let mut connection = server.connect(client(&foreign, "admin", hour)).await;
        assert_eq!(code(&mut connection).await, 401);
    }
    let mut connection = server.connect(client(&ca, "me", hour)).await;
    assert_eq!(code(&mut connection).await, 200);
}

/// A token is looked at before anybody knows whose request it is, so that nothing bounds how often.
#[tokio::test]
async fn a_token_of_a_large_pod_costs_no_more_than_another() {
    let api = start().await;
    let env: Vec<Value> = (0..14_000)
        .map(|n| json!({"name": format!("V{n:08}"), "value": ""}))
        .collect();
    let mut large = pod("large");
    large["spec"]["containers"][0]["env"] = json!(env);
    let mut took = Vec::new();
    for body in [pod("small"), large] {
        let made = api.post(PODS, body).await.expect(201);
        let (name, uid) = (&made["metadata"]["name"], &made["metadata"]["uid"]);
        let bound = json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": uid}});
        let token = token(&api, "default", bound).await;
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", authorization.as_str())];
        let mut times = Vec::new();
        for _ in 0..15 {
            let begun = std::time::Instant::now();
            let answer = api
                .raw_without_credentials("GET", "/version", &headers, "")
                .await;
            times.push(begun.elapsed());
            assert_eq!(answer.code, 200, "{}", answer.text);
        }
        times.sort();
        took.push(times[times.len() / 2]);
    }
    assert!(took[1] < took[0] * 5, "{took:?}");
}
