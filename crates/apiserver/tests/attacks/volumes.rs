//! Volumes that are directories of a node: a node reads its own, nobody but administrators writes any.

use serde_json::{Value, json};

use crate::harness::{Answer, Api, RBAC, as_user};

const VOLUMES: &str = "/api/v1/persistentvolumes";
const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";

async fn node(api: &Api, name: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
    let user = format!("system:node:{name}");
    let groups = ["system:nodes", "system:authenticated"];
    as_user(api, &user, &groups, method, path, body).await
}

/// A merge patch by a user with a group.
async fn patch(api: &Api, user: &str, group: &str, path: &str, body: &Value) -> Answer {
    let headers = [
        ("impersonate-user", user),
        ("impersonate-group", group),
        ("impersonate-group", "system:authenticated"),
        ("content-type", "application/merge-patch+json"),
    ];
    api.raw("PATCH", path, &headers, body.to_string()).await
}

fn volume(name: &str, provisioner: &str, node: &str) -> Value {
    json!({"metadata": {"name": name, "finalizers": ["node.berth.dev/local-path"],
        "annotations": {"pv.kubernetes.io/provisioned-by": provisioner, "node.berth.dev/local-path-node": node}},
        "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/data"},
        "persistentVolumeReclaimPolicy": "Delete"}})
}

fn claim(name: &str, more: &Value) -> Value {
    let mut spec =
        json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let more = more.as_object().cloned().unwrap_or_default();
    spec.as_object_mut().unwrap().extend(more);
    json!({"metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn a_node_reads_its_own_directories_and_writes_none() {
    let api = Api::start().await;
    let ours = "berth.dev/local-path";
    for (name, provisioner, on) in [
        ("mine", ours, "a"),
        ("theirs", ours, "b"),
        ("foreign", "x.example/y", "a"),
    ] {
        api.post(VOLUMES, volume(name, provisioner, on))
            .await
            .expect(201);
    }
    api.post(CLAIMS, claim("c", &json!({}))).await.expect(201);
    for (name, code) in [
        ("mine", 200),
        ("theirs", 403),
        ("foreign", 403),
        ("none", 403),
    ] {
        let answer = node(&api, "a", "GET", &format!("{VOLUMES}/{name}"), None).await;
        assert_eq!(answer.code, code, "{name}: {}", answer.text);
    }
    assert_eq!(node(&api, "a", "GET", VOLUMES, None).await.code, 403);
    assert_eq!(node(&api, "a", "GET", CLAIMS, None).await.code, 403);
    let made = volume("new", ours, "a");
    assert_eq!(node(&api, "a", "POST", VOLUMES, Some(made)).await.code, 403);
    let no_finalizer = json!({"metadata": {"finalizers": null}});
    let moved = json!({"metadata": {"annotations": {"node.berth.dev/local-path-node": "a"}}});
    let released = json!({"status": {"phase": "Released"}});
    for name in ["mine", "theirs"] {
        let path = format!("{VOLUMES}/{name}");
        assert_eq!(
            node(&api, "a", "DELETE", &path, None).await.code,
            403,
            "{name}"
        );
        for (path, body) in [
            (path.clone(), &no_finalizer),
            (path.clone(), &moved),
            (format!("{path}/status"), &released),
        ] {
            let answer = patch(&api, "system:node:a", "system:nodes", &path, body).await;
            assert_eq!(answer.code, 403, "{path} {body}: {}", answer.text);
        }
    }
    let selected =
        json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "a"}}});
    let answer = patch(
        &api,
        "system:node:a",
        "system:nodes",
        &format!("{CLAIMS}/c"),
        &selected,
    )
    .await;
    assert_eq!(answer.code, 403, "{}", answer.text);
}

#[tokio::test]
async fn who_edits_a_namespace_has_claims_and_no_say_over_volumes() {
    let api = Api::start().await;
    let binding = json!({"metadata": {"name": "mallory"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "mallory"}]});
    api.post(&format!("{RBAC}/namespaces/default/rolebindings"), binding)
        .await
        .expect(201);
    let theirs = volume("theirs", "berth.dev/local-path", "a");
    api.post(VOLUMES, theirs.clone()).await.expect(201);
    let path = format!("{VOLUMES}/theirs");
    let as_mallory = async |method: &str, path: &str, body: Option<Value>| {
        as_user(&api, "mallory", &[], method, path, body).await.code
    };
    assert_eq!(as_mallory("GET", &path, None).await, 403);
    assert_eq!(as_mallory("GET", VOLUMES, None).await, 403);
    assert_eq!(as_mallory("POST", VOLUMES, Some(theirs)).await, 403);
    assert_eq!(as_mallory("DELETE", &path, None).await, 403);
    let mine = json!({"spec": {"claimRef": {"namespace": "default", "name": "greedy"}}});
    assert_eq!(patch(&api, "mallory", "x", &path, &mine).await.code, 403);
    // A claim may name it, which is nothing by itself; it is no claim that is bound, and only the controller says that one is.
    let greedy = claim("greedy", &json!({"volumeName": "theirs"}));
    assert_eq!(as_mallory("POST", CLAIMS, Some(greedy)).await, 201);
    let bound = json!({"status": {"phase": "Bound"}});
    let at = format!("{CLAIMS}/greedy");
    let answer = patch(&api, "mallory", "x", &format!("{at}/status"), &bound).await;
    assert_eq!(answer.code, 403, "{}", answer.text);
    // With the claim itself a status does not come along.
    patch(&api, "mallory", "x", &at, &bound).await.expect(200);
    assert_eq!(api.get(&at).await.expect(200)["status"]["phase"], "Pending");
    // The node's own server makes and removes directories: that takes the right to the whole node.
    let proxy = "/api/v1/nodes/a/proxy/volumes/local-path/pvc-0b1c2d3e-0000-4000-8000-000000000001";
    assert_eq!(as_mallory("POST", proxy, None).await, 403);
    assert_eq!(as_mallory("DELETE", proxy, None).await, 403);
    assert_eq!(node(&api, "a", "DELETE", proxy, None).await.code, 403);
}
