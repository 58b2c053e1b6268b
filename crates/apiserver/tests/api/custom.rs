//! CustomResourceDefinitions: rows that come and go.

use serde_json::{Value, json};

use crate::harness::{Api, PATIENCE, names};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

fn definition(group: &str, plural: &str, kind: &str) -> Value {
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "required": ["size"], "properties": {
            "size": {"type": "integer", "minimum": 1}, "color": {"type": "string", "default": "red"}}},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {"group": group, "scope": "Namespaced", "names": {"plural": plural, "kind": kind, "shortNames": ["wd"]},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
                "subresources": {"status": {}},
                "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}]}]}})
}

async fn wait_for(api: &Api, path: &str, code: u16) {
    let until = tokio::time::Instant::now() + PATIENCE;
    while api.get(path).await.code != code {
        assert!(
            tokio::time::Instant::now() < until,
            "{path} never answered {code}"
        );
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

async fn condition(api: &Api, name: &str, kind: &str) -> String {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let object = api.get(&format!("{DEFINITIONS}/{name}")).await.expect(200);
        let found = object["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|c| c["type"] == kind)
            .map(|c| c["status"].as_str().unwrap().to_owned());
        if let Some(status) = found {
            return status;
        }
        assert!(tokio::time::Instant::now() < until, "{object}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_definition_is_served_until_it_goes() {
    let api = Api::start().await;
    assert_eq!(api.get(WIDGETS).await.code, 404);
    api.post(DEFINITIONS, definition("example.com", "widgets", "Widget"))
        .await
        .expect(201);
    assert_eq!(
        condition(&api, "widgets.example.com", "Established").await,
        "True"
    );
    wait_for(&api, WIDGETS, 200).await;
    let body = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"},
        "spec": {"size": 3, "frob": 1}, "status": {"x": 1}});
    let made = api.post(WIDGETS, body.clone()).await;
    assert_eq!(
        made.warnings(),
        ["299 - \"unknown field \\\"spec.frob\\\"\""]
    );
    let made = made.expect(201);
    assert_eq!(made["spec"], json!({"size": 3, "color": "red"}));
    assert_eq!(made.get("status"), None);
    assert_eq!(made["metadata"]["generation"], 1);
    let path = format!("{WIDGETS}/w");
    let status = api
        .merge(
            &format!("{path}/status"),
            json!({"status": {"seen": true}, "spec": {"size": 9}}),
        )
        .await
        .expect(200);
    assert_eq!(
        (&status["status"]["seen"], &status["spec"]["size"]),
        (&json!(true), &json!(3))
    );
    let changed = api
        .merge(&path, json!({"spec": {"size": 4}, "status": null}))
        .await
        .expect(200);
    assert_eq!(changed["metadata"]["generation"], 2);
    assert_eq!(changed["status"]["seen"], true);
    let refused = api
        .merge(&path, json!({"spec": {"size": 0}}))
        .await
        .expect(422);
    assert_eq!(refused["details"]["causes"][0]["field"], "spec.size");
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = api.raw("GET", WIDGETS, &accept, "").await.expect(200);
    assert_eq!(table["rows"][0]["cells"], json!(["w", 4]));
    let groups = api.get("/apis/example.com/v1").await.expect(200);
    assert_eq!(groups["resources"][0]["name"], "widgets");
    api.delete(&format!("{DEFINITIONS}/widgets.example.com"))
        .await
        .expect(200);
    wait_for(&api, WIDGETS, 404).await;
    api.post(DEFINITIONS, definition("example.com", "widgets", "Widget"))
        .await
        .expect(201);
    wait_for(&api, WIDGETS, 200).await;
    assert_eq!(
        names(&api.get(WIDGETS).await.expect(200)),
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn definitions_and_their_objects_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let api = Api::start_in(dir.path()).await;
    api.post(DEFINITIONS, definition("example.com", "widgets", "Widget"))
        .await
        .expect(201);
    wait_for(&api, WIDGETS, 200).await;
    let body = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"size": 3}});
    api.post(WIDGETS, body).await.expect(201);
    api.stop().await;
    let api = Api::start_in(dir.path()).await;
    wait_for(&api, WIDGETS, 200).await;
    assert_eq!(names(&api.get(WIDGETS).await.expect(200)), ["w"]);
}

#[tokio::test]
async fn what_the_server_has_itself_is_not_replaced() {
    let api = Api::start().await;
    let classes = definition("node.k8s.io", "runtimeclasses", "RuntimeClass");
    assert_eq!(api.post(DEFINITIONS, classes).await.code, 422);
    assert_eq!(
        api.get("/apis/node.k8s.io/v1alpha1/runtimeclasses")
            .await
            .code,
        200
    );
    let mut bad = definition("example.com", "widgets", "Widget");
    bad["metadata"]["name"] = json!("other.example.com");
    assert_eq!(api.post(DEFINITIONS, bad).await.code, 422);
}

#[tokio::test]
async fn rules_that_are_not_enforced_are_no_secret() {
    let api = Api::start().await;
    let plain = api
        .post(DEFINITIONS, definition("example.com", "widgets", "Widget"))
        .await;
    assert_eq!((plain.code, plain.warnings().len()), (201, 0));
    let mut strict = definition("example.com", "gadgets", "Gadget");
    strict["spec"]["names"]["shortNames"] = json!(["gd"]);
    strict["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        ["color"]["pattern"] = json!("^[a-z]+$");
    let warned = api.post(DEFINITIONS, strict).await;
    assert_eq!(warned.code, 201, "{}", warned.text);
    let warnings = warned.warnings();
    assert!(
        warnings.len() == 1 && warnings[0].contains("schema of version v1: pattern not enforced"),
        "{warnings:?}"
    );
}
