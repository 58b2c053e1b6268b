//! Rights that somebody would give without having them.

use serde_json::{Value, json};

use crate::harness::{Answer, Api, CLASSES, RBAC, as_user, bind, class, grant};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

async fn merge(api: &Api, user: &str, path: &str, body: Value) -> Answer {
    let headers = [
        ("impersonate-user", user),
        ("content-type", "application/merge-patch+json"),
    ];
    api.raw("PATCH", path, &headers, body.to_string()).await
}

#[tokio::test]
async fn a_label_adds_no_rules_that_its_writer_does_not_have() {
    let api = Api::start().await;
    let rules = json!([
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "verbs": ["get", "update", "patch"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]);
    grant(&api, "mallory", "mallory", rules).await;
    bind(&api, "viewer", "view", "viewer").await;
    let small = json!({"metadata": {"name": "small"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]});
    api.post(&format!("{RBAC}/clusterroles"), small)
        .await
        .expect(201);
    let label =
        json!({"metadata": {"labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}}});
    let admin = format!("{RBAC}/clusterroles/cluster-admin");
    // Its rules stay as they are, and would be those of everybody who may view.
    let answer = merge(&api, "mallory", &admin, label.clone()).await;
    assert_eq!(answer.code, 403, "{}", answer.text);
    let mut whole = api.get(&admin).await.expect(200);
    whole["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"] = json!("true");
    let answer = as_user(&api, "mallory", &[], "PUT", &admin, Some(whole)).await;
    assert_eq!(answer.code, 403, "{}", answer.text);
    let secrets = "/api/v1/namespaces/default/secrets";
    let read = as_user(&api, "viewer", &[], "GET", secrets, None).await;
    assert_eq!(read.code, 403, "{}", read.text);
    // An aggregated role takes what it is told to take: nothing of it changes without every right.
    let view = format!("{RBAC}/clusterroles/view");
    let answer = merge(&api, "mallory", &view, label.clone()).await;
    assert_eq!(answer.code, 403, "{}", answer.text);
    // What he has he may give, and a collector of garbage does its work on what it does not have.
    let small = format!("{RBAC}/clusterroles/small");
    merge(&api, "mallory", &small, label).await.expect(200);
    let finalizer = json!({"metadata": {"finalizers": ["example.com/x"]}});
    merge(&api, "mallory", &admin, finalizer).await.expect(200);
}

#[tokio::test]
async fn who_lists_classes_does_not_count_pods() {
    let api = Api::start().await;
    api.post(CLASSES, class("a", "runsc")).await.expect(201);
    let rules =
        json!([{"apiGroups": ["node.k8s.io"], "resources": ["runtimeclasses"], "verbs": ["list"]}]);
    grant(&api, "mallory", "mallory", rules).await;
    let columns = async |user: &str| {
        let headers = [
            ("impersonate-user", user),
            ("user-agent", "kubectl/v1.36.0"),
            ("accept", "application/json;as=Table;g=meta.k8s.io;v=v1"),
        ];
        let table = api.raw("GET", CLASSES, &headers, "").await.expect(200);
        let columns = table["columnDefinitions"].as_array().unwrap().clone();
        let names = columns.iter().map(|c| c["name"].as_str().unwrap());
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(columns("mallory").await, ["Name", "Handler", "Age"]);
    let rules = json!([{"apiGroups": ["node.k8s.io", ""], "resources": ["runtimeclasses", "pods", "nodes"], "verbs": ["list"]}]);
    grant(&api, "auditor", "auditor", rules).await;
    let seen = columns("auditor").await;
    assert!(seen.contains(&"Pods".to_owned()), "{seen:?}");
}

#[tokio::test]
async fn the_status_of_a_definition_is_not_its_metadata() {
    let api = Api::start().await;
    let rules = json!([{"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions/status"],
        "verbs": ["patch"]}]);
    grant(&api, "mallory", "mallory", rules).await;
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let definition = json!({"metadata": {"name": "widgets.example.com", "finalizers": ["example.com/keep"]},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}});
    api.post(DEFINITIONS, definition).await.expect(201);
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let change = json!({"metadata": {"finalizers": null, "labels": {"a": "b"},
        "annotations": {"api-approved.kubernetes.io": "https://example.com"}}});
    merge(&api, "mallory", &format!("{path}/status"), change)
        .await
        .expect(200);
    let kept = api.get(&path).await.expect(200);
    assert_eq!(kept["metadata"]["finalizers"], json!(["example.com/keep"]));
    assert_eq!(kept["metadata"]["labels"], Value::Null);
    assert_eq!(kept["metadata"]["annotations"], Value::Null);
}
