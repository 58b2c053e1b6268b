//! Pods that a node may create, change and end: its own.

use serde_json::{Value, json};

use super::{NODES, mirror, node, patch, placed, register, start};
use crate::harness::{PODS, bind, pod};

#[tokio::test]
async fn a_node_creates_mirror_pods_of_its_own_only() {
    let api = start().await;
    let (n1, n2) = (register(&api, "n1").await, register(&api, "n2").await);
    let with = |pointer: &str, value: Value| {
        let mut body = mirror(&n1);
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap()[field] = value;
        body
    };
    let plain = {
        let mut body = pod("plain");
        body["spec"]["nodeName"] = json!("n1");
        body
    };
    let volume = |source: Value| {
        let mut volume = source;
        volume["name"] = json!("v");
        json!([volume])
    };
    for (what, body) in [
        ("no mirror", plain),
        ("unbound", pod("free")),
        ("of another node", mirror(&n2)),
        ("for another node", with("/spec/nodeName", json!("n2"))),
        (
            "without owner",
            with("/metadata/ownerReferences", json!([])),
        ),
        (
            "account",
            with("/spec/serviceAccountName", json!("default")),
        ),
        (
            "secret",
            with(
                "/spec/volumes",
                volume(json!({"secret": {"secretName": "s"}})),
            ),
        ),
        (
            "configmap",
            with("/spec/volumes", volume(json!({"configMap": {"name": "s"}}))),
        ),
        (
            "claim",
            with(
                "/spec/volumes",
                volume(json!({"persistentVolumeClaim": {"claimName": "s"}})),
            ),
        ),
        (
            "token",
            with(
                "/spec/volumes",
                volume(json!({"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}})),
            ),
        ),
        (
            "pull secret",
            with("/spec/imagePullSecrets", json!([{"name": "s"}])),
        ),
    ] {
        let answer = node(&api, "n1", "POST", PODS, Some(body)).await;
        assert_eq!(answer.code, 403, "{what}: {}", answer.text);
    }
    node(&api, "n1", "POST", PODS, Some(mirror(&n1)))
        .await
        .expect(201);
}

#[tokio::test]
async fn a_node_leaves_pods_of_others_alone() {
    let api = start().await;
    register(&api, "n1").await;
    register(&api, "n2").await;
    placed(&api, "other", "n2").await;
    api.post(PODS, pod("free")).await.expect(201);
    let mine = placed(&api, "mine", "n1").await;
    for name in ["other", "free"] {
        let path = format!("{PODS}/{name}");
        assert_eq!(node(&api, "n1", "GET", &path, None).await.code, 403);
        assert_eq!(node(&api, "n1", "DELETE", &path, None).await.code, 403);
        let status = json!({"status": {"phase": "Failed"}});
        assert_eq!(
            patch(&api, "n1", &format!("{path}/status"), status).await,
            403
        );
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "default"}});
        let evicted = node(
            &api,
            "n1",
            "POST",
            &format!("{path}/eviction"),
            Some(eviction),
        )
        .await;
        assert_eq!(evicted.code, 403, "{}", evicted.text);
        assert_eq!(
            api.get(&path).await.expect(200)["status"]["phase"],
            "Pending"
        );
    }
    for query in [
        "",
        "?fieldSelector=spec.nodeName=n2",
        "?fieldSelector=spec.nodeName!=n1",
        "?fieldSelector=spec.nodeName=n1&fieldSelector=spec.nodeName=n2",
        "?fieldSelector=status.phase=x\\,spec.nodeName=n1",
    ] {
        let answer = node(&api, "n1", "GET", &format!("/api/v1/pods{query}"), None).await;
        assert!(matches!(answer.code, 400 | 403), "{query}: {}", answer.code);
    }
    // its own pods it does not change but for their status
    let path = format!("{PODS}/mine");
    let labels = json!({"metadata": {"labels": {"app": "other"}}});
    assert_eq!(patch(&api, "n1", &path, labels.clone()).await, 403);
    assert_eq!(
        patch(&api, "n1", &format!("{path}/status"), labels).await,
        403
    );
    let finalizers = json!({"metadata": {"finalizers": ["example.com/stay"]}});
    assert_eq!(
        patch(&api, "n1", &format!("{path}/status"), finalizers).await,
        403
    );
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "mine", "namespace": "default"}});
    let evicted = node(
        &api,
        "n1",
        "POST",
        &format!("{path}/eviction"),
        Some(eviction),
    )
    .await;
    assert_eq!(evicted.code, 201, "{}: {mine}", evicted.text);
}

/// More rights by RBAC do not lift what admission forbids nodes.

#[tokio::test]
async fn a_node_that_an_administrator_trusts_with_more_is_still_a_node() {
    let api = start().await;
    register(&api, "n1").await;
    register(&api, "n2").await;
    bind(&api, "n1-admin", "cluster-admin", "system:node:n1").await;
    api.post(PODS, pod("free")).await.expect(201);
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "free"}, "target": {"kind": "Node", "name": "n1"}});
    let bound = node(
        &api,
        "n1",
        "POST",
        &format!("{PODS}/free/binding"),
        Some(binding),
    )
    .await;
    assert_eq!(bound.code, 403, "{}", bound.text);
    let deleted = node(&api, "n1", "DELETE", &format!("{NODES}/n2"), None).await;
    assert_eq!(deleted.code, 403, "{}", deleted.text);
    let labels =
        json!({"metadata": {"labels": {"node-restriction.kubernetes.io/tier": "trusted"}}});
    assert_eq!(patch(&api, "n1", &format!("{NODES}/n1"), labels).await, 403);
}
