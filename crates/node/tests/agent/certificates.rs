//! Certificates that the cluster issues: got, renewed in time, and given up when nobody renews them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use berth_node::ServingCertificate;
use berth_node::certificates::{CLIENT_FILE, CertificatePair, NodeCertificates, SERVING_FILE};
use berth_testkit::wait_for_async;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::json;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::port_10250::{Pki, port};
use super::{LIMIT, World};

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests/";
/// So long that a busy machine gets the first ones, so short that they are renewed soon.
const LIFE: Duration = Duration::from_secs(12);

/// A node that has joined with a certificate of such a life, and serves with what the cluster issues.
fn config(world: &World, life: Duration) -> berth_node::Config {
    let mut config = world.config();
    let (certificate, key) = world.pki.node("n1", life);
    let pair = CertificatePair::new(&certificate, &key).unwrap();
    let dir = world.dir.path().join("node/pki");
    pair.save(&dir.join(CLIENT_FILE)).unwrap();
    let cluster = kube::Config::new(world.api.url.parse().unwrap());
    let certificates = NodeCertificates::new(dir, cluster, pair).unwrap();
    config.client = certificates.client.client();
    config.certificates = Some(certificates);
    config.tls.certificate = ServingCertificate::Issued;
    config
}

fn file(world: &World, name: &str) -> PathBuf {
    world.dir.path().join("node/pki").join(name)
}

/// The controller: it gives every request its certificate.
async fn sign_all(api: super::FakeApi, pki: Arc<Pki>, life: Duration) {
    loop {
        for (path, mut request) in api.below(REQUESTS) {
            if request["status"]["certificate"].is_null() {
                let pem = STANDARD
                    .decode(request["spec"]["request"].as_str().unwrap())
                    .unwrap();
                let certificate = pki.sign(std::str::from_utf8(&pem).unwrap(), life);
                request["status"] = json!({"certificate": STANDARD.encode(certificate)});
                api.put(&path, request);
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A connection to the node's server, with what that showed; none while it shows nothing.
async fn connect(
    world: &World,
    port: u16,
) -> Result<
    (
        CertificateDer<'static>,
        hyper::client::conn::http1::SendRequest<Empty<Bytes>>,
    ),
    String,
> {
    let connector = tokio_rustls::TlsConnector::from(Arc::new(world.pki.config(None)));
    let stream = TcpStream::connect(("127.0.0.1", port)).await;
    let stream = stream.map_err(|error| error.to_string())?;
    let name = ServerName::try_from("n1").unwrap();
    let stream = connector
        .connect(name, stream)
        .await
        .map_err(|error| error.to_string())?;
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0]
        .clone()
        .into_owned();
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    Ok((shown, sender))
}

#[tokio::test]
async fn both_are_renewed_while_connections_go_on() {
    let mut world = World::new().await;
    let config = config(&world, LIFE);
    world.start_with(config);
    let port = port(&world).await;
    // Nothing is shown that the cluster did not issue.
    assert!(connect(&world, port).await.is_err());
    let pki = Arc::clone(&world.pki);
    let signing = tokio::spawn(sign_all(world.api.clone(), pki, LIFE));
    let (first, mut open) = wait_for_async("a certificate", LIMIT, || connect(&world, port)).await;
    let client = std::fs::read(file(&world, CLIENT_FILE)).unwrap();
    let health = || Request::get("/healthz").body(Empty::new()).unwrap();
    assert_eq!(open.send_request(health()).await.unwrap().status(), 200);
    wait_for_async("another certificate of the server", LIMIT, || async {
        let (shown, _) = connect(&world, port).await?;
        (shown != first)
            .then_some(())
            .ok_or_else(|| "the same".to_owned())
    })
    .await;
    wait_for_async("another certificate of the client", LIMIT, || async {
        let now = std::fs::read(file(&world, CLIENT_FILE)).unwrap();
        (now != client)
            .then_some(())
            .ok_or_else(|| "the same".to_owned())
    })
    .await;
    let answer = open.send_request(health()).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "ok");
    let kept = CertificatePair::load(&file(&world, SERVING_FILE)).unwrap();
    assert!(
        kept.unwrap()
            .has_names(&["n1".to_owned()], &[[127, 0, 0, 1].into()])
    );
    // What was asked for says what it is for, and the keys are not in it.
    for (_, request) in world.api.below(REQUESTS) {
        let usages = &request["spec"]["usages"];
        let client = request["spec"]["signerName"] == "kubernetes.io/kube-apiserver-client-kubelet";
        let usage = if client { "client auth" } else { "server auth" };
        assert_eq!(*usages, json!(["digital signature", usage]));
        assert!(!request.to_string().contains("PRIVATE"));
    }
    signing.abort();
    world.stop().await;
}

#[tokio::test]
async fn a_restart_uses_what_was_issued() {
    let mut world = World::new().await;
    let pki = Arc::clone(&world.pki);
    let hour = Duration::from_secs(3600);
    let signing = tokio::spawn(sign_all(world.api.clone(), pki, hour));
    world.start_with(config(&world, hour));
    let before = port(&world).await;
    let (first, _) = wait_for_async("a certificate", LIMIT, || connect(&world, before)).await;
    world.stop().await;
    signing.abort();
    let mut config = config(&world, hour);
    config.bind.set_port(before);
    world.start_with(config);
    let (again, _) = wait_for_async("the certificate", LIMIT, || connect(&world, before)).await;
    assert_eq!(first, again);
    world.stop().await;
}

#[tokio::test]
async fn an_expired_certificate_ends_the_agent() {
    let world = World::new().await;
    let config = config(&world, Duration::from_secs(2));
    let running = berth_node::run(config, CancellationToken::new());
    let ended = tokio::time::timeout(LIMIT, running).await.expect("an end");
    let error = ended.expect_err("it cannot go on").to_string();
    assert!(error.contains("client certificate"), "{error}");
}
