//! A node's credentials in the wrong hands.

mod nodes;
mod pods;
mod tokens;

use berth_apiserver::tokens::TokenConfig;
use serde_json::{Value, json};

use crate::harness::{Answer, Api, CLASSES, PODS, RBAC, as_user, pod};

const AUTHENTICATED: &str = "system:authenticated";
const NODES: &str = "/api/v1/nodes";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
const CSI_NODES: &str = "/apis/storage.k8s.io/v1/csinodes";
const TOKEN: &str = "/api/v1/namespaces/default/serviceaccounts/default/token";

async fn start() -> Api {
    Api::start_with(|config| {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        config.tokens = Some(TokenConfig {
            issuer: "https://issuer".to_owned(),
            audiences: vec!["api".to_owned()],
            key: key.serialize_pem().into_bytes(),
            max_expiration_seconds: None,
        });
    })
    .await
}

async fn node(api: &Api, name: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
    let user = format!("system:node:{name}");
    let groups = ["system:nodes", AUTHENTICATED];
    as_user(api, &user, &groups, method, path, body).await
}

async fn patch(api: &Api, name: &str, path: &str, body: Value) -> u16 {
    let user = format!("system:node:{name}");
    let headers = [
        ("impersonate-user", user.as_str()),
        ("impersonate-group", "system:nodes"),
        ("impersonate-group", AUTHENTICATED),
        ("content-type", "application/merge-patch+json"),
    ];
    api.raw("PATCH", path, &headers, body.to_string())
        .await
        .code
}

/// Registers a node as itself, with the labels that a kubelet sets.
async fn register(api: &Api, name: &str) -> Value {
    let body = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {
        "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "amd64", "example.com/rack": "1"}}});
    node(api, name, "POST", NODES, Some(body)).await.expect(201)
}

/// A pod of an administrator on a node.
async fn placed(api: &Api, name: &str, on: &str) -> Value {
    let mut body = pod(name);
    body["spec"]["nodeName"] = json!(on);
    api.post(PODS, body).await.expect(201)
}

fn mirror(node: &Value) -> Value {
    let name = &node["metadata"]["name"];
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "mirror", "annotations": {"kubernetes.io/config.mirror": "hash"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": name, "uid": node["metadata"]["uid"], "controller": true}]},
        "spec": {"nodeName": name, "containers": [{"name": "c", "image": "busybox"}]}})
}

#[tokio::test]
async fn the_group_alone_gives_nothing() {
    let api = start().await;
    register(&api, "n1").await;
    placed(&api, "p", "n1").await;
    let groups = ["system:nodes", AUTHENTICATED];
    for user in ["mallory", "system:node:", "system:nodes:n1"] {
        for path in [
            NODES,
            "/api/v1/nodes/n1",
            PODS,
            CLASSES,
            &format!("{PODS}/p"),
        ] {
            let answer = as_user(&api, user, &groups, "GET", path, None).await;
            assert_eq!(answer.code, 403, "{user} {path}");
        }
        let lease = json!({"metadata": {"name": "n1"}});
        let answer = as_user(&api, user, &groups, "POST", LEASES, Some(lease)).await;
        assert_eq!(answer.code, 403, "{user}");
    }
    let binding = format!("{RBAC}/clusterrolebindings/system:node");
    let binding = api.get(&binding).await.expect(200);
    assert!(binding["subjects"].is_null(), "{binding}");
}

#[tokio::test]
async fn a_node_does_its_own_work() {
    let api = start().await;
    register(&api, "n1").await;
    let mine = placed(&api, "p", "n1").await;
    let own = format!("{NODES}/n1");
    assert_eq!(node(&api, "n1", "GET", &own, None).await.code, 200);
    let annotation = json!({"metadata": {"annotations": {"node.berth.dev/x": "y"}}});
    assert_eq!(patch(&api, "n1", &own, annotation).await, 200);
    let status = json!({"status": {"phase": "Running"}, "metadata": {"annotations": {"node.berth.dev/runtime": "runc"}}});
    let path = format!("{PODS}/p/status");
    assert_eq!(patch(&api, "n1", &path, status).await, 200);
    let ready = json!({"status": {"capacity": {"pods": "110"}}});
    assert_eq!(
        patch(&api, "n1", &format!("{own}/status"), ready).await,
        200
    );
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "n1"}, "spec": {"holderIdentity": "n1"}});
    node(&api, "n1", "POST", LEASES, Some(lease))
        .await
        .expect(201);
    let renewed = json!({"spec": {"leaseDurationSeconds": 40}});
    assert_eq!(
        patch(&api, "n1", &format!("{LEASES}/n1"), renewed).await,
        200
    );
    let csi = json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "metadata": {"name": "n1"}, "spec": {"drivers": []}});
    node(&api, "n1", "POST", CSI_NODES, Some(csi))
        .await
        .expect(201);
    for query in [
        "fieldSelector=spec.nodeName=n1",
        "fieldSelector=metadata.namespace=default,spec.nodeName=n1",
    ] {
        let list = format!("/api/v1/pods?{query}");
        assert_eq!(
            node(&api, "n1", "GET", &list, None).await.code,
            200,
            "{query}"
        );
    }
    assert_eq!(node(&api, "n1", "GET", CLASSES, None).await.code, 200);
    let volumes = mine["spec"]["volumes"][0]["projected"]["sources"].clone();
    let seconds = &volumes[0]["serviceAccountToken"]["expirationSeconds"];
    let token = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": [], "expirationSeconds": seconds,
        "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": mine["metadata"]["uid"]}}});
    node(&api, "n1", "POST", TOKEN, Some(token))
        .await
        .expect(201);
    let gone = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0});
    let path = format!("{PODS}/p");
    assert_eq!(
        node(&api, "n1", "DELETE", &path, Some(gone)).await.code,
        200
    );
}
