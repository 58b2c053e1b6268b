//! A node's own server, of the test's making: it answers `/metrics/resource`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use berth_apiserver::Config;
use berth_apiserver::proxy::{LocalNode, NodeClientConfig};
use rcgen::{CertifiedIssuer, ExtendedKeyUsagePurpose, KeyPair};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::harness::{Api, PODS, names, pod};

pub(crate) const METRICS: &str = "/apis/metrics.k8s.io/v1beta1";
const NODES: &str = "/api/v1/nodes";

type Authority = CertifiedIssuer<'static, KeyPair>;

pub(crate) fn authority() -> Authority {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "berth-ca");
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// An API server that reaches these nodes, at loopback addresses.
pub(crate) async fn start(ca: &Authority, nodes: &[&str]) -> Api {
    let own = rcgen::generate_simple_self_signed(vec!["client".to_owned()]).unwrap();
    let local_nodes: BTreeMap<String, LocalNode> = nodes
        .iter()
        .map(|name| ((*name).to_owned(), LocalNode { issued: false }))
        .collect();
    Api::start_with(|config: &mut Config| {
        config.nodes = Some(NodeClientConfig {
            certificate: own.cert.pem().into_bytes(),
            key: own.signing_key.serialize_pem().into_bytes(),
            ca: None,
            issuer: Some(ca.pem().into_bytes()),
            local_nodes,
        });
    })
    .await
}

/// A node's server; each request is answered with what `answer` makes of its number. None: it never answers.
pub(crate) struct Kubelet {
    pub(crate) port: u16,
    requests: Arc<AtomicUsize>,
}

impl Kubelet {
    pub(crate) async fn start(
        ca: &Authority,
        name: &str,
        answer: impl Fn(usize) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, ca).unwrap();
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&requests);
        let answer = Arc::new(answer);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, answer) = (acceptor.clone(), Arc::clone(&answer));
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let mut head = [0; 4096];
                    let read = stream.read(&mut head).await.unwrap_or(0);
                    if read == 0 {
                        // The server does not take this one for the node.
                        return;
                    }
                    assert!(head[..read].starts_with(b"GET /metrics/resource "));
                    let number = count.fetch_add(1, Ordering::SeqCst);
                    let Some(text) = answer(number) else {
                        return std::future::pending().await;
                    };
                    let head = format!(
                        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                        text.len()
                    );
                    // The other side may have had enough of it.
                    let _ = stream.write_all(head.as_bytes()).await;
                    let _ = stream.write_all(text.as_bytes()).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        Self { port, requests }
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// A Node with its server at a port, and labels.
pub(crate) async fn node(api: &Api, name: &str, port: u16, labels: Value) {
    let body =
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}});
    api.post(NODES, body).await.expect(201);
    let status = json!({"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}});
    let path = format!("{NODES}/{name}/status");
    api.merge(&path, json!({"status": status}))
        .await
        .expect(200);
}

/// A pod on a node, with a container `c`.
pub(crate) async fn pod_on(api: &Api, name: &str, node: &str, labels: Value) {
    let mut body = pod(name);
    body["spec"]["nodeName"] = json!(node);
    body["metadata"]["labels"] = labels;
    api.post(PODS, body).await.expect(201);
}

/// What a node says after so many seconds, of itself and of a container of each pod: a core is busy for a quarter of the
/// time.
pub(crate) fn said(seconds: usize, pods: &[&str]) -> String {
    use std::fmt::Write;
    let begun = 1_700_000_000_000_u64;
    let at = begun + 1000 * u64::try_from(seconds).unwrap();
    let used = 100.0 + 0.25 * f64::from(u32::try_from(seconds).unwrap());
    let mut text = format!(
        "# TYPE node_cpu_usage_seconds_total counter\nnode_cpu_usage_seconds_total {used} {at}\n\
         node_memory_working_set_bytes 1.048576e+06 {at}\n"
    );
    for pod in pods {
        let of = format!("{{container=\"c\",namespace=\"default\",pod=\"{pod}\"}}");
        let _ = write!(
            text,
            "container_start_time_seconds{of} 1.6e+09\ncontainer_cpu_usage_seconds_total{of} {used} {at}\n\
             container_memory_working_set_bytes{of} 3145728 {at}\n"
        );
    }
    text
}

/// A list of a path, as soon as it has objects with these names: on a busy machine the first answer may come too early.
pub(crate) async fn list(api: &Api, path: &str, wanted: &[&str]) -> Value {
    let begun = Instant::now();
    loop {
        let list = api.get(path).await.expect(200);
        if names(&list) == wanted {
            return list;
        }
        assert!(begun.elapsed() < Duration::from_secs(90), "{list}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
