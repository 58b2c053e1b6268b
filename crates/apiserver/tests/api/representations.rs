//! Forms of requests and answers: media types, tables, metadata, sizes, events' two views.

use serde_json::json;

use crate::harness::{Api, CLASSES, CONFIG_MAPS, class};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
const METADATA: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";

#[tokio::test]
async fn answers_take_the_form_that_is_asked_for() {
    let api = Api::start().await;
    api.post(CLASSES, class("a", "runc")).await.expect(201);
    let table = api
        .raw("GET", CLASSES, &[("accept", TABLE)], "")
        .await
        .expect(200);
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["rows"][0]["cells"][1], "runc");
    let metadata = api
        .raw("GET", CLASSES, &[("accept", METADATA)], "")
        .await
        .expect(200);
    assert_eq!(metadata["kind"], "PartialObjectMetadataList");
    assert_eq!(metadata["items"][0]["kind"], "PartialObjectMetadata");
    assert_eq!(metadata["items"][0].get("handler"), None);
    let yaml = api
        .raw(
            "GET",
            &format!("{CLASSES}/a"),
            &[("accept", "application/yaml")],
            "",
        )
        .await;
    assert_eq!(yaml.code, 200);
    assert!(yaml.text.contains("handler: runc"), "{}", yaml.text);
    let protobuf = [("accept", "application/vnd.kubernetes.protobuf")];
    assert_eq!(api.raw("GET", CLASSES, &protobuf, "").await.code, 406);
    let head = api.raw("HEAD", &format!("{CLASSES}/a"), &[], "").await;
    assert_eq!((head.code, head.text.as_str()), (200, ""));
}

#[tokio::test]
async fn requests_are_read_as_what_they_say_they_are() {
    let api = Api::start().await;
    let yaml =
        "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata:\n  name: why\nhandler: runc\n";
    let made = api
        .raw(
            "POST",
            CLASSES,
            &[("content-type", "application/yaml")],
            yaml,
        )
        .await;
    assert_eq!(made.expect(201)["handler"], "runc");
    let text = api
        .raw("POST", CLASSES, &[("content-type", "text/plain")], yaml)
        .await;
    assert_eq!(text.code, 415);
    let broken = api
        .raw(
            "POST",
            CLASSES,
            &[("content-type", "application/json")],
            "{",
        )
        .await;
    assert_eq!(broken.expect(400)["reason"], "BadRequest");
    let big = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "big"}, "data": {"x": "x".repeat(3 << 20)}});
    let refused = api.post(CONFIG_MAPS, big).await;
    assert_eq!(refused.expect(413)["reason"], "RequestEntityTooLarge");
}

#[tokio::test]
async fn unknown_fields_are_told_per_version() {
    let api = Api::start().await;
    let alpha = "/apis/node.k8s.io/v1alpha1/runtimeclasses";
    let body = json!({"apiVersion": "node.k8s.io/v1alpha1", "kind": "RuntimeClass", "metadata": {"name": "a"},
        "handler": "no", "spec": {"runtimeHandler": "runsc"}});
    let made = api.post(alpha, body).await;
    assert_eq!(made.warnings(), ["299 - \"unknown field \\\"handler\\\"\""]);
    assert_eq!(made.expect(201)["spec"]["runtimeHandler"], "runsc");
    let v1 = api.get(&format!("{CLASSES}/a")).await.expect(200);
    assert_eq!(v1["handler"], "runsc");
    assert_eq!(v1.get("spec"), None);
}

#[tokio::test]
async fn events_have_two_views() {
    let api = Api::start().await;
    let body = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "reason": "Started", "message": "m",
        "type": "Normal", "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
        "source": {"component": "node"}, "count": 2, "lastTimestamp": "2026-01-01T00:00:00Z"});
    api.post("/api/v1/namespaces/default/events", body)
        .await
        .expect(201);
    let view = api
        .get("/apis/events.k8s.io/v1/namespaces/default/events/e")
        .await
        .expect(200);
    assert_eq!(view["apiVersion"], "events.k8s.io/v1");
    assert_eq!(view["regarding"]["name"], "p");
    assert_eq!(view["note"], "m");
    assert_eq!(view["deprecatedCount"], 2);
    let mine = api
        .get("/api/v1/events?fieldSelector=involvedObject.name=p,involvedObject.kind=Pod")
        .await
        .expect(200);
    assert_eq!(mine["items"].as_array().unwrap().len(), 1);
}
