//! What is wrong with a request itself: its options, its fields, its patch. Each as the stock server answers.

use serde_json::{Value, json};

use crate::harness::{Api, CLASSES, PODS, class, pod};

const MERGE: &str = "application/merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// Reason and causes of an answer that is a Status.
fn causes(answer: &Value) -> (String, Vec<String>) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let causes = answer["details"]["causes"].as_array().cloned();
    let causes = causes.unwrap_or_default();
    let causes = causes
        .iter()
        .map(|c| format!("{} {}", text(&c["reason"]), text(&c["field"])));
    (text(&answer["reason"]), causes.collect())
}

#[tokio::test]
async fn keys_that_are_there_twice() {
    let api = Api::start().await;
    let twice = r#"{"apiVersion":"node.k8s.io/v1","kind":"RuntimeClass","metadata":{"name":"a"},"frob":1,"handler":"x","handler":"runc"}"#;
    let send = async |query: &str, kind: &str, body: &'static str| {
        let path = format!("{CLASSES}?dryRun=All{query}");
        api.raw("POST", &path, &[("content-type", kind)], body)
            .await
    };
    let strict = send("&fieldValidation=Strict", "application/json", twice).await;
    let refused = strict.expect(400);
    let message = refused["message"].as_str().unwrap();
    assert!(
        message
            .ends_with(r#"strict decoding error: unknown field "frob", duplicate field "handler""#),
        "{message}"
    );
    let warned = send("", "application/json", twice).await;
    assert_eq!(
        warned.warnings(),
        [
            r#"299 - "unknown field \"frob\"""#,
            r#"299 - "duplicate field \"handler\"""#
        ]
    );
    assert_eq!(warned.expect(201)["handler"], "runc", "the last one stays");
    let ignored = send("&fieldValidation=Ignore", "application/json", twice).await;
    assert_eq!((ignored.code, ignored.warnings()), (201, vec![]));
    let yaml = "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: a, name: a}\nhandler: runc\nfrob: 1\n";
    let warned = send("", "application/yaml", yaml).await;
    assert_eq!(warned.code, 201);
    assert_eq!(
        warned.warnings(),
        [
            r#"299 - "yaml: unmarshal errors:   line 3: key \"name\" already set in map""#,
            r#"299 - "unknown field \"frob\"""#
        ]
    );
    // Of a request for a subresource, too.
    api.post(PODS, pod("a")).await.expect(201);
    let binding =
        r#"{"metadata": {"name": "a"}, "zap": 1, "target": {"name": "m", "name": "n"}, "frob": 1}"#;
    let path = format!("{PODS}/a/binding?dryRun=All&fieldValidation=Strict");
    let headers = [("content-type", "application/json")];
    let refused = api.raw("POST", &path, &headers, binding).await.expect(400);
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.ends_with(r#"strict decoding error: unknown field "zap", duplicate field "target.name", unknown field "frob""#),
        "{message}"
    );
}

/// An applied configuration is YAML, whatever it is written in and whose object it is.
#[tokio::test]
async fn applied_configurations_name_the_lines_of_keys_that_are_there_twice() {
    let api = Api::start().await;
    let definition = json!({"metadata": {"name": "widgets.example.com"}, "spec": {"group": "example.com", "scope": "Cluster",
        "names": {"plural": "widgets", "kind": "Widget"}, "versions": [{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}}}]}});
    api.post(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        definition,
    )
    .await
    .expect(201);
    let widgets = "/apis/example.com/v1/widgets";
    let deadline = std::time::Instant::now() + crate::harness::PATIENCE;
    while api.get(widgets).await.code != 200 {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let widget = "apiVersion: example.com/v1\nkind: Widget\nmetadata:\n  name: a\nspec:\n  foo: 1\n  bar:\n  - 1\n  foo: 2\n";
    let class = "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata:\n  name: a\nhandler: runc\nhandler:\n  runc\n";
    for (path, body, said) in [
        (widgets, widget, r#"line 9: key "foo" already set in map"#),
        (
            CLASSES,
            class,
            r#"line 7: key "handler" already set in map"#,
        ),
    ] {
        let apply = async |validation: &str| {
            let path = format!("{path}/a?fieldManager=m&fieldValidation={validation}");
            api.raw("PATCH", &path, &[("content-type", APPLY)], body)
                .await
        };
        let refused = apply("Strict").await.expect(400);
        let whole = format!(
            "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  {said}"
        );
        assert_eq!(refused["message"], whole.as_str());
        let warned = apply("Warn").await;
        assert_eq!(warned.code, 201, "{}", warned.text);
        let warning = warned.warnings().join("");
        assert!(warning.contains(&said.replace('"', "\\\"")), "{warning}");
        assert_eq!(apply("Ignore").await.warnings(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn patches_that_do_not_fit() {
    let api = Api::start().await;
    api.post(CLASSES, class("a", "runc")).await.expect(201);
    let patch = vec!["FieldValueInvalid patch"];
    for (kind, query, body, code, reason, want) in [
        (
            MERGE,
            "",
            r#"{"handler": 1}"#,
            422,
            "Invalid",
            patch.clone(),
        ),
        (
            STRATEGIC,
            "",
            r#"{"overhead": {"podFixed": {"cpu": "x"}}}"#,
            422,
            "Invalid",
            patch.clone(),
        ),
        (
            JSON_PATCH,
            "",
            r#"[{"op": "add", "path": "/kind", "value": "Pod"}]"#,
            422,
            "Invalid",
            patch.clone(),
        ),
        (
            MERGE,
            "?fieldValidation=Strict",
            r#"{"frob": 1}"#,
            422,
            "Invalid",
            patch.clone(),
        ),
        (
            JSON_PATCH,
            "?fieldValidation=Strict",
            r#"[{"op": "test", "path": "/handler", "value": "runc", "frob": 1}]"#,
            422,
            "Invalid",
            patch,
        ),
        (
            MERGE,
            "?force=true",
            "{}",
            422,
            "Invalid",
            vec!["FieldValueForbidden force"],
        ),
        (
            APPLY,
            "",
            "{}",
            422,
            "Invalid",
            vec!["FieldValueRequired fieldManager"],
        ),
        (
            MERGE,
            "",
            r#"{"metadata": {"uid": "x"}}"#,
            422,
            "Invalid",
            vec!["FieldValueInvalid metadata.uid"],
        ),
        (STRATEGIC, "", r#"{"kind": "Pod"}"#, 200, "", vec![]),
        (
            MERGE,
            "",
            r#"{"metadata": null}"#,
            400,
            "BadRequest",
            vec![],
        ),
    ] {
        let path = format!("{CLASSES}/a{query}");
        let answer = api
            .raw("PATCH", &path, &[("content-type", kind)], body)
            .await;
        assert_eq!(answer.code, code, "{kind} {body}: {}", answer.text);
        let got = causes(&answer.json());
        assert_eq!(
            (got.0.as_str(), got.1),
            (reason, want.iter().map(ToString::to_string).collect()),
            "{kind} {body}"
        );
    }
}

#[tokio::test]
async fn applied_configurations_fit_their_type() {
    let api = Api::start().await;
    let apply = async |name: &str, more: Value| {
        let mut body = class(name, "runc");
        for (key, value) in more.as_object().unwrap() {
            body[key] = value.clone();
        }
        let path = format!("{CLASSES}/{name}?fieldManager=m");
        api.raw("PATCH", &path, &[("content-type", APPLY)], body.to_string())
            .await
    };
    for (more, code, part) in [
        (
            json!({"frob": 1}),
            500,
            ".frob: field not declared in schema",
        ),
        (
            json!({"handler": 1}),
            500,
            "failed to create typed patch object (/a; node.k8s.io/v1, Kind=RuntimeClass): .handler",
        ),
        (
            json!({"kind": "Pod"}),
            500,
            "no corresponding type for node.k8s.io/v1, Kind=Pod",
        ),
        (
            json!({"apiVersion": "node.k8s.io/v1beta1"}),
            400,
            "Incorrect version specified",
        ),
        (
            json!({"metadata": {"name": "a", "uid": "x"}}),
            409,
            "uid mismatch",
        ),
        (
            json!({"metadata": {"name": "a", "managedFields": [{}]}}),
            400,
            "metadata.managedFields must be nil",
        ),
        (json!({}), 201, ""),
    ] {
        let answer = apply("a", more.clone()).await;
        assert_eq!(answer.code, code, "{more}: {}", answer.text);
        assert!(answer.text.contains(part), "{more}: {}", answer.text);
    }
}

#[tokio::test]
async fn options_of_each_verb() {
    let api = Api::start().await;
    for name in ["a", "b", "c"] {
        api.post(CLASSES, class(name, "runc")).await.expect(201);
    }
    for (method, path, want) in [
        ("POST", "?dryRun=Some", "FieldValueNotSupported dryRun"),
        (
            "POST",
            "?fieldValidation=Odd",
            "FieldValueNotSupported fieldValidation",
        ),
        (
            "GET",
            "?resourceVersionMatch=Exact",
            "FieldValueForbidden resourceVersionMatch",
        ),
        (
            "GET",
            "?watch=true&sendInitialEvents=true",
            "FieldValueForbidden resourceVersionMatch",
        ),
        (
            "DELETE",
            "/a?propagationPolicy=Odd",
            "FieldValueNotSupported propagationPolicy",
        ),
        ("DELETE", "?dryRun=Some", "FieldValueNotSupported dryRun"),
    ] {
        let body = if method == "POST" {
            class("z", "runc").to_string()
        } else {
            String::new()
        };
        let answer = api
            .raw(method, &format!("{CLASSES}{path}"), &[], body)
            .await;
        let got = causes(&answer.expect(422));
        assert_eq!(
            got,
            ("Invalid".to_owned(), vec![want.to_owned()]),
            "{method} {path}"
        );
    }
    // Pages of a version are of that version, with resourceVersionMatch or without.
    let two = api.get(&format!("{CLASSES}?limit=2")).await.expect(200);
    let version = two["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned();
    api.delete(&format!("{CLASSES}/a")).await;
    let old = api
        .get(&format!("{CLASSES}?limit=1&resourceVersion={version}"))
        .await
        .expect(200);
    assert_eq!(old["items"][0]["metadata"]["name"], "a");
}

#[tokio::test]
async fn bindings_follow_the_rules_of_core() {
    let api = Api::start().await;
    let made = api.post(PODS, pod("a")).await.expect(201);
    let bind = async |metadata: Value, target: Value| {
        let body =
            json!({"apiVersion": "v1", "kind": "Binding", "metadata": metadata, "target": target});
        api.post(&format!("{PODS}/a/binding"), body).await
    };
    let name = || json!({"name": "a"});
    for (metadata, target, code, part) in [
        (
            name(),
            json!({"kind": "Pod", "name": "n"}),
            500,
            "target.kind: Unsupported value",
        ),
        (name(), json!({}), 500, "target.name: Required value"),
        (
            json!({"name": "b"}),
            json!({"name": "n"}),
            400,
            "name in URL does not match",
        ),
        (
            json!({"name": "a", "uid": "x"}),
            json!({"name": "n"}),
            409,
            "UID in precondition: x",
        ),
        (
            json!({"name": "a", "resourceVersion": "1"}),
            json!({"name": "n"}),
            409,
            "ResourceVersion in precondition: 1",
        ),
        (
            json!({"name": "a", "annotations": {"k": "v"}, "labels": {"zone": "z"}}),
            json!({"name": "n"}),
            201,
            "Success",
        ),
        (
            name(),
            json!({"name": "m"}),
            409,
            "already assigned to node \\\"n\\\"",
        ),
    ] {
        let answer = bind(metadata.clone(), target).await;
        assert_eq!(answer.code, code, "{metadata}: {}", answer.text);
        assert!(answer.text.contains(part), "{metadata}: {}", answer.text);
    }
    let bound = api.get(&format!("{PODS}/a")).await.expect(200);
    assert_eq!(bound["spec"]["nodeName"], "n");
    assert_eq!(bound["metadata"]["annotations"]["k"], "v");
    assert_eq!(bound["metadata"]["labels"]["zone"], "z");
    assert_eq!(bound["status"]["conditions"][0]["observedGeneration"], 1);
    assert_eq!(bound["metadata"]["uid"], made["metadata"]["uid"]);

    let path = format!("{PODS}/a/ephemeralcontainers");
    let add = |image: &str| {
        json!({"spec": {"ephemeralContainers": [{"name": "e", "image": image}]}}).to_string()
    };
    for (image, code) in [("i", 200), ("j", 422)] {
        let answer = api
            .raw("PATCH", &path, &[("content-type", MERGE)], add(image))
            .await;
        assert_eq!(answer.code, code, "{}", answer.text);
    }
}
