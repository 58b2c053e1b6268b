//! Many requests on one TLS connection: answers are gathered there before they are sent, and none may be lost, mixed up or kept.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use berth_apiserver::authn::StaticToken;
use berth_apiserver::tls::TlsConfig;
use berth_apiserver::user::User;
use berth_apiserver::{Config, StoreConfig};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::harness::{CONFIG_MAPS, PATIENCE, TOKEN};

/// A server that is reached over TLS.
struct Server {
    address: SocketAddr,
    certificate: CertificateDer<'static>,
    shutdown: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Server {
    async fn start() -> Self {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let store = StoreConfig::Sqlite {
            dir: dir.path().to_owned(),
        };
        let mut config = Config::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), store);
        config.tls = Some(TlsConfig {
            certificate: own.cert.pem().into_bytes(),
            key: own.signing_key.serialize_pem().into_bytes(),
            client_ca: None,
        });
        config.authn.static_tokens.push(StaticToken {
            token: TOKEN.to_owned(),
            user: User::master("admin"),
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

    async fn tls(&self, protocol: &[u8]) -> TokioIo<TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        TokioIo::new(connector.connect(name, stream).await.unwrap())
    }

    /// An HTTP/2 connection whose streams may each hold so many bytes that are not read.
    async fn http2(&self, window: u32) -> Client {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(window)
            .initial_connection_window_size(4 << 20)
            .handshake(self.tls(b"h2").await)
            .await
            .unwrap();
        tokio::spawn(connection);
        Client(sender)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

fn request(method: &str, path: &str, body: Option<Value>) -> Request<Full<Bytes>> {
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    Request::builder()
        .method(method)
        .uri(format!("https://localhost{path}"))
        .header("host", "localhost")
        .header("authorization", format!("Bearer {TOKEN}"))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .unwrap()
}

async fn text(response: Response<Incoming>) -> String {
    let read = tokio::time::timeout(PATIENCE, response.into_body().collect());
    let bytes = read.await.expect("all of it in time").unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[derive(Clone)]
struct Client(http2::SendRequest<Full<Bytes>>);

impl Client {
    async fn open(&self, method: &str, path: &str, body: Option<Value>) -> Response<Incoming> {
        let answer = self.0.clone().send_request(request(method, path, body));
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        let answer = answer.expect("an answer in time").unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer
    }

    async fn json(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        serde_json::from_str(&text(self.open(method, path, body).await).await).unwrap()
    }

    /// ConfigMaps with so many bytes each.
    async fn fill(&self, count: usize, bytes: usize) {
        for number in 0..count {
            let data = format!("{number:03}").repeat(bytes / 3);
            self.json("POST", CONFIG_MAPS, Some(config_map(number, &data)))
                .await;
        }
    }
}

fn config_map(number: usize, data: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("c-{number}")}, "data": {"x": data}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_many_streams_gets_its_own_answer_whole() {
    let server = Server::start().await;
    let client = server.http2(1 << 20).await;
    client.fill(40, 30_000).await;
    let mut reading = Vec::new();
    for round in 0..400 {
        let client = client.clone();
        reading.push(tokio::spawn(async move {
            if round % 10 == 0 {
                let list = client.json("GET", CONFIG_MAPS, None).await;
                return assert_eq!(list["items"].as_array().unwrap().len(), 40);
            }
            let number = round % 40;
            let path = format!("{CONFIG_MAPS}/c-{number}");
            let one = client.json("GET", &path, None).await;
            assert_eq!(one["data"]["x"], format!("{number:03}").repeat(10_000));
        }));
    }
    for one in reading {
        one.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_comes_at_once_beside_an_answer_that_is_not_read() {
    let server = Server::start().await;
    let client = server.http2(70_000).await;
    client.fill(40, 30_000).await;
    let unread = client.open("GET", CONFIG_MAPS, None).await;
    let newest = client
        .json("GET", &format!("{CONFIG_MAPS}?limit=1"), None)
        .await;
    let version = newest["metadata"]["resourceVersion"].as_str().unwrap();
    let path = format!("{CONFIG_MAPS}?watch=true&resourceVersion={version}");
    let mut watch = client.open("GET", &path, None).await;
    for number in 100..110 {
        // Nothing else goes on, so that nothing else could send it.
        tokio::time::sleep(Duration::from_millis(30)).await;
        let other = server.http2(70_000).await;
        other
            .json("POST", CONFIG_MAPS, Some(config_map(number, "")))
            .await;
        let event = tokio::time::timeout(Duration::from_secs(5), watch.body_mut().frame());
        let event = event.await.expect("an event at once").unwrap().unwrap();
        let event: Value = serde_json::from_slice(event.data_ref().unwrap()).unwrap();
        assert_eq!(event["object"]["metadata"]["name"], format!("c-{number}"));
    }
    // What was not read is all there still.
    let list: Value = serde_json::from_str(&text(unread).await).unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_reset_leave_the_others_alone() {
    let server = Server::start().await;
    let client = server.http2(70_000).await;
    client.fill(40, 30_000).await;
    for number in 0..40 {
        // Some of it is on its way when the stream is reset.
        let mut broken = client.open("GET", CONFIG_MAPS, None).await;
        broken.body_mut().frame().await.unwrap().unwrap();
        drop(broken);
        let one = client
            .json("GET", &format!("{CONFIG_MAPS}/c-{number}"), None)
            .await;
        assert_eq!(one["data"]["x"], format!("{number:03}").repeat(10_000));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_1_is_as_it_was() {
    let server = Server::start().await;
    server.http2(70_000).await.fill(40, 30_000).await;
    let (mut sender, connection) = http1::handshake(server.tls(b"http/1.1").await)
        .await
        .unwrap();
    tokio::spawn(connection);
    for _ in 0..3 {
        sender.ready().await.unwrap();
        let list = sender.send_request(request("GET", CONFIG_MAPS, None)).await;
        let list: Value = serde_json::from_str(&text(list.unwrap()).await).unwrap();
        assert_eq!(list["items"].as_array().unwrap().len(), 40);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_at_all_stops_nobody() {
    let server = Server::start().await;
    let client = server.http2(1 << 20).await;
    client.fill(40, 30_000).await;
    // Its connection is never polled again, so the kernel's buffers are full after a while, and what is gathered, too.
    let (mut sender, mut connection) = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(1 << 30)
        .initial_connection_window_size(1 << 30)
        .handshake::<_, Full<Bytes>>(server.tls(b"h2").await)
        .await
        .unwrap();
    let mut asked = Vec::new();
    for _ in 0..50 {
        asked.push(sender.send_request(request("GET", CONFIG_MAPS, None)));
    }
    let writing = tokio::time::timeout(Duration::from_millis(200), &mut connection);
    assert!(writing.await.is_err(), "the connection goes on");
    for number in 0..40 {
        let path = format!("{CONFIG_MAPS}/c-{number}");
        let one = client.json("GET", &path, None).await;
        assert_eq!(one["data"]["x"], format!("{number:03}").repeat(10_000));
    }
    // And when it reads again, it gets everything.
    tokio::spawn(connection);
    for answer in asked {
        let answer = tokio::time::timeout(PATIENCE, answer)
            .await
            .expect("in time");
        let list: Value = serde_json::from_str(&text(answer.unwrap()).await).unwrap();
        assert_eq!(list["items"].as_array().unwrap().len(), 40);
    }
}
