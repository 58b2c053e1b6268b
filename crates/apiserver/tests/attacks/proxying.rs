//! Requests that the API server is asked to send for somebody else.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use berth_apiserver::Config;
use berth_apiserver::authn::StaticToken;
use berth_apiserver::proxy::{LocalNode, NodeClientConfig};
use berth_apiserver::user::User;
use parking_lot::Mutex;
use rcgen::{CertifiedIssuer, ExtendedKeyUsagePurpose, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::harness::{Api, PATIENCE, PODS, TOKEN, bind, pod};

const NODES: &str = "/api/v1/nodes";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "berth-ca");
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A serving certificate for these names, with the CA after it, and its key.
fn serving(
    ca: &Authority,
    names: &[&str],
) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, ca).unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
    (vec![leaf.der().clone(), ca.der().clone()], key)
}

/// An API server that knows nodes; its own CA is `ca`.
async fn start(ca: &Authority, local: &[(&str, bool)], nodes_ca: Option<&Authority>) -> Api {
    start_with(ca, local, nodes_ca, |_| {}).await
}

async fn start_with(
    ca: &Authority,
    local: &[(&str, bool)],
    nodes_ca: Option<&Authority>,
    change: impl FnOnce(&mut Config),
) -> Api {
    let local_nodes: BTreeMap<String, LocalNode> = local
        .iter()
        .map(|(name, issued)| ((*name).to_owned(), LocalNode { issued: *issued }))
        .collect();
    let own = rcgen::generate_simple_self_signed(vec!["client".to_owned()]).unwrap();
    Api::start_with(|config| {
        config.nodes = Some(NodeClientConfig {
            certificate: own.cert.pem().into_bytes(),
            key: own.signing_key.serialize_pem().into_bytes(),
            ca: nodes_ca.map(|ca| ca.pem().into_bytes()),
            issuer: Some(ca.pem().into_bytes()),
            local_nodes,
        });
        change(config);
    })
    .await
}

/// Something behind the proxy that begins each answer with these bytes and then does nothing; it can be reached as a
/// port of the local node `n`, as others by the address of a pod.
async fn stalling(api: &Api, begins: &'static str, ends: bool) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(begins.as_bytes()).await;
            if !ends {
                open.push(stream);
            }
        }
    });
    node(api, "n", "InternalIP", "127.0.0.1", 1).await;
    port
}

/// Something on this machine that nobody is to reach; counts who did.
async fn service() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let reached = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&reached);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(ANSWER).await;
        }
    });
    (port, reached)
}

/// A node's server at a loopback address, whose certificate can be changed; counts the requests that it got.
struct Kubelet {
    port: u16,
    shown: Arc<Mutex<TlsAcceptor>>,
    requests: Arc<AtomicUsize>,
}

fn acceptor(identity: (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(identity.0, identity.1)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

impl Kubelet {
    async fn start(ca: &Authority, names: &[&str]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let kubelet = Self {
            port: listener.local_addr().unwrap().port(),
            shown: Arc::new(Mutex::new(acceptor(serving(ca, names)))),
            requests: Arc::default(),
        };
        let (shown, requests) = (Arc::clone(&kubelet.shown), Arc::clone(&kubelet.requests));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = shown.lock().clone();
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let mut head = [0; 4096];
                if matches!(stream.read(&mut head).await, Ok(n) if n > 0) {
                    requests.fetch_add(1, Ordering::SeqCst);
                    let _ = stream.write_all(ANSWER).await;
                    let _ = stream.shutdown().await;
                }
            }
        });
        kubelet
    }

    fn show(&self, ca: &Authority, names: &[&str]) {
        *self.shown.lock() = acceptor(serving(ca, names));
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// Makes a Node that says that it is at an address, as a compromised one can.
async fn node(api: &Api, name: &str, kind: &str, address: &str, port: u16) {
    let status = json!({"addresses": [{"type": kind, "address": address}], "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}});
    let body = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
    api.post(NODES, body).await.expect(201);
    let path = format!("{NODES}/{name}/status");
    api.merge(&path, json!({"status": status}))
        .await
        .expect(200);
}

async fn pod_at(api: &Api, name: &str, on: &str, address: Option<&str>) {
    let mut body = pod(name);
    body["spec"]["nodeName"] = json!(on);
    api.post(PODS, body).await.expect(201);
    if let Some(address) = address {
        let status = json!({"status": {"podIP": address, "podIPs": [{"ip": address}]}});
        let answer = api.merge(&format!("{PODS}/{name}/status"), status).await;
        // some are no addresses of pods at all
        assert!(matches!(answer.code, 200 | 422), "{}", answer.text);
    }
}

/// The API server's machine has an address besides loopback, unless it has no network.
fn own_address() -> Option<String> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_unspecified() && !ip.is_loopback()).then(|| ip.to_string())
}

#[tokio::test]
async fn a_pod_does_not_lead_the_server_to_itself() {
    let api = start(&authority(), &[("n", false)], None).await;
    let (port, reached) = service().await;
    let mut addresses: Vec<String> = [
        "127.0.0.1",
        "127.1.2.3",
        "0.0.0.0",
        "::1",
        "::ffff:127.0.0.1",
        "169.254.169.254",
        "fe80::1",
        "224.0.0.1",
    ]
    .map(ToString::to_string)
    .into();
    addresses.extend(own_address());
    for (n, address) in addresses.iter().enumerate() {
        let name = format!("p{n}");
        pod_at(&api, &name, "n", Some(address)).await;
        let answer = api.get(&format!("{PODS}/{name}:{port}/proxy/x")).await;
        assert_eq!(answer.code, 400, "{address}: {}", answer.text);
        assert!(
            answer.text.contains("address not allowed"),
            "{}",
            answer.text
        );
    }
    assert_eq!(reached.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_pod_with_its_nodes_network_is_not_its_node() {
    let api = start(&authority(), &[], None).await;
    node(&api, "n", "InternalIP", "192.0.2.7", 10250).await;
    pod_at(&api, "p", "n", Some("192.0.2.7")).await;
    let answer = api.get(&format!("{PODS}/p:10250/proxy/")).await;
    assert_eq!(answer.code, 400, "{}", answer.text);
    assert!(answer.text.contains("address of a node"), "{}", answer.text);
}

#[tokio::test]
async fn a_node_does_not_lead_the_server_to_itself() {
    let ca = authority();
    let api = start(&ca, &[], None).await;
    let (port, reached) = service().await;
    let kubelet = Kubelet::start(&ca, &["n0"]).await;
    for (n, (kind, address)) in [
        ("InternalIP", "127.0.0.1"),
        ("InternalIP", "::ffff:127.0.0.1"),
        ("ExternalIP", "0.0.0.0"),
        ("InternalIP", "169.254.169.254"),
        ("Hostname", "localhost"),
        ("InternalDNS", "localhost"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("n{n}");
        node(&api, &name, kind, address, kubelet.port).await;
        pod_at(&api, &format!("p{n}"), &name, None).await;
        for path in [
            format!("{NODES}/{name}/proxy/pods"),
            format!("{NODES}/{name}:{port}/proxy/"),
            format!("{PODS}/p{n}/log"),
        ] {
            let answer = api.get(&path).await;
            assert_eq!(answer.code, 400, "{address} {path}: {}", answer.text);
        }
        let exec = format!("{PODS}/p{n}/exec?command=sh");
        let answer = api.post(&exec, json!({})).await;
        assert_eq!(answer.code, 400, "{address}: {}", answer.text);
    }
    if let Some(own) = own_address() {
        node(&api, "own", "InternalIP", &own, kubelet.port).await;
        let answer = api.get(&format!("{NODES}/own:{port}/proxy/")).await;
        assert_eq!(answer.code, 400, "{}", answer.text);
    }
    assert_eq!(kubelet.requests(), 0);
    assert_eq!(reached.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_certificate_of_the_servers_ca_is_its_nodes_only() {
    let ca = authority();
    let api = start(&ca, &[("n", true)], None).await;
    let kubelet = Kubelet::start(&ca, &["n", "127.0.0.1"]).await;
    node(&api, "n", "InternalIP", "127.0.0.1", kubelet.port).await;
    let path = format!("{NODES}/n/proxy/pods");
    let get = async || {
        let answer = api.get(&path).await;
        (answer.code, answer.text)
    };
    assert_eq!(get().await, (200, "hi".to_owned()));
    // another node's, for the same address
    kubelet.show(&ca, &["m", "127.0.0.1"]);
    let (code, text) = get().await;
    assert_eq!(code, 500, "{text}");
    // one of a CA of its own that has the same name
    kubelet.show(&authority(), &["n", "127.0.0.1"]);
    let (code, text) = get().await;
    assert!(code == 500 && text.contains("was issued to it"), "{text}");
    assert_eq!(kubelet.requests(), 1, "nothing was sent to the others");
}

#[tokio::test]
async fn a_node_of_another_ca_shows_what_it_showed_first() {
    let (first, second) = (authority(), authority());
    let api = start(&authority(), &[("n", false)], None).await;
    let kubelet = Kubelet::start(&first, &["n"]).await;
    node(&api, "n", "InternalIP", "127.0.0.1", kubelet.port).await;
    let path = format!("{NODES}/n/proxy/pods");
    assert_eq!(api.get(&path).await.code, 200);
    // made anew by the node's own CA
    kubelet.show(&first, &["n"]);
    assert_eq!(api.get(&path).await.code, 200);
    kubelet.show(&second, &["n"]);
    let refused = api.get(&path).await;
    assert_eq!(refused.code, 500);
    assert!(
        refused.text.contains("shows another certificate"),
        "{}",
        refused.text
    );
    let logs = {
        pod_at(&api, "p", "n", None).await;
        api.get(&format!("{PODS}/p/log")).await
    };
    assert_eq!(logs.code, 500, "{}", logs.text);
    assert_eq!(kubelet.requests(), 2);
    // the machine was set up anew, and an administrator says so
    api.delete(&format!("{NODES}/n")).await.expect(200);
    node(&api, "n", "InternalIP", "127.0.0.1", kubelet.port).await;
    assert_eq!(api.get(&path).await.code, 200);
    kubelet.show(&first, &["n"]);
    assert_eq!(api.get(&path).await.code, 500);
}

#[tokio::test]
async fn a_configured_ca_is_the_only_one() {
    let (own, nodes) = (authority(), authority());
    let api = start(&own, &[("n", false)], Some(&nodes)).await;
    let kubelet = Kubelet::start(&nodes, &["n", "127.0.0.1"]).await;
    node(&api, "n", "InternalIP", "127.0.0.1", kubelet.port).await;
    let path = format!("{NODES}/n/proxy/pods");
    assert_eq!(api.get(&path).await.code, 200);
    for (ca, names) in [(&own, ["n", "127.0.0.1"]), (&nodes, ["n", "192.0.2.1"])] {
        kubelet.show(ca, &names);
        assert_eq!(api.get(&path).await.code, 500, "{names:?}");
    }
    assert_eq!(kubelet.requests(), 1);
}

#[tokio::test]
async fn what_is_not_built_is_not_found() {
    let api = start(&authority(), &[], None).await;
    for path in ["/api/v1/nodes/n/stats", "/api/v1/nodes/n/metrics"] {
        let answer = api.get(path).await;
        let status: Value = answer.expect(404);
        assert_eq!(status["kind"], "Status", "{path}");
    }
    let absent = api.get(&format!("{NODES}/absent/proxy/pods")).await;
    assert_eq!(absent.expect(404)["reason"], "NotFound");
}

/// A request through the proxy on a connection of its own, whose answer may never come.
async fn through_proxy(api: &Api, token: &str, path: &str, headers: &str) -> TcpStream {
    let mut stream = TcpStream::connect(api.address).await.unwrap();
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: berth\r\nAuthorization: Bearer {token}\r\n{headers}\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

/// What comes on a connection until it has this in it, or ends.
async fn until(stream: &mut TcpStream, wanted: &str) -> String {
    let mut text = Vec::new();
    let reading = async {
        let mut part = [0; 4096];
        while !String::from_utf8_lossy(&text).contains(wanted) {
            match stream.read(&mut part).await {
                Ok(n) if n > 0 => text.extend_from_slice(&part[..n]),
                Ok(_) | Err(_) => return,
            }
        }
    };
    let read = tokio::time::timeout(PATIENCE, reading).await;
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(read.is_ok(), "{wanted:?} does not come: {text}");
    text
}

/// The server would need the memory for a whole answer, which a pod may make as long as it likes.
#[tokio::test]
async fn an_answer_is_passed_on_as_it_comes_whatever_is_asked_for() {
    const BEGINS: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000000000\r\n\r\n[\"begins\"";
    let api = start(&authority(), &[("n", false)], None).await;
    let port = stalling(&api, BEGINS, false).await;
    for (query, headers) in [
        ("", ""),
        ("", "Accept-Encoding: gzip\r\n"),
        ("?pretty=true", ""),
        ("", "User-Agent: curl/8\r\n"),
    ] {
        let path = format!("{NODES}/n:{port}/proxy/{query}");
        let mut stream = through_proxy(&api, TOKEN, &path, headers).await;
        let text = until(&mut stream, "begins").await;
        assert!(
            text.contains("ontent-length: 100000000000")
                || text.contains("ontent-Length: 100000000000"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_an_empty_one() {
    const BEGINS: &str =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n[1,";
    let api = start(&authority(), &[("n", false)], None).await;
    let port = stalling(&api, BEGINS, true).await;
    let path = format!("{NODES}/n:{port}/proxy/?pretty=true");
    let mut stream = through_proxy(&api, TOKEN, &path, "").await;
    let text = until(&mut stream, "never said").await;
    // It ends before it is whole, and the client knows.
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(
        head.to_lowercase().contains("content-length: 1000"),
        "{head}"
    );
    assert_eq!(body, "[1,");
}

/// mallory may proxy to nodes, jane may nothing.
fn users(config: &mut Config) {
    for name in ["mallory", "jane"] {
        config.authn.static_tokens.push(StaticToken {
            token: name.to_owned(),
            user: User {
                name: name.to_owned(),
                ..User::default()
            },
        });
    }
}

async fn may_proxy(api: &Api) {
    let rules =
        json!([{"apiGroups": [""], "resources": ["nodes/proxy"], "verbs": ["get", "create"]}]);
    let role = json!({"metadata": {"name": "proxying"}, "rules": rules});
    api.post("/apis/rbac.authorization.k8s.io/v1/clusterroles", role)
        .await
        .expect(201);
    bind(api, "proxying", "proxying", "mallory").await;
}

#[tokio::test]
async fn an_upgraded_connection_keeps_its_place() {
    const BEGINS: &str =
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let few = |config: &mut Config| {
        users(config);
        config.limits.max_watches_per_user = 2;
    };
    let api = start_with(&authority(), &[("n", false)], None, few).await;
    may_proxy(&api).await;
    let port = stalling(&api, BEGINS, false).await;
    let path = format!("{NODES}/n:{port}/proxy/");
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let mut open = Vec::new();
    for code in ["101", "101", "429", "429"] {
        let mut stream = through_proxy(&api, "mallory", &path, upgrade).await;
        let text = until(&mut stream, "\r\n\r\n").await;
        assert_eq!(text.split(' ').nth(1), Some(code), "{text}");
        open.push(stream);
    }
    // The place is free again when the connection is gone.
    drop(open);
    let begun = std::time::Instant::now();
    loop {
        let mut stream = through_proxy(&api, "mallory", &path, upgrade).await;
        let text = until(&mut stream, "\r\n\r\n").await;
        if text.split(' ').nth(1) == Some("101") {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{text}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// Whoever has a pod decides when it answers: it must not keep the requests of others waiting.
#[tokio::test]
async fn who_waits_for_a_pod_keeps_no_seat() {
    let one_seat = |config: &mut Config| {
        users(config);
        // One seat at each level.
        config.limits.max_requests_inflight = 1;
        config.limits.max_mutating_requests_inflight = 0;
    };
    let api = start_with(&authority(), &[("n", false)], None, one_seat).await;
    may_proxy(&api).await;
    let port = stalling(&api, "", false).await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let path = format!("{NODES}/n:{port}/proxy/");
        waiting.push(through_proxy(&api, "mallory", &path, "").await);
    }
    let headers = [("authorization", "Bearer jane")];
    let asked = api.raw_without_credentials("GET", "/version", &headers, "");
    let answer = tokio::time::timeout(std::time::Duration::from_secs(5), asked).await;
    assert_eq!(answer.expect("jane is answered").code, 200);
}
