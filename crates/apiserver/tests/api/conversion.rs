//! Custom resources whose versions a webhook converts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Api, names};
use crate::hook_server::{
    Got, HookServer, MUTATING, VALIDATING, configuration, patched, reply, rule_of,
};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const V1: &str = "/apis/example.com/v1/namespaces/default/widgets";
const V2: &str = "/apis/example.com/v2/namespaces/default/widgets";

/// v1 has `spec.size` as text, v2 as `spec.dimensions.width`.
fn convert(object: &Value, to: &str) -> Value {
    let mut object = object.clone();
    object["apiVersion"] = json!(to);
    let spec = object["spec"].take();
    object["spec"] = if to.ends_with("v2") {
        let width: i64 = spec["size"].as_str().unwrap_or("0").parse().unwrap();
        json!({"dimensions": {"width": width}})
    } else {
        json!({"size": spec["dimensions"]["width"].as_i64().unwrap_or(0).to_string()})
    };
    object
}

async fn converter() -> HookServer {
    HookServer::start_raw(Arc::new(|got: Got| {
        Box::pin(async move {
            let request = &got.body["request"];
            let to = request["desiredAPIVersion"].as_str().unwrap();
            let objects = request["objects"].as_array().unwrap();
            let converted: Vec<Value> = objects.iter().map(|object| convert(object, to)).collect();
            reply(200, json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
                "response": {"uid": request["uid"], "convertedObjects": converted, "result": {"status": "Success"}}}).to_string())
        })
    }))
    .await
}

fn definition(hook: &HookServer, stored: &str) -> Value {
    let version = |name: &str, spec: Value| {
        json!({"name": name, "served": true, "storage": name == stored, "schema": {"openAPIV3Schema": {"type": "object",
            "properties": {"spec": {"type": "object", "properties": spec}}}}})
    };
    json!({"metadata": {"name": "widgets.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "widgets", "kind": "Widget"},
        "conversion": {"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": {
            "url": format!("https://localhost:{}/convert", hook.address.port()), "caBundle": hook.ca_bundle()}}},
        "versions": [
            version("v1", json!({"size": {"type": "string", "maxLength": 5}})),
            version("v2", json!({"dimensions": {"type": "object", "properties": {"width": {"type": "integer", "maximum": 100}}}}))]}})
}

async fn wait_for(api: &Api, path: &str) {
    let begun = Instant::now();
    while api.get(path).await.code != 200 {
        assert!(begun.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn v1(name: &str, size: &str) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": {"size": size}})
}

fn calls(hook: &HookServer) -> usize {
    hook.got.lock().len()
}

#[tokio::test]
async fn every_verb_speaks_the_version_of_the_request() {
    let api = Api::start().await;
    let hook = converter().await;
    api.post(DEFINITIONS, definition(&hook, "v2"))
        .await
        .expect(201);
    wait_for(&api, V1).await;
    let mut watch = api.watch(&format!("{V1}?watch=true")).await;
    let made = api.post(V1, v1("a", "7")).await.expect(201);
    assert_eq!(
        (&made["apiVersion"], &made["spec"]),
        (&json!("example.com/v1"), &json!({"size": "7"}))
    );
    let two = format!("{V2}/a");
    let got = api.get(&two).await.expect(200);
    assert_eq!(
        (&got["apiVersion"], &got["spec"]["dimensions"]["width"]),
        (&json!("example.com/v2"), &json!(7))
    );
    assert_eq!(got["metadata"]["uid"], made["metadata"]["uid"]);
    let one = format!("{V1}/a");
    assert_eq!(api.get(&one).await.expect(200)["spec"]["size"], "7");
    // Patches are of the version that they speak, whatever is stored.
    let patched = api
        .merge(&one, json!({"spec": {"size": "8"}}))
        .await
        .expect(200);
    assert_eq!(patched["spec"], json!({"size": "8"}));
    assert_eq!(
        api.get(&two).await.expect(200)["spec"]["dimensions"]["width"],
        8
    );
    let mut put = api.get(&one).await.expect(200);
    put["spec"]["size"] = json!("9");
    api.put(&one, &put).await.expect(200);
    assert_eq!(
        api.get(&two).await.expect(200)["spec"]["dimensions"]["width"],
        9
    );
    let headers = [("content-type", "application/apply-patch+yaml")];
    let applied = api
        .raw(
            "PATCH",
            &format!("{one}?fieldManager=me&force=true"),
            &headers,
            v1("a", "10").to_string(),
        )
        .await
        .expect(200);
    assert_eq!(applied["spec"]["size"], "10");
    assert_eq!(
        api.get(&two).await.expect(200)["spec"]["dimensions"]["width"],
        10
    );
    // The schema of the request's version holds.
    api.merge(&two, json!({"spec": {"dimensions": {"width": 1000}}}))
        .await
        .expect(422);
    let dry = api
        .post(&format!("{V1}?dryRun=All"), v1("b", "3"))
        .await
        .expect(201);
    assert_eq!(dry["spec"], json!({"size": "3"}));
    api.delete(&one).await.expect(200);
    let mut seen = Vec::new();
    for _ in 0..5 {
        let event = watch.next().await.unwrap();
        assert_eq!(event["object"]["apiVersion"], "example.com/v1", "{event}");
        seen.push((
            event["type"].as_str().unwrap().to_owned(),
            event["object"]["spec"]["size"].as_str().unwrap().to_owned(),
        ));
    }
    let sizes: Vec<&str> = seen.iter().map(|(_, size)| size.as_str()).collect();
    assert_eq!(sizes, ["7", "8", "9", "10", "10"]);
    assert_eq!(seen[4].0, "DELETED");
}

#[tokio::test]
async fn lists_are_converted_in_batches_and_in_order() {
    let api = Api::start().await;
    let hook = converter().await;
    api.post(DEFINITIONS, definition(&hook, "v2"))
        .await
        .expect(201);
    wait_for(&api, V2).await;
    for n in 0..230 {
        let widget = json!({"apiVersion": "example.com/v2", "kind": "Widget", "metadata": {"name": format!("w{n:03}")},
            "spec": {"dimensions": {"width": n % 100}}});
        api.post(V2, widget).await.expect(201);
    }
    assert_eq!(calls(&hook), 0);
    let list = api.get(V1).await.expect(200);
    let expected: Vec<String> = (0..230).map(|n| format!("w{n:03}")).collect();
    assert_eq!(names(&list), expected);
    for (n, item) in list["items"].as_array().unwrap().iter().enumerate() {
        assert_eq!(item["spec"]["size"], (n % 100).to_string());
        assert_eq!(item["apiVersion"], "example.com/v1");
    }
    assert_eq!(calls(&hook), 3);
    // What was converted is remembered until it changes.
    api.get(V1).await.expect(200);
    assert_eq!(calls(&hook), 3);
    // Metadata is that of all versions.
    let headers = [(
        "accept",
        "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
    )];
    api.raw("GET", V1, &headers, "").await.expect(200);
    assert_eq!(calls(&hook), 3);
}

#[tokio::test]
async fn another_stored_version_is_reached_by_writing_each_object_once() {
    let api = Api::start().await;
    let hook = converter().await;
    api.post(DEFINITIONS, definition(&hook, "v1"))
        .await
        .expect(201);
    wait_for(&api, V1).await;
    api.post(V1, v1("a", "7")).await.expect(201);
    let one = format!("{DEFINITIONS}/widgets.example.com");
    api.merge(&one, definition(&hook, "v2")).await.expect(200);
    let begun = Instant::now();
    loop {
        let stored = api.get(&one).await.expect(200)["status"]["storedVersions"].clone();
        if stored == json!(["v1", "v2"]) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{stored}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let two = format!("{V2}/a");
    let before = api.get(&two).await.expect(200);
    assert_eq!(before["spec"]["dimensions"]["width"], 7);
    // A write that changes nothing migrates it, once.
    let migrated = api.merge(&two, json!({})).await.expect(200);
    assert_ne!(
        migrated["metadata"]["resourceVersion"],
        before["metadata"]["resourceVersion"]
    );
    let again = api.merge(&two, json!({})).await.expect(200);
    assert_eq!(
        again["metadata"]["resourceVersion"],
        migrated["metadata"]["resourceVersion"]
    );
    let count = calls(&hook);
    assert_eq!(
        api.get(&two).await.expect(200)["spec"]["dimensions"]["width"],
        7
    );
    assert_eq!(calls(&hook), count);
}

#[tokio::test]
async fn admission_webhooks_get_the_version_that_they_ask_for() {
    let api = Api::start().await;
    let hook = converter().await;
    api.post(DEFINITIONS, definition(&hook, "v2"))
        .await
        .expect(201);
    wait_for(&api, V1).await;
    let admission = HookServer::start(|request| {
        assert_eq!(request["object"]["apiVersion"], "example.com/v1");
        let size: i64 = request["object"]["spec"]["size"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        patched(&json!([{"op": "replace", "path": "/spec/size", "value": (size + 1).to_string()}]))
    })
    .await;
    let judge = HookServer::start(
        |request| json!({"allowed": request["object"]["spec"]["dimensions"]["width"] != 6}),
    )
    .await;
    let hooks = configuration(
        "m",
        &[admission.hook("m.example.com", rule_of("example.com", "v1", "widgets"))],
    );
    api.post(MUTATING, hooks).await.expect(201);
    let hooks = configuration(
        "v",
        &[judge.hook("v.example.com", rule_of("example.com", "v2", "widgets"))],
    );
    api.post(VALIDATING, hooks).await.expect(201);
    let widget = json!({"apiVersion": "example.com/v2", "kind": "Widget", "metadata": {"name": "a"}, "spec": {"dimensions": {"width": 1}}});
    let made = api.post(V2, widget).await.expect(201);
    assert_eq!(made["spec"]["dimensions"]["width"], 2);
    let made = api.post(V1, v1("b", "3")).await.expect(201);
    assert_eq!(made["spec"]["size"], "4");
    api.post(V1, v1("c", "5")).await.expect(400);
}

#[tokio::test]
async fn a_conversion_is_described_whole() {
    let api = Api::start().await;
    let hook = converter().await;
    for (path, value, field) in [
        (
            "/spec/conversion/webhook",
            Value::Null,
            "spec.conversion.webhook.clientConfig",
        ),
        (
            "/spec/conversion/webhook/conversionReviewVersions",
            json!([]),
            "spec.conversion.webhook.conversionReviewVersions",
        ),
        (
            "/spec/conversion/webhook/conversionReviewVersions",
            json!(["v9"]),
            "spec.conversion.webhook.conversionReviewVersions",
        ),
        (
            "/spec/conversion/webhook/clientConfig/url",
            json!("http://a.example"),
            "spec.conversion.webhook.clientConfig.url",
        ),
        (
            "/spec/conversion/strategy",
            json!("None"),
            "spec.conversion.webhook",
        ),
        (
            "/spec/conversion/strategy",
            json!("Magic"),
            "spec.conversion.strategy",
        ),
    ] {
        let mut broken = definition(&hook, "v2");
        *broken.pointer_mut(path).unwrap() = value;
        let status = api.post(DEFINITIONS, broken).await.expect(422);
        assert_eq!(status["details"]["causes"][0]["field"], field, "{status}");
    }
}

/// As on the stock server: what is stored is a matter of conversion, what is taken one of the version that it is sent in.
#[tokio::test]
async fn an_object_is_judged_by_the_version_in_which_it_is_sent() {
    let api = Api::start().await;
    let hook = converter().await;
    api.post(DEFINITIONS, definition(&hook, "v2"))
        .await
        .expect(201);
    wait_for(&api, V1).await;
    // Too long for v1.
    let refused = api.post(V1, v1("a", "100000")).await.expect(422);
    assert_eq!(refused["details"]["causes"][0]["field"], "spec.size");
    // Short enough for v1, and too large for v2.
    api.post(V1, v1("a", "150")).await.expect(201);
    let two = format!("{V2}/a");
    let width = |width: i64| json!({"spec": {"dimensions": {"width": width}}});
    let refused = api.merge(&two, width(151)).await.expect(422);
    assert_eq!(
        refused["details"]["causes"][0]["field"],
        "spec.dimensions.width"
    );
    // What was wrong before and has not changed stays, in either version.
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    api.merge(&two, labels).await.expect(200);
    api.merge(&two, width(7)).await.expect(200);
    let one = format!("{V1}/a");
    api.merge(&one, json!({"spec": {"size": "100000"}}))
        .await
        .expect(422);
    assert_eq!(api.get(&one).await.expect(200)["spec"]["size"], "7");
    api.merge(
        &format!("{one}?dryRun=All"),
        json!({"spec": {"size": "900"}}),
    )
    .await
    .expect(200);
}

#[tokio::test]
async fn versions_that_differ_in_name_only_have_schemas_of_their_own() {
    let api = Api::start().await;
    let hook = converter().await;
    let mut body = definition(&hook, "v2");
    body["spec"]["conversion"] = json!({"strategy": "None"});
    for (at, rule) in [
        (0, "self.size > oldSelf.size"),
        (1, "self.size < oldSelf.size"),
    ] {
        body["spec"]["versions"][at]["schema"]["openAPIV3Schema"]["properties"]["spec"] = json!({"type": "object",
            "properties": {"size": {"type": "integer", "maximum": if at == 0 { 10 } else { 20 }}},
            "x-kubernetes-validations": [{"rule": rule}]});
    }
    api.post(DEFINITIONS, body).await.expect(201);
    wait_for(&api, V1).await;
    let widget = |version: &str, name: &str, size: i64| json!({"apiVersion": format!("example.com/{version}"), "kind": "Widget", "metadata": {"name": name}, "spec": {"size": size}});
    api.post(V1, widget("v1", "a", 15)).await.expect(422);
    api.post(V2, widget("v2", "a", 15)).await.expect(201);
    let (one, two) = (format!("{V1}/a"), format!("{V2}/a"));
    let size = |size: i64| json!({"spec": {"size": size}});
    // In v1 it only grows, up to 10; in v2 it only shrinks.
    api.merge(&two, size(16)).await.expect(422);
    api.merge(&two, size(5)).await.expect(200);
    api.merge(&one, size(4)).await.expect(422);
    api.merge(&one, size(11)).await.expect(422);
    let grown = api.merge(&one, size(9)).await.expect(200);
    assert_eq!(grown["apiVersion"], "example.com/v1");
    api.merge(&two, size(10)).await.expect(422);
}

/// What a selector looks at is as the version of the request has it, and only what that version lets be selected.
#[tokio::test]
async fn field_selectors_look_at_the_version_of_the_request() {
    let api = Api::start().await;
    let hook = converter().await;
    let mut body = definition(&hook, "v1");
    for (at, path) in [(0, ".spec.size"), (1, ".spec.dimensions.width")] {
        body["spec"]["versions"][at]["selectableFields"] = json!([{"jsonPath": path}]);
    }
    api.post(DEFINITIONS, body).await.expect(201);
    wait_for(&api, V2).await;
    let by_width = format!("{V2}?fieldSelector=spec.dimensions.width%3D7");
    let by_size = format!("{V1}?fieldSelector=spec.size%3D7");
    let mut widths = api.watch(&format!("{by_width}&watch=true")).await;
    let mut sizes = api.watch(&format!("{by_size}&watch=true")).await;
    for (name, size) in [("a", "7"), ("b", "8"), ("c", "7"), ("d", "7")] {
        api.post(V1, v1(name, size)).await.expect(201);
    }
    for path in [&by_width, &by_size] {
        let list = api.get(path).await.expect(200);
        assert_eq!(names(&list), ["a", "c", "d"], "{path}");
        // Page by page, too.
        let page = api.get(&format!("{path}&limit=2")).await.expect(200);
        assert_eq!(names(&page), ["a", "c"], "{path}");
        let token = page["metadata"]["continue"].as_str().unwrap();
        let rest = api
            .get(&format!("{path}&limit=2&continue={token}"))
            .await
            .expect(200);
        assert_eq!(names(&rest), ["d"], "{path}");
    }
    let other = format!("{V2}?fieldSelector=spec.dimensions.width%21%3D7,metadata.name%3Db");
    assert_eq!(names(&api.get(&other).await.expect(200)), ["b"]);
    let metadata = [(
        "accept",
        "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
    )];
    let list = api.raw("GET", &by_width, &metadata, "").await.expect(200);
    assert_eq!(names(&list), ["a", "c", "d"]);
    for (path, field) in [(V2, "spec.size"), (V1, "spec.dimensions.width")] {
        for watch in ["", "&watch=true"] {
            let path = format!("{path}?fieldSelector={field}%3D7{watch}");
            let refused = api.get(&path).await.expect(400);
            assert_eq!(
                refused["message"],
                format!("field label not supported: {field}")
            );
        }
    }
    // A watch that begins with what there is.
    let initial = "&watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";
    let mut late = api.watch(&format!("{by_width}{initial}")).await;
    let added = |name: &str| ("ADDED".to_owned(), name.to_owned());
    for watch in [&mut widths, &mut sizes, &mut late] {
        for name in ["a", "c", "d"] {
            assert_eq!(watch.told().await, added(name));
        }
    }
    // What leaves the selection is told as it was when it was selected, at the revision of the change.
    let left = api
        .merge(&format!("{V1}/a"), json!({"spec": {"size": "9"}}))
        .await
        .expect(200);
    let gone = widths.next().await.unwrap();
    assert_eq!(
        (&gone["type"], &gone["object"]["spec"]),
        (&json!("DELETED"), &json!({"dimensions": {"width": 7}}))
    );
    assert_eq!(
        gone["object"]["metadata"]["resourceVersion"],
        left["metadata"]["resourceVersion"]
    );
    let gone = sizes.next().await.unwrap();
    assert_eq!(
        (&gone["type"], &gone["object"]["spec"]),
        (&json!("DELETED"), &json!({"size": "7"}))
    );
    // A collection that is deleted by it.
    let gone = api
        .delete(&format!(
            "{V2}?fieldSelector=spec.dimensions.width%3D7,metadata.name%21%3Dd"
        ))
        .await;
    assert_eq!(names(&gone.expect(200)), ["c"]);
    let deleted = widths.next().await.unwrap();
    assert_eq!(
        (&deleted["type"], &deleted["object"]["metadata"]["name"]),
        (&json!("DELETED"), &json!("c"))
    );
    assert_eq!(names(&api.get(V2).await.expect(200)), ["a", "b", "d"]);
}
