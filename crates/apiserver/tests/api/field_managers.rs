//! Who owns which fields (`metadata.managedFields`), beside what admission adds to an object.

use serde_json::{Value, json};

use crate::harness::{Answer, Api, PODS, class, pod};

const APPLY: &str = "application/apply-patch+yaml";

async fn apply(api: &Api, manager: &str, body: &Value) -> Answer {
    let name = body["metadata"]["name"].as_str().unwrap();
    let path = format!("{PODS}/{name}?fieldManager={manager}");
    let headers = [("content-type", APPLY)];
    api.raw("PATCH", &path, &headers, body.to_string()).await
}

/// The fields of a manager, as text.
fn owned(object: &Value, manager: &str) -> String {
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    let entry = entries.iter().find(|e| e["manager"] == manager);
    entry.map_or_else(String::new, |e| e["fieldsV1"].to_string())
}

/// A class that admission takes overhead, a node selector and a toleration from.
async fn with_class(api: &Api) {
    let mut class = class("sandboxed", "runsc");
    class["overhead"] = json!({"podFixed": {"cpu": "10m"}});
    class["scheduling"] = json!({"nodeSelector": {"sandbox": "yes"}, "tolerations": [{"key": "sandbox", "operator": "Exists"}]});
    api.post("/apis/node.k8s.io/v1/runtimeclasses", class)
        .await
        .expect(201);
}

fn sandboxed(name: &str) -> Value {
    let mut pod = pod(name);
    pod["spec"]["runtimeClassName"] = json!("sandboxed");
    pod
}

#[tokio::test]
async fn what_admission_adds_belongs_to_nobody() {
    let api = Api::start().await;
    with_class(&api).await;
    let path = format!("{PODS}?fieldManager=kubectl-create");
    let created = api.post(&path, sandboxed("a")).await.expect(201);
    assert_eq!(created["spec"]["overhead"]["cpu"], "10m");
    assert_eq!(created["spec"]["nodeSelector"]["sandbox"], "yes");
    assert!(created["spec"]["tolerations"].as_array().unwrap().len() >= 3);
    let fields = owned(&created, "kubectl-create");
    for added in [
        "f:overhead",
        "f:nodeSelector",
        "f:tolerations",
        "f:priority",
        "f:volumes",
    ] {
        assert!(!fields.contains(added), "{added} in {fields}");
    }
    // What is set by default is the client's, as on the stock server.
    for given in [
        "f:image",
        "f:runtimeClassName",
        "f:restartPolicy",
        "f:dnsPolicy",
    ] {
        assert!(fields.contains(given), "no {given} in {fields}");
    }
}

#[tokio::test]
async fn a_pod_made_by_kubectl_apply_can_be_applied_by_the_server_again_and_again() {
    let api = Api::start().await;
    with_class(&api).await;
    let path = format!("{PODS}?fieldManager=kubectl-client-side-apply");
    let created = api.post(&path, sandboxed("a")).await.expect(201);
    apply(&api, "kubectl", &sandboxed("a")).await.expect(200);
    // kubectl then makes the entry of its client-side apply one of its server-side apply.
    let mut entries = created["metadata"]["managedFields"].clone();
    entries[0]["manager"] = json!("kubectl");
    entries[0]["operation"] = json!("Apply");
    let migrated = json!([{"op": "replace", "path": "/metadata/managedFields", "value": entries}]);
    let headers = [("content-type", "application/json-patch+json")];
    api.raw(
        "PATCH",
        &format!("{PODS}/a"),
        &headers,
        migrated.to_string(),
    )
    .await
    .expect(200);
    for _ in 0..3 {
        let applied = apply(&api, "kubectl", &sandboxed("a")).await.expect(200);
        assert_eq!(applied["spec"], created["spec"]);
    }
}

#[tokio::test]
async fn an_update_owns_what_it_changes_and_nothing_else() {
    let api = Api::start().await;
    let created = api
        .post(&format!("{PODS}?fieldManager=first"), pod("a"))
        .await
        .expect(201);
    let mut changed = created.clone();
    changed["spec"]["containers"][0]["image"] = json!("busybox:2");
    let updated = api
        .put(&format!("{PODS}/a?fieldManager=second"), &changed)
        .await
        .expect(200);
    assert_eq!(
        owned(&updated, "second"),
        r#"{"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{"f:image":{}}}}}"#
    );
    assert!(!owned(&updated, "first").contains("f:image\""));
    // The same again changes nothing: no owner, no time, no version.
    let again = api
        .put(&format!("{PODS}/a?fieldManager=third"), &updated)
        .await
        .expect(200);
    assert_eq!(again, updated);
}
