//! A server that is measured, and requests to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

const CONNECTIONS: usize = 8;
const IN_FLIGHT: usize = 16;

pub(crate) type Https = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Method, path and body.
pub(crate) type Sent = (&'static str, String, String);

pub(crate) struct Server {
    pub(crate) name: String,
    url: String,
    token: String,
    tls: ClientConfig,
    /// Each has a connection of its own, over which HTTP/2 carries the requests.
    clients: Vec<Https>,
}

impl Server {
    pub(crate) fn parse(argument: &str) -> Self {
        let (name, rest) = argument.split_once('=').expect("NAME=URL,CA,TOKEN");
        let [url, ca, token] = rest.split(',').collect::<Vec<_>>()[..] else {
            panic!("NAME=URL,CA-FILE,TOKEN-FILE, not {argument}");
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca).expect("the CA") {
            roots.add(certificate.unwrap()).unwrap();
        }
        let tls = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self {
            name: name.to_owned(),
            url: url.to_owned(),
            token: std::fs::read_to_string(token)
                .expect("the token")
                .trim()
                .to_owned(),
            clients: (0..CONNECTIONS).map(|_| connection(&tls)).collect(),
            tls,
        }
    }

    /// A connection of its own.
    pub(crate) fn connection(&self) -> Https {
        connection(&self.tls)
    }

    /// Sends a request; the answer's body is still to be read.
    pub(crate) async fn open(
        &self,
        client: &Https,
        (method, path, body): Sent,
    ) -> http::Response<Incoming> {
        let kind = if method == "PATCH" {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", kind)
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let response = client.request(request).await.expect("an answer");
        assert!(
            response.status().is_success(),
            "{method} {path}: {}",
            response.status()
        );
        response
    }

    /// Sends a request over any connection and reads the answer.
    pub(crate) async fn send(&self, number: usize, sent: Sent) -> Bytes {
        let client = &self.clients[number % CONNECTIONS];
        let response = self.open(client, sent).await;
        response.into_body().collect().await.unwrap().to_bytes()
    }

    /// Sends `count` requests, as many at once as the connections carry; requests a second.
    pub(crate) async fn load(self: &Arc<Self>, count: usize, request: fn(usize) -> Sent) -> f64 {
        self.load_from(0, count, request).await
    }

    /// [`Server::load`] of the requests from `first` on.
    pub(crate) async fn load_from(
        self: &Arc<Self>,
        first: usize,
        count: usize,
        request: fn(usize) -> Sent,
    ) -> f64 {
        let next = Arc::new(AtomicUsize::new(first));
        let begun = Instant::now();
        let workers: Vec<_> = (0..CONNECTIONS * IN_FLIGHT)
            .map(|worker| {
                let (server, next) = (Arc::clone(self), Arc::clone(&next));
                tokio::spawn(async move {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= first + count {
                            return;
                        }
                        server.send(worker, request(number)).await;
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.await.unwrap();
        }
        count as f64 / begun.elapsed().as_secs_f64()
    }
}

fn connection(tls: &ClientConfig) -> Https {
    // As Go's clients do: a request's body does not wait until the server has acknowledged its head, which takes 40 ms.
    let mut tcp = HttpConnector::new();
    tcp.set_nodelay(true);
    tcp.enforce_http(false);
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls.clone())
        .https_only()
        .enable_http2()
        .wrap_connector(tcp);
    Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build(connector)
}
