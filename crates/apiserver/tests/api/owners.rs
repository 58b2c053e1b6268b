//! Who owns which field: server-side apply and what other writes leave in managedFields.

use serde_json::{Value, json};

use super::harness::{Answer, Api, CLASSES, CONFIG_MAPS, class};

async fn apply(api: &Api, query: &str, object: Value) -> Answer {
    let path = format!("{CLASSES}/x?{query}");
    api.raw(
        "PATCH",
        &path,
        &[("content-type", "application/apply-patch+yaml")],
        object.to_string(),
    )
    .await
}

fn labelled(labels: Value) -> Value {
    let mut class = class("x", "runc");
    class["metadata"]["labels"] = labels;
    class
}

#[tokio::test]
async fn two_managers_share_one_class() {
    let api = Api::start().await;
    apply(
        &api,
        "fieldManager=one",
        labelled(json!({"a": "1", "b": "1"})),
    )
    .await
    .expect(201);
    let conflict = apply(
        &api,
        "fieldManager=two",
        labelled(json!({"a": "2", "b": "2"})),
    )
    .await
    .expect(409);
    let fields: Vec<_> = conflict["details"]["causes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["field"].as_str().unwrap())
        .collect();
    assert_eq!(fields, [".metadata.labels.a", ".metadata.labels.b"]);
    let taken = apply(
        &api,
        "fieldManager=two&force=true",
        labelled(json!({"a": "2"})),
    )
    .await
    .expect(200);
    assert_eq!(taken["metadata"]["labels"], json!({"a": "2", "b": "1"}));
    // one no longer owns a, and so does not remove it; b goes with its only owner
    let left = apply(&api, "fieldManager=one", labelled(json!({})))
        .await
        .expect(200);
    assert_eq!(left["metadata"]["labels"], json!({"a": "2"}));
    assert_eq!(
        apply(&api, "", labelled(json!({}))).await.expect(422)["details"]["causes"][0]["field"],
        "fieldManager"
    );
}

#[tokio::test]
async fn applying_the_same_again_changes_nothing() {
    let api = Api::start().await;
    let first = apply(&api, "fieldManager=one", labelled(json!({"a": "1"})))
        .await
        .expect(201);
    let second = apply(&api, "fieldManager=one", labelled(json!({"a": "1"})))
        .await
        .expect(200);
    assert_eq!(first, second);
}

#[tokio::test]
async fn a_class_is_applied_in_every_version() {
    let api = Api::start().await;
    apply(&api, "fieldManager=one", class("x", "runc"))
        .await
        .expect(201);
    let alpha = json!({"apiVersion": "node.k8s.io/v1alpha1", "kind": "RuntimeClass", "metadata": {"name": "x", "labels": {"a": "1"}}, "spec": {"runtimeHandler": "runc"}});
    let path = "/apis/node.k8s.io/v1alpha1/runtimeclasses/x?fieldManager=two";
    let headers = [("content-type", "application/apply-patch+yaml")];
    let applied = api
        .raw("PATCH", path, &headers, alpha.to_string())
        .await
        .expect(200);
    assert_eq!(applied["spec"]["runtimeHandler"], "runc");
    let v1 = api.get(&format!("{CLASSES}/x")).await.expect(200);
    assert_eq!(
        (&v1["handler"], &v1["metadata"]["labels"]),
        (&json!("runc"), &json!({"a": "1"}))
    );
    let versions: Vec<_> = v1["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["apiVersion"].as_str().unwrap())
        .collect();
    assert!(
        versions.contains(&"node.k8s.io/v1") && versions.contains(&"node.k8s.io/v1alpha1"),
        "{versions:?}"
    );
}

#[tokio::test]
async fn other_writes_are_tracked_by_user_agent_and_subresource() {
    let api = Api::start().await;
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "1"}});
    let headers = [
        ("content-type", "application/json"),
        ("user-agent", "kubectl/v1.36 (linux)"),
    ];
    let made = api
        .raw("POST", CONFIG_MAPS, &headers, body.to_string())
        .await
        .expect(201);
    let entry = &made["metadata"]["managedFields"][0];
    assert_eq!(
        (&entry["manager"], &entry["operation"]),
        (&json!("kubectl"), &json!("Update"))
    );
    assert_eq!(entry["fieldsV1"], json!({"f:data": {".": {}, "f:a": {}}}));
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "labels": {"a": "1"}}});
    api.post("/api/v1/nodes?fieldManager=m", node)
        .await
        .expect(201);
    let status = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    let headers = [("content-type", "application/strategic-merge-patch+json")];
    let patched = api
        .raw(
            "PATCH",
            "/api/v1/nodes/n/status?fieldManager=kubelet",
            &headers,
            status.to_string(),
        )
        .await
        .expect(200);
    let entries = patched["metadata"]["managedFields"].as_array().unwrap();
    let kubelet = entries
        .iter()
        .find(|e| e["manager"] == "kubelet")
        .expect("an entry of its own");
    assert_eq!(kubelet["subresource"], "status");
    assert!(
        kubelet["fieldsV1"]["f:status"]["f:conditions"]["k:{\"type\":\"Ready\"}"]["f:status"]
            .is_object(),
        "{kubelet}"
    );
}
