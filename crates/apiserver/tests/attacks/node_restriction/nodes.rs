//! What draws pods to a node, and its Lease and CSINode.

use serde_json::json;

use super::{CSI_NODES, LEASES, NODES, node, patch, register, start};

#[tokio::test]
async fn a_node_steers_no_pods_to_itself() {
    let api = start().await;
    register(&api, "n1").await;
    register(&api, "n2").await;
    let own = format!("{NODES}/n1");
    api.merge(&own, json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}, "metadata": {"labels": {"node-role.kubernetes.io/worker": ""}}}))
        .await
        .expect(200);
    for (path, body) in [
        (
            own.clone(),
            json!({"metadata": {"labels": {"node-restriction.kubernetes.io/tier": "trusted"}}}),
        ),
        (
            own.clone(),
            json!({"metadata": {"labels": {"x.node-restriction.kubernetes.io/tier": "trusted"}}}),
        ),
        (
            own.clone(),
            json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}}),
        ),
        (
            own.clone(),
            json!({"metadata": {"labels": {"node-role.kubernetes.io/worker": null}}}),
        ),
        (
            own.clone(),
            json!({"metadata": {"labels": {"x.k8s.io/y": ""}}}),
        ),
        (own.clone(), json!({"spec": {"taints": null}})),
        (own.clone(), json!({"spec": {"taints": []}})),
        (
            own.clone(),
            json!({"metadata": {"finalizers": ["example.com/stay"]}}),
        ),
        (
            own.clone(),
            json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n2", "uid": "u"}]}}),
        ),
        (
            format!("{own}/status"),
            json!({"metadata": {"labels": {"node-restriction.kubernetes.io/tier": "trusted"}}}),
        ),
        (
            format!("{NODES}/n2"),
            json!({"metadata": {"annotations": {"a": "b"}}}),
        ),
        (
            format!("{NODES}/n2/status"),
            json!({"status": {"capacity": {"pods": "0"}}}),
        ),
    ] {
        assert_eq!(
            patch(&api, "n1", &path, body.clone()).await,
            403,
            "{path} {body}"
        );
    }
    for path in [own.clone(), format!("{NODES}/n2")] {
        assert_eq!(node(&api, "n1", "DELETE", &path, None).await.code, 403);
    }
    for path in [NODES, "/api/v1/nodes/n2"] {
        assert_eq!(node(&api, "n1", "GET", path, None).await.code, 403);
    }
    for (name, labels) in [
        (
            "n3",
            json!({"node-restriction.kubernetes.io/tier": "trusted"}),
        ),
        ("other", json!({})),
    ] {
        let body = json!({"metadata": {"name": name, "labels": labels}});
        assert_eq!(node(&api, "n3", "POST", NODES, Some(body)).await.code, 403);
    }
}

#[tokio::test]
async fn a_node_has_one_lease_and_one_csi_node() {
    let api = start().await;
    let lease = |name: &str| json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": {}});
    let elsewhere = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
    for (path, body) in [
        (LEASES, lease("n2")),
        (elsewhere, lease("n1")),
        (
            CSI_NODES,
            json!({"metadata": {"name": "n2"}, "spec": {"drivers": []}}),
        ),
    ] {
        assert_eq!(
            node(&api, "n1", "POST", path, Some(body)).await.code,
            403,
            "{path}"
        );
    }
    api.post(LEASES, lease("n2")).await.expect(201);
    let renewed = json!({"spec": {"holderIdentity": "n1"}});
    assert_eq!(
        patch(&api, "n1", &format!("{LEASES}/n2"), renewed).await,
        403
    );
    assert_eq!(node(&api, "n1", "GET", LEASES, None).await.code, 403);
}
