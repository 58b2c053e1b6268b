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

/// A definition with this schema of `spec`.
fn with_spec(spec: Value) -> Value {
    let mut body = definition("example.com", "widgets", "Widget");
    body["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] = spec;
    body["spec"]["versions"][0]["additionalPrinterColumns"] = json!([]);
    body
}

async fn define(api: &Api, body: Value) {
    api.post(DEFINITIONS, body).await.expect(201);
    wait_for(api, WIDGETS, 200).await;
}

fn widget(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn broken_definitions_are_refused() {
    let api = Api::start().await;
    for (spec, message) in [
        (json!({"type": "frob"}), "Unsupported value: \"frob\""),
        (
            json!({"properties": {"a": {"type": "string"}}}),
            "must not be empty for specified object fields",
        ),
        (
            json!({"type": "string", "pattern": "("}),
            "must be a valid regular expression, but isn't: error parsing regexp: missing closing ): `(`",
        ),
        (
            json!({"type": "integer", "default": "a"}),
            "must be of type integer: \"string\"",
        ),
        (
            json!({"type": "object", "x-kubernetes-validations": [{"rule": "self.x > 0"}]}),
            "undefined field 'x'",
        ),
        (
            json!({"type": "object", "anyOf": [{"type": "object"}]}),
            "must be empty to be structural",
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "x-kubernetes-validations": [{"rule": "self.all(a, self.all(b, a == b))"}]}),
            "estimated rule cost exceeds budget by factor of more than 100x",
        ),
    ] {
        let refused = api
            .post(DEFINITIONS, with_spec(spec.clone()))
            .await
            .expect(422);
        let text = refused["message"].as_str().unwrap();
        assert!(text.contains(message), "{spec}: {text}");
    }
    let mut kept = with_spec(json!({"type": "object"}));
    kept["spec"]["preserveUnknownFields"] = json!(true);
    let refused = api.post(DEFINITIONS, kept).await.expect(422);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("spec.preserveUnknownFields: Invalid value: true: cannot set to true")
    );
    let mut unknown = with_spec(json!({"type": "string", "format": "made-up"}));
    unknown["spec"]["versions"][0]["subresources"] =
        json!({"scale": {"specReplicasPath": ".x", "statusReplicasPath": ""}});
    let refused = api.post(DEFINITIONS, unknown.clone()).await.expect(422);
    assert_eq!(
        refused["details"]["causes"].as_array().unwrap().len(),
        2,
        "{refused}"
    );
    unknown["spec"]["versions"][0]["subresources"] = json!({});
    let made = api.post(DEFINITIONS, unknown).await;
    assert_eq!(
        (made.code, made.warnings()),
        (
            201,
            vec!["299 - \"unrecognized format \\\"made-up\\\"\"".to_owned()]
        )
    );
}

#[tokio::test]
async fn what_a_schema_demands_is_enforced() {
    let api = Api::start().await;
    define(&api, with_spec(json!({"type": "object",
        "x-kubernetes-validations": [
            {"rule": "self.min <= self.max", "messageExpression": "'%d is above %d'.format([self.min, self.max])", "fieldPath": ".min"},
            {"rule": "self.max >= oldSelf.max", "message": "max must not shrink"}],
        "properties": {
            "min": {"type": "integer", "default": 0}, "max": {"type": "integer", "default": 9},
            "color": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5},
            "at": {"type": "string", "format": "date-time"},
            "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"],
                "items": {"type": "object", "required": ["port"], "properties": {"port": {"type": "integer"}, "name": {"type": "string"}}}}}}))).await;
    for (spec, field, message) in [
        (
            json!({"min": 10}),
            "spec.min",
            "Invalid value: 10 is above 9",
        ),
        (
            json!({"color": "Red"}),
            "spec.color",
            "Invalid value: \"Red\": spec.color in body should match '^[a-z]+$'",
        ),
        (
            json!({"color": "purple"}),
            "spec.color",
            "Too long: may not be more than 5 bytes",
        ),
        (
            json!({"at": "noon"}),
            "spec.at",
            "Invalid value: \"noon\": spec.at in body must be of type datetime: \"noon\"",
        ),
        (
            json!({"ports": [{"port": 1}, {"port": 1}]}),
            "spec.ports[1]",
            "Duplicate value: {\"port\":1}",
        ),
        (
            json!({"ports": [{}]}),
            "spec.ports[0].port",
            "Required value",
        ),
    ] {
        let refused = api
            .post(WIDGETS, widget("w", spec.clone()))
            .await
            .expect(422);
        let cause = &refused["details"]["causes"][0];
        assert_eq!(
            (cause["field"].as_str(), cause["message"].as_str()),
            (Some(field), Some(message)),
            "{spec}"
        );
    }
    api.post(WIDGETS, widget("w", json!({}))).await.expect(201);
    let path = format!("{WIDGETS}/w");
    let refused = api
        .merge(&path, json!({"spec": {"max": 8}}))
        .await
        .expect(422);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("max must not shrink")
    );
    api.merge(&path, json!({"spec": {"max": 10}}))
        .await
        .expect(200);
    // A stricter schema: what is there may stay, what changes must fit.
    api.merge(&path, json!({"spec": {"color": "red"}}))
        .await
        .expect(200);
    let definition = format!("{DEFINITIONS}/widgets.example.com");
    let mut stricter = api.get(&definition).await.expect(200);
    stricter["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
        ["color"]["pattern"] = json!("^b");
    let before = stricter["metadata"]["resourceVersion"].clone();
    api.put(&definition, &stricter).await.expect(200);
    let until = tokio::time::Instant::now() + PATIENCE;
    while api
        .merge(
            &format!("{path}?dryRun=All"),
            json!({"spec": {"color": "green"}}),
        )
        .await
        .code
        != 422
    {
        assert!(
            tokio::time::Instant::now() < until,
            "the schema of {before} is still served"
        );
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    api.merge(&path, json!({"spec": {"max": 11}}))
        .await
        .expect(200);
}

#[tokio::test]
async fn scale_follows_the_paths_of_the_definition() {
    let api = Api::start().await;
    let mut body = with_spec(
        json!({"type": "object", "properties": {"nodes": {"type": "integer", "maximum": 5}}}),
    );
    body["spec"]["versions"][0]["subresources"]["scale"] = json!({"specReplicasPath": ".spec.nodes", "statusReplicasPath": ".status.ready", "labelSelectorPath": ".status.selector"});
    define(&api, body).await;
    api.post(WIDGETS, widget("w", json!({"nodes": 2})))
        .await
        .expect(201);
    let path = format!("{WIDGETS}/w");
    api.merge(
        &format!("{path}/status"),
        json!({"status": {"ready": 1, "selector": "a=b"}}),
    )
    .await
    .expect(200);
    let scale = api.get(&format!("{path}/scale")).await.expect(200);
    assert_eq!(
        (&scale["kind"], &scale["apiVersion"]),
        (&json!("Scale"), &json!("autoscaling/v1"))
    );
    assert_eq!(
        (&scale["spec"], &scale["status"]),
        (
            &json!({"replicas": 2}),
            &json!({"replicas": 1, "selector": "a=b"})
        )
    );
    let changed = api
        .merge(&format!("{path}/scale"), json!({"spec": {"replicas": 4}}))
        .await
        .expect(200);
    assert_eq!(changed["spec"]["replicas"], 4);
    let widget_now = api.get(&path).await.expect(200);
    assert_eq!(
        (
            &widget_now["spec"]["nodes"],
            &widget_now["metadata"]["generation"]
        ),
        (&json!(4), &json!(2))
    );
    assert_eq!(widget_now["status"]["ready"], 1);
    assert_eq!(
        api.merge(&format!("{path}/scale"), json!({"spec": {"replicas": 6}}))
            .await
            .code,
        422
    );
    let found = api.get("/apis/example.com/v1").await.expect(200);
    assert!(
        found["resources"]
            .as_array()
            .unwrap()
            .iter()
            .any(|r| r["name"] == "widgets/scale" && r["kind"] == "Scale")
    );
}

#[tokio::test]
async fn selectable_fields_select() {
    let api = Api::start().await;
    let mut body = with_spec(
        json!({"type": "object", "properties": {"color": {"type": "string"}, "on": {"type": "boolean"}}}),
    );
    body["spec"]["versions"][0]["selectableFields"] =
        json!([{"jsonPath": ".spec.color"}, {"jsonPath": ".spec.on"}]);
    define(&api, body).await;
    for (name, spec) in [
        ("a", json!({"color": "red", "on": true})),
        ("b", json!({"color": "blue", "on": false})),
        ("c", json!({})),
    ] {
        api.post(WIDGETS, widget(name, spec)).await.expect(201);
    }
    for (selector, expected) in [
        ("spec.color=red", vec!["a"]),
        ("spec.color!=red", vec!["b", "c"]),
        ("spec.on=true", vec!["a"]),
        ("spec.color=", vec!["c"]),
        ("spec.color=blue,metadata.name=b", vec!["b"]),
    ] {
        let found = names(
            &api.get(&format!("{WIDGETS}?fieldSelector={selector}"))
                .await
                .expect(200),
        );
        assert_eq!(found, expected, "{selector}");
    }
    assert_eq!(
        api.get(&format!("{WIDGETS}?fieldSelector=spec.size=1"))
            .await
            .code,
        400
    );
    // A field that becomes selectable later finds what is there.
    let definition = format!("{DEFINITIONS}/widgets.example.com");
    let mut fewer = api.get(&definition).await.expect(200);
    fewer["spec"]["versions"][0]["selectableFields"] = json!([{"jsonPath": ".spec.on"}]);
    api.put(&definition, &fewer).await.expect(200);
    wait_for(
        &api,
        &format!("{WIDGETS}?fieldSelector=spec.color=red"),
        400,
    )
    .await;
    assert_eq!(
        names(
            &api.get(&format!("{WIDGETS}?fieldSelector=spec.on=false"))
                .await
                .expect(200)
        ),
        ["b"]
    );
}

#[tokio::test]
async fn columns_filter_by_jsonpath() {
    let api = Api::start().await;
    let mut body = with_spec(json!({"type": "object"}));
    body["spec"]["versions"][0]["additionalPrinterColumns"] = json!([{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"}]);
    define(&api, body).await;
    api.post(WIDGETS, widget("w", json!({}))).await.expect(201);
    let conditions =
        json!([{"type": "Synced", "status": "False"}, {"type": "Ready", "status": "True"}]);
    api.merge(
        &format!("{WIDGETS}/w/status"),
        json!({"status": {"conditions": conditions}}),
    )
    .await
    .expect(200);
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = api.raw("GET", WIDGETS, &accept, "").await.expect(200);
    assert_eq!(table["rows"][0]["cells"], json!(["w", "True"]));
}

#[tokio::test]
async fn apply_merges_lists_by_the_schema() {
    let api = Api::start().await;
    define(&api, with_spec(json!({"type": "object", "properties": {
        "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "protocol"],
            "items": {"type": "object", "required": ["port"], "properties": {"port": {"type": "integer"}, "protocol": {"type": "string", "default": "TCP"}, "name": {"type": "string"}}}},
        "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "plain": {"type": "array", "items": {"type": "string"}}}}))).await;
    let path = |manager: &str| format!("{WIDGETS}/w?fieldManager={manager}");
    let apply = [("content-type", "application/apply-patch+yaml")];
    let one = widget(
        "w",
        json!({"ports": [{"port": 80, "name": "http"}], "tags": ["a"], "plain": ["x"]}),
    );
    api.raw("PATCH", &path("one"), &apply, one.to_string())
        .await
        .expect(201);
    let two = widget(
        "w",
        json!({"ports": [{"port": 443, "name": "https"}], "tags": ["b"]}),
    );
    let both = api
        .raw("PATCH", &path("two"), &apply, two.to_string())
        .await
        .expect(200);
    let mut ports: Vec<i64> = both["spec"]["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["port"].as_i64().unwrap())
        .collect();
    ports.sort_unstable();
    assert_eq!(ports, [80, 443]);
    assert_eq!(both["spec"]["tags"].as_array().unwrap().len(), 2);
    // Somebody else's item is a conflict, and so is a list that is atomic.
    for taken in [
        json!({"ports": [{"port": 80, "name": "web"}]}),
        json!({"plain": ["y"]}),
    ] {
        let refused = api
            .raw(
                "PATCH",
                &path("two"),
                &apply,
                widget("w", taken).to_string(),
            )
            .await;
        assert_eq!(refused.code, 409, "{}", refused.text);
    }
    let fewer = widget("w", json!({"tags": ["b"]}));
    let left = api
        .raw("PATCH", &path("two"), &apply, fewer.to_string())
        .await
        .expect(200);
    assert_eq!(
        left["spec"]["ports"],
        json!([{"port": 80, "name": "http", "protocol": "TCP"}])
    );
}

#[tokio::test]
async fn a_definition_waits_for_its_objects() {
    let api = Api::start().await;
    define(&api, with_spec(json!({"type": "object"}))).await;
    let mut kept = widget("kept", json!({}));
    kept["metadata"]["finalizers"] = json!(["example.com/keep"]);
    api.post(WIDGETS, kept).await.expect(201);
    api.post(WIDGETS, widget("free", json!({})))
        .await
        .expect(201);
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let going = api.delete(&path).await.expect(200);
    assert_eq!(
        going["metadata"]["finalizers"],
        json!(["customresourcecleanup.apiextensions.k8s.io"])
    );
    assert_eq!(
        condition(&api, "widgets.example.com", "Terminating").await,
        "True"
    );
    wait_for(&api, &format!("{WIDGETS}/free"), 404).await;
    let until = tokio::time::Instant::now() + PATIENCE;
    while !api.get(&format!("{WIDGETS}/kept")).await.expect(200)["metadata"]["deletionTimestamp"]
        .is_string()
    {
        assert!(tokio::time::Instant::now() < until);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    // Nothing new is made while it goes.
    let until = tokio::time::Instant::now() + PATIENCE;
    while api
        .post(&format!("{WIDGETS}?dryRun=All"), widget("new", json!({})))
        .await
        .code
        != 405
    {
        assert!(tokio::time::Instant::now() < until);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    api.merge(
        &format!("{WIDGETS}/kept"),
        json!({"metadata": {"finalizers": null}}),
    )
    .await
    .expect(200);
    wait_for(&api, &path, 404).await;
    wait_for(&api, WIDGETS, 404).await;
}

#[tokio::test]
async fn defaults_that_come_later_are_seen_in_what_is_stored() {
    let api = Api::start().await;
    define(
        &api,
        with_spec(json!({"type": "object", "properties": {"a": {"type": "string"}}})),
    )
    .await;
    api.post(WIDGETS, widget("w", json!({"a": "x"})))
        .await
        .expect(201);
    let definition = format!("{DEFINITIONS}/widgets.example.com");
    let change = json!([{"op": "add", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/b",
        "value": {"type": "string", "default": "later"}}]);
    let json_patch = [("content-type", "application/json-patch+json")];
    api.raw("PATCH", &definition, &json_patch, change.to_string())
        .await
        .expect(200);
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let seen = api.get(&format!("{WIDGETS}/w")).await.expect(200);
        if seen["spec"] == json!({"a": "x", "b": "later"}) {
            break;
        }
        assert!(tokio::time::Instant::now() < until, "{seen}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let listed = api.get(WIDGETS).await.expect(200);
    assert_eq!(listed["items"][0]["spec"]["b"], "later");
    let changed = api
        .merge(&format!("{WIDGETS}/w"), json!({"spec": {"a": "y"}}))
        .await
        .expect(200);
    assert_eq!(changed["spec"], json!({"a": "y", "b": "later"}));
}

#[tokio::test]
async fn a_stored_version_stays_in_the_definition() {
    let api = Api::start().await;
    let mut body = definition("example.com", "widgets", "Widget");
    let mut newer = body["spec"]["versions"][0].clone();
    newer["name"] = json!("v2");
    newer["storage"] = json!(false);
    body["spec"]["versions"].as_array_mut().unwrap().push(newer);
    define(&api, body).await;
    api.post(WIDGETS, widget("w", json!({"size": 1})))
        .await
        .expect(201);
    let other = api
        .get("/apis/example.com/v2/namespaces/default/widgets/w")
        .await
        .expect(200);
    assert_eq!(
        (&other["apiVersion"], &other["spec"]["size"]),
        (&json!("example.com/v2"), &json!(1))
    );
    let path = format!("{DEFINITIONS}/widgets.example.com");
    condition(&api, "widgets.example.com", "Established").await;
    let mut without = api.get(&path).await.expect(200);
    without["spec"]["versions"] = json!([without["spec"]["versions"][1].clone()]);
    without["spec"]["versions"][0]["storage"] = json!(true);
    let refused = api.put(&path, &without).await.expect(422);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("v1 was previously a storage version"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_definition_that_comes_again_is_enforced_as_it_is_now() {
    let api = Api::start().await;
    let path = format!("{DEFINITIONS}/widgets.example.com");
    for (largest, refused) in [(3, 4), (9, 10)] {
        let mut definition = definition("example.com", "widgets", "Widget");
        let size =
            "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/size/maximum";
        crate::kinds::set(&mut definition, size, &json!(largest));
        api.post(DEFINITIONS, definition).await.expect(201);
        assert_eq!(
            condition(&api, "widgets.example.com", "Established").await,
            "True"
        );
        wait_for(&api, WIDGETS, 200).await;
        // The status of a definition is written again and again; its schema stays.
        api.merge(&path, json!({"metadata": {"annotations": {"n": "1"}}}))
            .await
            .expect(200);
        for (size, code) in [(largest, 201), (refused, 422)] {
            let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget",
                "metadata": {"name": format!("w{size}")}, "spec": {"size": size}});
            let answer = api.post(WIDGETS, widget).await;
            assert_eq!(answer.code, code, "{}", answer.text);
        }
        // A schema that changes counts at once, for as long as the rest does.
        let versions = api.get(&path).await.expect(200)["spec"]["versions"].clone();
        let mut changed = json!({"spec": {"versions": versions}});
        crate::kinds::set(&mut changed, size, &json!(100));
        api.merge(&path, changed).await.expect(200);
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget",
                "metadata": {"name": "large"}, "spec": {"size": 50}});
            if api.post(WIDGETS, widget).await.code == 201 {
                break;
            }
            assert!(tokio::time::Instant::now() < until, "still refused");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        api.delete(&path).await.expect(200);
        wait_for(&api, WIDGETS, 404).await;
        wait_for(&api, &path, 404).await;
    }
}

#[tokio::test]
async fn a_definition_more_writes_nothing_of_the_others() {
    let api = Api::start().await;
    for n in 0..5 {
        let group = format!("g{n}.example.com");
        api.post(DEFINITIONS, definition(&group, "widgets", "Widget"))
            .await
            .expect(201);
        let established = condition(&api, &format!("widgets.{group}"), "Established").await;
        assert_eq!(established, "True");
    }
    let versions = |list: Value| -> Vec<Value> {
        let items = list["items"].as_array().unwrap().iter();
        items
            .filter(|d| d["metadata"]["name"] != "widgets.more.example.com")
            .map(|d| d["metadata"]["resourceVersion"].clone())
            .collect()
    };
    let before = versions(api.get(DEFINITIONS).await.expect(200));
    let more = definition("more.example.com", "widgets", "Widget");
    api.post(DEFINITIONS, more).await.expect(201);
    let established = condition(&api, "widgets.more.example.com", "Established").await;
    assert_eq!(established, "True");
    assert_eq!(versions(api.get(DEFINITIONS).await.expect(200)), before);
}
