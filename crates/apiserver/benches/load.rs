//! What an API server gets done: objects created, read and listed a second, by 8 connections with 16 requests each.
//!
//! `scripts/bench-api` starts the servers and calls this with one argument for each: `NAME=URL,CA-FILE,TOKEN-FILE`. With two
//! servers the rounds alternate, so that both see the same machine, and the ratio is printed. `BENCH_SCALE=N` sends an N-th
//! of the requests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_precision_loss,
    missing_docs
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};

const CONNECTIONS: usize = 8;
const IN_FLIGHT: usize = 16;
const ROUNDS: usize = 5;
const PODS: &str = "/api/v1/namespaces/default/pods";
const CLASSES: &str = "/apis/node.k8s.io/v1/runtimeclasses";

type Https = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

struct Server {
    name: String,
    url: String,
    token: String,
    /// Each has a connection of its own, over which HTTP/2 carries the requests.
    clients: Vec<Https>,
}

impl Server {
    fn parse(argument: &str) -> Self {
        let (name, rest) = argument.split_once('=').expect("NAME=URL,CA,TOKEN");
        let [url, ca, token] = rest.split(',').collect::<Vec<_>>()[..] else {
            panic!("NAME=URL,CA-FILE,TOKEN-FILE, not {argument}");
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(ca).expect("the CA") {
            roots.add(certificate.unwrap()).unwrap();
        }
        let tls = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let clients = (0..CONNECTIONS).map(|_| {
            let connector = HttpsConnectorBuilder::new()
                .with_tls_config(tls.clone())
                .https_only()
                .enable_http2()
                .build();
            Client::builder(TokioExecutor::new())
                .http2_only(true)
                .build(connector)
        });
        Self {
            name: name.to_owned(),
            url: url.to_owned(),
            token: std::fs::read_to_string(token)
                .expect("the token")
                .trim()
                .to_owned(),
            clients: clients.collect(),
        }
    }

    async fn send(&self, client: &Https, method: &str, path: &str, body: String) -> usize {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        let response = client.request(request).await.expect("an answer");
        assert!(
            response.status().is_success(),
            "{method} {path}: {}",
            response.status()
        );
        response
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .len()
    }

    /// Sends `count` requests, as many at once as the connections carry; requests a second.
    async fn load(
        self: &Arc<Self>,
        count: usize,
        request: fn(usize) -> (&'static str, String, String),
    ) -> f64 {
        let next = Arc::new(AtomicUsize::new(0));
        let begun = Instant::now();
        let workers: Vec<_> = (0..CONNECTIONS * IN_FLIGHT)
            .map(|worker| {
                let (server, next) = (Arc::clone(self), Arc::clone(&next));
                tokio::spawn(async move {
                    let client = &server.clients[worker % CONNECTIONS];
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            return;
                        }
                        let (method, path, body) = request(number);
                        server.send(client, method, &path, body).await;
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.await.unwrap();
        }
        count as f64 / begun.elapsed().as_secs_f64()
    }

    async fn clear(&self) {
        for path in [PODS, CLASSES] {
            let body =
                json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0});
            self.send(&self.clients[0], "DELETE", path, body.to_string())
                .await;
        }
    }
}

fn pod(number: usize) -> Value {
    let environment: Vec<Value> = (0..6)
        .map(|at| json!({"name": format!("VARIABLE_{at}"), "value": format!("value-{at}")}))
        .collect();
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("pod-{number}"), "labels": {"app": "load", "number": number.to_string()}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "main", "image": "registry.example/app:1", "command": ["/app"],
            "env": environment, "ports": [{"containerPort": 8080}],
            "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}}}]}})
}

fn class(number: usize) -> Value {
    json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": format!("class-{number}")},
        "handler": "runc", "overhead": {"podFixed": {"memory": "16Mi"}}})
}

/// Name, requests a round, and the request with that number.
type Stage = (
    &'static str,
    usize,
    fn(usize) -> (&'static str, String, String),
);

const STAGES: [Stage; 4] = [
    ("Pods created a second", 3000, |n| {
        ("POST", PODS.to_owned(), pod(n).to_string())
    }),
    ("Pods read a second", 20_000, |n| {
        ("GET", format!("{PODS}/pod-{}", n % 100), String::new())
    }),
    ("lists of 500 Pods a second", 200, |_| {
        ("GET", format!("{PODS}?limit=500"), String::new())
    }),
    ("RuntimeClasses created a second", 3000, |n| {
        ("POST", CLASSES.to_owned(), class(n).to_string())
    }),
];

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::main]
async fn main() {
    let servers: Vec<Arc<Server>> = std::env::args()
        .skip(1)
        .filter(|argument| argument.contains('='))
        .map(|argument| Arc::new(Server::parse(&argument)))
        .collect();
    if servers.is_empty() {
        println!("load: needs a server; scripts/bench-api starts one");
        return;
    }
    let scale =
        std::env::var("BENCH_SCALE").map_or(1, |n| n.parse().expect("BENCH_SCALE: a number"));
    let mut seen = vec![vec![Vec::new(); servers.len()]; STAGES.len()];
    for _ in 0..ROUNDS {
        for (stage, (_, count, request)) in STAGES.iter().enumerate() {
            for (at, server) in servers.iter().enumerate() {
                seen[stage][at].push(server.load(count / scale, *request).await);
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        for server in &servers {
            server.clear().await;
        }
    }
    for ((name, ..), rates) in STAGES.iter().zip(seen) {
        let medians: Vec<f64> = rates.into_iter().map(median).collect();
        for (server, rate) in servers.iter().zip(&medians) {
            println!("{:<52} {rate:>9.0} /s", format!("{name}, {}", server.name));
        }
        if let [first, second, ..] = medians[..] {
            println!(
                "{:<52} {:>9.2} x",
                "  the first beside the second",
                first / second
            );
        }
    }
}
