//! Namespaces: who raises and lowers a floor, and what is no floor.

use serde_json::{Value, json};

use super::{
    MERGE, MINIMUM, NAMESPACES, OWNER, STRATEGIC, as_owner, declaring, message, namespace, owner_of,
};
use crate::harness::{Api, CLASSES, class, grant, pod_of_class};

#[tokio::test]
async fn who_owns_a_namespace_raises_its_floor_and_lowers_it_in_no_way() {
    let api = Api::start().await;
    namespace(&api, "n", Some("sandbox")).await;
    owner_of(&api, "n").await;
    let path = format!("{NAMESPACES}/n");
    let floor =
        async || api.get(&path).await.expect(200)["metadata"]["annotations"][MINIMUM].clone();
    let patch = |value: Value| json!({"metadata": {"annotations": {MINIMUM: value}}});
    as_owner(&api, "PATCH", &path, MERGE, &patch(json!("vm")))
        .await
        .expect(200);
    assert_eq!(floor().await, "vm");
    for (subresource, content, value) in [
        ("", MERGE, json!(null)),
        ("", MERGE, json!("process")),
        ("", STRATEGIC, json!("sandbox")),
        ("/status", MERGE, json!("process")),
        ("/status", STRATEGIC, json!(null)),
    ] {
        let answer = as_owner(
            &api,
            "PATCH",
            &format!("{path}{subresource}"),
            content,
            &patch(value.clone()),
        )
        .await;
        let said = message(answer, 403);
        assert!(
            said.contains("takes the right to update runtimeclasses.node.k8s.io"),
            "{said}"
        );
    }
    for subresource in ["", "/status", "/finalize"] {
        let mut whole = api.get(&path).await.expect(200);
        whole["metadata"]["annotations"] = json!({});
        let answer = as_owner(
            &api,
            "PUT",
            &format!("{path}{subresource}"),
            "application/json",
            &whole,
        )
        .await;
        assert_eq!(answer.code, 403, "{subresource} {}", answer.text);
    }
    let apply = format!("{path}?fieldManager=m&force=true");
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n", "annotations": {MINIMUM: "process"}}});
    let answer = as_owner(&api, "PATCH", &apply, "application/apply-patch+yaml", &body).await;
    assert_eq!(answer.code, 403, "{}", answer.text);
    let steps = json!([{"op": "remove", "path": "/metadata/annotations/node.berth.dev~1minimum-isolation"}]);
    let answer = as_owner(&api, "PATCH", &path, "application/json-patch+json", &steps).await;
    assert_eq!(answer.code, 403, "{}", answer.text);
    assert_eq!(floor().await, "vm");
    // All else is the owner's.
    as_owner(
        &api,
        "PATCH",
        &path,
        MERGE,
        &json!({"metadata": {"labels": {"a": "b"}}}),
    )
    .await
    .expect(200);
    // Who may say how strong classes are, may.
    let rules = json!([{"apiGroups": ["node.k8s.io"], "resources": ["runtimeclasses"], "verbs": ["update"]}]);
    grant(&api, "classes", OWNER, rules).await;
    as_owner(&api, "PATCH", &path, MERGE, &patch(json!("process")))
        .await
        .expect(200);
}

#[tokio::test]
async fn rights_on_one_class_lower_nothing() {
    let api = Api::start().await;
    namespace(&api, "n", Some("sandbox")).await;
    owner_of(&api, "n").await;
    let rules = json!([{"apiGroups": ["node.k8s.io"], "resources": ["runtimeclasses"], "resourceNames": ["mine"], "verbs": ["*"]}]);
    grant(&api, "one", OWNER, rules).await;
    let body = json!({"metadata": {"annotations": {MINIMUM: null}}});
    let answer = as_owner(&api, "PATCH", &format!("{NAMESPACES}/n"), MERGE, &body).await;
    assert_eq!(answer.code, 403, "{}", answer.text);
}

#[tokio::test]
async fn what_is_no_level_is_refused_and_admits_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let api = Api::start_in(dir.path()).await;
    for bad in ["", "VM", "vm ", "sandbox,vm"] {
        let body = json!({"metadata": {"name": "n", "annotations": {MINIMUM: bad}}});
        let said = message(api.post(NAMESPACES, body).await, 422);
        assert!(
            said.contains("supported values: \"process\", \"sandbox\", \"vm\""),
            "{said}"
        );
        let said = message(api.post(CLASSES, declaring("c", "runc", bad)).await, 422);
        assert!(
            said.contains("metadata.annotations[node.berth.dev/isolation]"),
            "{said}"
        );
    }
    let label = json!({"metadata": {"name": "n", "labels": {MINIMUM: "vm"}}});
    let said = message(api.post(NAMESPACES, label).await, 422);
    assert!(said.contains("has no effect"), "{said}");
    api.stop().await;

    // Written by a server that did not look.
    let blind = Api::start_changed(dir.path(), |config| {
        config.disable_admission_plugins = vec!["MinimumIsolation".to_owned()];
    })
    .await;
    let pods = namespace(&blind, "n", Some("quantum")).await;
    let labelled = json!({"metadata": {"name": "l", "labels": {MINIMUM: "vm"}}});
    blind.post(NAMESPACES, labelled).await.expect(201);
    blind
        .post(CLASSES, declaring("c", "kata", "quantum"))
        .await
        .expect(201);
    blind.post(CLASSES, class("kata", "kata")).await.expect(201);
    blind.stop().await;

    let api = Api::start_in(dir.path()).await;
    let said = message(api.post(&pods, pod_of_class("p", "kata")).await, 403);
    assert!(
        said.contains(
            "admits no pod until its annotation node.berth.dev/minimum-isolation is one of"
        ),
        "{said}"
    );
    let said = message(
        api.post(&format!("{NAMESPACES}/l/pods"), pod_of_class("p", "kata"))
            .await,
        403,
    );
    assert!(said.contains("until its label"), "{said}");
    let strict = namespace(&api, "strict", Some("sandbox")).await;
    let said = message(api.post(&strict, pod_of_class("p", "c")).await, 403);
    assert!(
        said.contains("annotation node.berth.dev/isolation is \"quantum\""),
        "{said}"
    );
    // It can be changed otherwise, corrected by who may, and deleted.
    api.merge(
        &format!("{NAMESPACES}/n"),
        json!({"metadata": {"labels": {"a": "b"}}}),
    )
    .await
    .expect(200);
    owner_of(&api, "n").await;
    let patch = |value: &str| json!({"metadata": {"annotations": {MINIMUM: value}}});
    let path = format!("{NAMESPACES}/n");
    assert_eq!(
        as_owner(&api, "PATCH", &path, MERGE, &patch("process"))
            .await
            .code,
        403
    );
    api.merge(&path, patch("process")).await.expect(200);
    api.post(&pods, pod_of_class("p", "kata")).await.expect(201);
    api.delete(&format!("{NAMESPACES}/l")).await.expect(200);
}
