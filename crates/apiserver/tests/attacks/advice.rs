//! What is told early, to somebody who wants to learn more than he may, or wants it to cost much.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Answer, Api, CLASSES, PODS, RBAC, as_user, class, grant, pod_of_class};

/// A user who may do this and nothing else.
async fn user_with(api: &Api, name: &str, group: &str, resource: &str, verbs: &[&str]) {
    let rules = json!([{"apiGroups": [group], "resources": [resource], "verbs": verbs}]);
    grant(api, name, name, rules).await;
}

fn all(answer: &Answer) -> String {
    answer.warnings().join("\n")
}

#[tokio::test]
async fn names_of_classes_are_told_to_nobody_who_may_not_list_them() {
    let api = Api::start().await;
    api.post(CLASSES, class("secret-tenant-a", "runc"))
        .await
        .expect(201);
    user_with(&api, "writer", "apps", "deployments", &["create"]).await;
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {
            "runtimeClassName": "secret-tenant-b", "containers": [{"name": "c", "image": "i"}]}}}});
    let path = "/apis/apps/v1/namespaces/default/deployments?dryRun=All";
    let told = as_user(&api, "writer", &[], "POST", path, Some(deployment.clone())).await;
    assert_eq!(told.code, 201, "{}", told.text);
    assert!(
        all(&told).contains("secret-tenant-b") && !all(&told).contains("secret-tenant-a"),
        "{}",
        all(&told)
    );
    let told = api.post(path, deployment).await;
    assert!(all(&told).contains("secret-tenant-a"), "{}", all(&told));
}

#[tokio::test]
async fn who_may_only_delete_classes_learns_nothing_of_pods() {
    let api = Api::start().await;
    for name in ["a", "b"] {
        api.post(CLASSES, class(name, "runc")).await.expect(201);
    }
    api.post(PODS, pod_of_class("p", "a")).await.expect(201);
    api.post(PODS, pod_of_class("q", "b")).await.expect(201);
    user_with(
        &api,
        "deleter",
        "node.k8s.io",
        "runtimeclasses",
        &["delete"],
    )
    .await;
    // Rights in one namespace say nothing of the others.
    let role = json!({"metadata": {"name": "lister"},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]});
    let rbac = format!("{RBAC}/namespaces/default");
    api.post(&format!("{rbac}/roles"), role).await.expect(201);
    let binding = json!({"metadata": {"name": "lister"},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "deleter"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "lister"}});
    api.post(&format!("{rbac}/rolebindings"), binding)
        .await
        .expect(201);
    let gone = as_user(
        &api,
        "deleter",
        &[],
        "DELETE",
        &format!("{CLASSES}/a"),
        None,
    )
    .await;
    assert_eq!((gone.code, all(&gone)), (200, String::new()));
    let gone = api.delete(&format!("{CLASSES}/b")).await;
    assert!(all(&gone).contains("1 pod(s)"), "{}", all(&gone));
}

#[tokio::test]
async fn a_node_chooses_few_words_of_what_others_are_told() {
    let api = Api::start().await;
    let long = "x".repeat(100_000);
    let many: serde_json::Map<String, Value> = (0..100)
        .map(|i| {
            (
                format!("h{i}"),
                json!(format!("{long}\r\nWarning: fake {i}")),
            )
        })
        .collect();
    for (name, told) in [
        (
            "n1",
            json!({"runsc": format!("a\r\nSet-Cookie: b{long}")}).to_string(),
        ),
        (
            "n2",
            Value::Object(many.into_iter().take(2).collect()).to_string(),
        ),
        ("n3", "[[[[".to_owned()),
        ("n4", json!({"runsc": 7}).to_string()),
    ] {
        let annotations = json!({"berth.dev/broken-handlers": told, "berth.dev/handler-isolation": "{{", "berth.dev/node-features": "7"});
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "annotations": annotations},
            "status": {"runtimeHandlers": [{"name": "runc"}]}});
        api.post("/api/v1/nodes", node).await.expect(201);
    }
    let told = api.post(CLASSES, class("gvisor", "runsc")).await;
    assert_eq!(told.code, 201, "{}", told.text);
    assert!(
        told.warnings().len() == 1 && all(&told).len() < 1500,
        "{}",
        all(&told)
    );
    let told = api.post(PODS, pod_of_class("p", "gvisor")).await;
    assert_eq!(told.code, 201, "{}", told.text);
    assert!(all(&told).len() < 3000, "{}", all(&told));
}

#[tokio::test]
async fn long_lists_and_many_mounts_cost_no_more_than_short_ones() {
    let api = Api::start().await;
    api.post(CLASSES, class("gvisor", "runsc"))
        .await
        .expect(201);
    // As large as annotations may be.
    let list = "gvisro,".repeat(36_000);
    let annotations = json!({"node.berth.dev/allowed-runtime-classes": list});
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n", "annotations": annotations}});
    let begun = Instant::now();
    let told = api.post("/api/v1/namespaces", namespace).await;
    assert_eq!(told.code, 201, "{}", told.text);
    assert!(told.warnings().len() <= 64);
    let mut pod = pod_of_class("p", "gvisor");
    let volume =
        |i: usize| json!({"name": format!("v{i}"), "hostPath": {"path": format!("/dev/x{i}")}});
    pod["spec"]["volumes"] = (0..5000).map(volume).collect();
    let told = api.post(PODS, pod).await;
    assert_eq!(told.code, 201, "{}", told.text);
    assert!(told.warnings().len() <= 64);
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
}
