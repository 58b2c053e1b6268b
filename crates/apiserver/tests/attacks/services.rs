//! Services: what their authors take from others, and where they lead the server.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use berth_apiserver::ServiceSettings;
use berth_apiserver::proxy::NodeClientConfig;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::harness::{Answer, Api, PODS, as_user, bind, pod};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";

fn service(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}

/// A server that would connect to pods.
async fn connecting() -> Api {
    let own = rcgen::generate_simple_self_signed(vec!["client".to_owned()]).unwrap();
    Api::start_with(|config| {
        config.nodes = Some(NodeClientConfig {
            certificate: own.cert.pem().into_bytes(),
            key: own.signing_key.serialize_pem().into_bytes(),
            ca: None,
            issuer: None,
            local_nodes: BTreeMap::new(),
        });
    })
    .await
}

/// Something on this machine that nobody is to reach.
async fn secret_server() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let reached = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&reached);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .await;
        }
    });
    (port, reached)
}

async fn pod_at(api: &Api, namespace: &str, name: &str, address: &str) {
    let pods = PODS.replace("/default/", &format!("/{namespace}/"));
    api.post(&pods, pod(name)).await.expect(201);
    let status = json!({"status": {"podIP": address, "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": "True"}]}});
    let answer = api.merge(&format!("{pods}/{name}/status"), status).await;
    assert_eq!(answer.code, 200, "{}", answer.text);
}

fn slice(name: &str, address: &str, port: u16, target: Value) -> Value {
    let mut endpoint = json!({"addresses": [address]});
    if !target.is_null() {
        endpoint["targetRef"] = target;
    }
    json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4", "endpoints": [endpoint], "ports": [{"port": port}],
    })
}

#[tokio::test]
async fn endpoints_that_somebody_writes_lead_to_no_other_place_than_pods() {
    let api = connecting().await;
    let (port, reached) = secret_server().await;
    pod_at(&api, "default", "own", "10.1.2.3").await;
    pod_at(&api, "kube-system", "other", "10.1.2.4").await;
    let target =
        |namespace: &str, name: &str| json!({"kind": "Pod", "namespace": namespace, "name": name});
    for (n, (address, target)) in [
        ("10.1.2.4", Value::Null),
        ("10.1.2.4", target("kube-system", "other")),
        ("10.1.2.4", target("default", "own")),
        ("10.1.2.4", target("default", "absent")),
        ("10.1.2.3", json!({"kind": "Node", "name": "own"})),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("s{n}");
        api.post(SERVICES, service(&name, json!({"ports": [{"port": 80}]})))
            .await
            .expect(201);
        api.post(SLICES, slice(&name, address, port, target.clone()))
            .await
            .expect(201);
        let answer = api.get(&format!("{SERVICES}/{name}/proxy/")).await;
        assert_eq!(answer.code, 503, "{target}: {}", answer.text);
        assert!(
            answer.text.contains("no endpoints available"),
            "{}",
            answer.text
        );
    }
    assert_eq!(reached.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_service_does_not_lead_the_server_to_itself() {
    let api = connecting().await;
    let (port, reached) = secret_server().await;
    for (n, address) in [
        "127.0.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "::1",
        "::ffff:127.0.0.1",
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("p{n}");
        let mut labelled = pod(&name);
        labelled["metadata"]["labels"] = json!({"app": name});
        api.post(PODS, labelled).await.expect(201);
        let status = json!({"status": {"podIP": address, "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True"}]}});
        // Some are no addresses of pods at all.
        let written = api.merge(&format!("{PODS}/{name}/status"), status).await;
        assert!(matches!(written.code, 200 | 422), "{}", written.text);
        let ports = json!([{"port": port}]);
        let spec = json!({"selector": {"app": name}, "ports": ports});
        api.post(SERVICES, service(&name, spec)).await.expect(201);
        for path in [
            format!("{name}/proxy/"),
            format!("https:{name}:{port}/proxy/x"),
        ] {
            let answer = api.get(&format!("{SERVICES}/{path}")).await;
            assert!(
                matches!(answer.code, 400 | 503),
                "{address}: {}",
                answer.text
            );
        }
    }
    let ports = json!([{"port": port}]);
    let name = json!({"type": "ExternalName", "externalName": "localhost", "ports": ports});
    api.post(SERVICES, service("name", name)).await.expect(201);
    let answer = api.get(&format!("{SERVICES}/name:{port}/proxy/")).await;
    assert_eq!(answer.code, 503, "{}", answer.text);
    for odd in ["ftp:name:80", "a:b:c:d", "absent", "name:99"] {
        let answer = api.get(&format!("{SERVICES}/{odd}/proxy/")).await;
        assert!(
            matches!(answer.code, 400 | 404 | 503),
            "{odd}: {}",
            answer.text
        );
    }
    assert_eq!(reached.load(Ordering::SeqCst), 0);
}

/// As a user who may do everything with Services of his namespace, and nothing else.
async fn as_author(api: &Api, method: &str, path: &str, body: Value) -> Answer {
    as_user(api, "author", &[], method, path, Some(body)).await
}

#[tokio::test]
async fn nobody_takes_the_address_or_port_of_another() {
    let api = Api::start_with(|config| {
        config.services = ServiceSettings::parse("10.0.0.0/24", "100-200").unwrap();
    })
    .await;
    bind(&api, "author", "edit", "author").await;
    let victims = SERVICES.replace("/default/", "/kube-system/");
    let ports = json!([{"port": 53, "nodePort": 153}]);
    let spec = json!({"type": "NodePort", "clusterIP": "10.0.0.10", "ports": ports});
    api.post(&victims, service("dns", spec)).await.expect(201);
    let plain = json!([{"port": 53}]);
    let named = json!([{"port": 53, "nodePort": 153}]);
    for (ip, kind, ports) in [
        ("10.0.0.10", "ClusterIP", &plain),
        ("10.0.0.1", "ClusterIP", &plain),
        ("10.0.0.10", "ExternalName", &plain),
        ("10.0.0.20", "NodePort", &named),
    ] {
        let mut spec = json!({"type": kind, "clusterIP": ip, "ports": ports});
        if kind == "ExternalName" {
            spec["externalName"] = json!("a.example");
        }
        let answer = as_author(&api, "POST", SERVICES, service("thief", spec)).await;
        assert_eq!(answer.code, 422, "{ip} {kind}: {}", answer.text);
    }
    // Nor by a change of what is his, nor by giving back what isn't.
    let own = service("own", json!({"ports": plain}));
    as_author(&api, "POST", SERVICES, own).await.expect(201);
    let path = format!("{SERVICES}/own");
    let mut current = as_author(&api, "GET", &path, json!({})).await.expect(200);
    current["spec"]["clusterIP"] = json!("10.0.0.10");
    current["spec"]["clusterIPs"] = json!(["10.0.0.10"]);
    as_author(&api, "PUT", &path, current.clone())
        .await
        .expect(422);
    current["spec"]["type"] = json!("ExternalName");
    current["spec"]["externalName"] = json!("a.example");
    as_author(&api, "PUT", &path, current).await.expect(422);
    let mut current = as_author(&api, "GET", &path, json!({})).await.expect(200);
    current["spec"]["type"] = json!("NodePort");
    current["spec"]["ports"] = named;
    as_author(&api, "PUT", &path, current).await.expect(422);
    as_author(&api, "DELETE", &path, json!({}))
        .await
        .expect(200);
    let held = api.get(&format!("{ADDRESSES}/10.0.0.10")).await.expect(200);
    assert_eq!(held["spec"]["parentRef"]["name"], "dns");
    let answer = api
        .delete(&format!("{ADDRESSES}/10.0.0.1?dryRun=All"))
        .await;
    assert_eq!(answer.code, 200);
    let refused = as_author(&api, "DELETE", &format!("{ADDRESSES}/10.0.0.10"), json!({})).await;
    assert_eq!(refused.code, 403, "{}", refused.text);
}

#[tokio::test]
async fn a_service_with_very_many_ports_costs_little() {
    let api = Api::start().await;
    let ports: Vec<Value> = (1..20_000)
        .map(|n| json!({"name": format!("p{n}"), "port": n}))
        .collect();
    let spec = json!({"type": "NodePort", "ports": ports});
    let begun = Instant::now();
    let answer = api.post(SERVICES, service("many", spec)).await;
    assert_eq!(answer.code, 500, "{}", answer.text);
    assert!(answer.text.contains("range is full"), "{}", answer.text);
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
    // Nothing was taken.
    let spec = json!({"type": "NodePort", "ports": [{"port": 1}]});
    api.post(SERVICES, service("one", spec)).await.expect(201);
}
