//! CustomResourceDefinitions that would take over what a built-in kind owns.

use berth_store::{Expect, Range, Store, Write, sqlite::Sqlite};
use serde_json::{Value, json};

use crate::harness::{Api, PATIENCE, RBAC, as_user, bind, names};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

fn definition(group: &str, plural: &str, kind: &str, short: &[&str]) -> Value {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")},
        "spec": {"group": group, "scope": "Namespaced",
            "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind, "listKind": format!("{kind}List"), "shortNames": short},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}})
}

fn widget(name: &str) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}})
}

/// The condition of a definition, once it is there: its status and reason.
async fn condition(api: &Api, name: &str, kind: &str) -> (String, String) {
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let object = api.get(&format!("{DEFINITIONS}/{name}")).await.expect(200);
        let conditions = object["status"]["conditions"].as_array();
        if let Some(found) = conditions.into_iter().flatten().find(|c| c["type"] == kind) {
            let text = |field: &str| found[field].as_str().unwrap().to_owned();
            return (text("status"), text("reason"));
        }
        assert!(tokio::time::Instant::now() < until, "{object}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

async fn wait_for(api: &Api, path: &str, code: u16) {
    let until = tokio::time::Instant::now() + PATIENCE;
    while api.get(path).await.code != code {
        let now = tokio::time::Instant::now();
        assert!(now < until, "{path} never answered {code}");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Somebody who may write definitions and nothing else.
async fn definer(api: &Api) {
    let role = json!({"metadata": {"name": "definer"}, "rules": [{"apiGroups": ["apiextensions.k8s.io"],
        "resources": ["customresourcedefinitions"], "verbs": ["create", "update", "patch", "delete"]}]});
    api.post(&format!("{RBAC}/clusterroles"), role)
        .await
        .expect(201);
    bind(api, "definer", "definer", "definer").await;
}

async fn define(api: &Api, body: Value) -> u16 {
    as_user(api, "definer", &[], "POST", DEFINITIONS, Some(body))
        .await
        .code
}

#[tokio::test]
async fn no_definition_in_a_group_of_the_servers_own() {
    let api = Api::start().await;
    definer(&api).await;
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"k": "v"}});
    api.post(SECRETS, secret).await.expect(201);
    for (group, plural, kind) in [
        ("core", "secrets", "Secret"),
        ("core", "widgets", "Widget"),
        ("", "secrets", "Secret"),
        ("custom", "secrets", "Secret"),
        ("apps", "deployments", "Deployment"),
        ("node.k8s.io", "runtimeclasses", "RuntimeClass"),
        ("node.k8s.io", "widgets", "Widget"),
        ("rbac.authorization.k8s.io", "clusterroles", "ClusterRole"),
    ] {
        let mut body = definition(group, plural, kind, &[]);
        body["metadata"]["annotations"] = json!({"api-approved.kubernetes.io": "unapproved"});
        assert_eq!(define(&api, body).await, 422, "{plural}.{group}");
    }
    for path in ["/apis/core/v1/namespaces/default/secrets", "/apis/core/v1"] {
        assert_eq!(api.get(path).await.code, 404, "{path}");
    }
    assert_eq!(names(&api.get(SECRETS).await.expect(200)), ["s"]);
    for class in [
        "/apis/node.k8s.io/v1/runtimeclasses",
        "/apis/node.k8s.io/v1alpha1/runtimeclasses",
    ] {
        assert_eq!(api.get(class).await.code, 200, "{class}");
    }
}

#[tokio::test]
async fn the_communitys_groups_need_their_annotation() {
    let api = Api::start().await;
    definer(&api).await;
    let with = |annotation: Option<&str>| {
        let mut body = definition("gateway.networking.k8s.io", "gateways", "Gateway", &[]);
        if let Some(text) = annotation {
            body["metadata"]["annotations"] = json!({"api-approved.kubernetes.io": text});
        }
        body
    };
    assert_eq!(define(&api, with(None)).await, 422);
    assert_eq!(define(&api, with(Some("trust me"))).await, 422);
    let approved = with(Some(
        "https://github.com/kubernetes-sigs/gateway-api/pull/1",
    ));
    assert_eq!(define(&api, approved).await, 201);
    let name = "gateways.gateway.networking.k8s.io";
    let conforms = condition(&api, name, "KubernetesAPIApprovalPolicyConformant").await;
    assert_eq!(conforms.0, "True");
    let path = format!("{DEFINITIONS}/{name}");
    let removal = json!({"metadata": {"annotations": {"api-approved.kubernetes.io": null}}});
    assert_eq!(api.merge(&path, removal).await.code, 422);
}

#[tokio::test]
async fn a_name_of_another_definition_is_not_taken_over() {
    let api = Api::start().await;
    api.post(
        DEFINITIONS,
        definition("example.com", "widgets", "Widget", &["wd"]),
    )
    .await
    .expect(201);
    wait_for(&api, WIDGETS, 200).await;
    for (plural, kind, short, reason) in [
        ("gadgets", "Gadget", "wd", "ShortNamesConflict"),
        ("wd", "Other", "o", "PluralConflict"),
        ("gizmos", "Widget", "g", "ListKindConflict"),
    ] {
        let body = definition("example.com", plural, kind, &[short]);
        api.post(DEFINITIONS, body).await.expect(201);
        let name = format!("{plural}.example.com");
        let wanted = ("False".to_owned(), reason.to_owned());
        assert_eq!(condition(&api, &name, "NamesAccepted").await, wanted);
        assert_eq!(condition(&api, &name, "Established").await.0, "False");
        let path = format!("/apis/example.com/v1/namespaces/default/{plural}");
        assert_eq!(api.get(&path).await.code, 404);
    }
    let gadgets = "/apis/example.com/v1/namespaces/default/gadgets";
    api.delete(&format!("{DEFINITIONS}/widgets.example.com"))
        .await
        .expect(200);
    wait_for(&api, gadgets, 200).await;
}

async fn open(dir: &std::path::Path) -> Sqlite {
    Sqlite::open(dir).await.unwrap()
}

async fn keys(store: &Sqlite, prefix: &str) -> Vec<String> {
    let range = Range {
        prefix: prefix.to_owned(),
        ..Range::default()
    };
    let page = store.range(range).await.unwrap();
    page.items.into_iter().map(|kv| kv.key).collect()
}

async fn write(store: &Sqlite, key: &str, value: &Value) {
    let write = Write {
        key: key.to_owned(),
        expect: Expect::Absent,
        value: Some(value.to_string().into()),
    };
    store.transact(vec![write]).await.unwrap();
}

#[tokio::test]
async fn custom_resources_have_keys_of_their_own_and_old_ones_are_moved_there() {
    let dir = tempfile::tempdir().unwrap();
    let api = Api::start_in(dir.path()).await;
    api.post(
        DEFINITIONS,
        definition("example.com", "widgets", "Widget", &[]),
    )
    .await
    .expect(201);
    wait_for(&api, WIDGETS, 200).await;
    api.post(WIDGETS, widget("new")).await.expect(201);
    api.stop().await;
    let own = "/registry/custom/example.com/widgets/default/new";
    {
        let store = open(dir.path()).await;
        assert_eq!(keys(&store, "/registry/custom/").await, [own]);
        for n in 0..120 {
            let mut old = widget(&format!("old-{n:03}"));
            old["metadata"]["namespace"] = json!("default");
            old["metadata"]["uid"] = json!(format!("uid-{n}"));
            let key = format!("/registry/example.com/widgets/default/old-{n:03}");
            write(&store, &key, &old).await;
        }
        // this one is under its new key already: neither is lost
        let mut twice = widget("new");
        twice["metadata"]["namespace"] = json!("default");
        write(&store, "/registry/example.com/widgets/default/new", &twice).await;
    }
    let api = Api::start_in(dir.path()).await;
    wait_for(&api, WIDGETS, 200).await;
    let all = names(&api.get(WIDGETS).await.expect(200));
    assert_eq!(all.len(), 121, "{all:?}");
    let moved = api.get(&format!("{WIDGETS}/old-119")).await.expect(200);
    assert_eq!(moved["metadata"]["uid"], "uid-119");
    api.delete(&format!("{WIDGETS}/old-000")).await.expect(200);
    api.stop().await;
    let store = open(dir.path()).await;
    let left = keys(&store, "/registry/example.com/").await;
    assert_eq!(left, ["/registry/example.com/widgets/default/new"]);
    assert_eq!(keys(&store, "/registry/custom/").await.len(), 120);
}

/// Older versions took such a definition: its "objects" were the built-in kind's, and went with it.
#[tokio::test]
async fn an_old_definition_of_a_built_in_kind_is_without_effect() {
    let dir = tempfile::tempdir().unwrap();
    let api = Api::start_in(dir.path()).await;
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"k": "v"}});
    api.post(SECRETS, secret).await.expect(201);
    api.stop().await;
    let old = [
        ("core", "secrets", "Secret"),
        ("node.k8s.io", "runtimeclasses", "RuntimeClass"),
    ];
    {
        let store = open(dir.path()).await;
        for (group, plural, kind) in old {
            let mut body = definition(group, plural, kind, &[]);
            body["metadata"]["uid"] = json!("old");
            let key = format!(
                "/registry/apiextensions.k8s.io/customresourcedefinitions/{plural}.{group}"
            );
            write(&store, &key, &body).await;
        }
    }
    let api = Api::start_in(dir.path()).await;
    let refused = condition(&api, "runtimeclasses.node.k8s.io", "NamesAccepted").await;
    assert_eq!(refused.0, "False");
    let served = "/apis/core/v1/namespaces/default/secrets";
    wait_for(&api, served, 200).await;
    let seen = names(&api.get(served).await.expect(200));
    assert_eq!(
        seen,
        Vec::<String>::new(),
        "the server's own secrets are not shown"
    );
    for (group, plural, _) in old {
        api.delete(&format!("{DEFINITIONS}/{plural}.{group}"))
            .await
            .expect(200);
    }
    // the deletions have been worked on when a later definition is served
    api.post(
        DEFINITIONS,
        definition("example.com", "widgets", "Widget", &[]),
    )
    .await
    .expect(201);
    wait_for(&api, WIDGETS, 200).await;
    wait_for(&api, served, 404).await;
    assert_eq!(names(&api.get(SECRETS).await.expect(200)), ["s"]);
    assert_eq!(
        api.get("/apis/node.k8s.io/v1/runtimeclasses").await.code,
        200
    );
}

fn with_schema(schema: Value) -> Value {
    let mut body = definition("example.com", "widgets", "Widget", &[]);
    body["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = schema;
    body
}

/// Whoever may define kinds and make objects of them stalls nobody: neither with definitions nor with objects.
#[tokio::test]
async fn rules_of_a_definition_stall_nobody() {
    let api = Api::start().await;
    definer(&api).await;
    let deep = |rule: &str| {
        with_schema(
            json!({"type": "object", "properties": {"spec": {"type": "string", "maxLength": 10,
            "x-kubernetes-validations": [{"rule": rule, "message": "m"}]}}}),
        )
    };
    let begun = std::time::Instant::now();
    for rule in [
        format!("{}true", "(".repeat(50_000)),
        format!("true{}", " && (self == 'a')".repeat(5_000)),
        format!("self{}", ".a".repeat(40_000)),
        format!("[1]{}.size() == 1", ".map(x, {x: x})".repeat(60)),
        "self.matches('((a{1000}){1000}){1000}')".to_owned(),
        "a".repeat(200_000),
    ] {
        let code = define(&api, deep(&rule)).await;
        assert!(matches!(code, 201 | 409 | 422), "{code}");
    }
    api.delete(&format!("{DEFINITIONS}/widgets.example.com"))
        .await;
    wait_for(&api, &format!("{DEFINITIONS}/widgets.example.com"), 404).await;
    // Cheap by its estimate, for there are bounds; expensive with each object that is sent.
    let schema = json!({"type": "object", "properties": {"spec": {"type": "array", "maxItems": 1000,
        "items": {"type": "string", "maxLength": 1000},
        "x-kubernetes-validations": [{"rule": "self.all(a, a.matches('^(a|b|[a-c]{1,20})*$'))"}]}}});
    let code = define(&api, with_schema(schema)).await;
    if code == 201 {
        wait_for(&api, WIDGETS, 200).await;
        let mut object = widget("w");
        object["spec"] = json!(vec!["a".repeat(1_000); 1_000]);
        api.post(WIDGETS, object).await;
    } else {
        assert_eq!(code, 422);
    }
    assert_eq!(api.get("/version").await.code, 200);
    assert!(begun.elapsed() < PATIENCE * 3, "{:?}", begun.elapsed());
}

/// A definition of an older version of the server, which took anything: its objects can't be written past it.
#[tokio::test]
async fn a_schema_that_cannot_be_enforced_lets_nothing_through() {
    let dir = tempfile::tempdir().unwrap();
    let api = Api::start_in(dir.path()).await;
    api.stop().await;
    {
        let store = open(dir.path()).await;
        let mut body = with_schema(
            json!({"type": "object", "properties": {"spec": {"type": "string", "pattern": "("}}}),
        );
        body["metadata"]["uid"] = json!("old");
        let key = "/registry/apiextensions.k8s.io/customresourcedefinitions/widgets.example.com";
        write(&store, key, &body).await;
    }
    let api = Api::start_in(dir.path()).await;
    wait_for(&api, WIDGETS, 200).await;
    let refused = api.post(WIDGETS, widget("w")).await;
    assert_eq!(refused.code, 422, "{}", refused.text);
    assert!(
        refused.text.contains("can't be enforced"),
        "{}",
        refused.text
    );
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let condition = async || {
        let conditions = api.get(&path).await.expect(200)["status"]["conditions"].take();
        let all = conditions.as_array().cloned().unwrap_or_default();
        all.into_iter().find(|c| c["type"] == "NonStructuralSchema")
    };
    let until = std::time::Instant::now() + PATIENCE;
    let said = loop {
        if let Some(said) = condition().await {
            break said;
        }
        assert!(std::time::Instant::now() < until, "no condition");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!(
        (&said["status"], &said["reason"]),
        (&json!("True"), &json!("Violations"))
    );
    // It can be mended, and be deleted.
    api.merge(&path, json!({"metadata": {"labels": {"a": "b"}}}))
        .await
        .expect(200);
    let mut mended = api.get(&path).await.expect(200);
    let schema = json!({"type": "object", "properties": {"spec": {"type": "string"}}});
    mended["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = schema;
    api.merge(&path, json!({"spec": mended["spec"]}))
        .await
        .expect(200);
    let until = std::time::Instant::now() + PATIENCE;
    while condition().await.is_some() {
        assert!(std::time::Instant::now() < until, "the condition stays");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    api.delete(&path).await.expect(200);
    wait_for(&api, &path, 404).await;
}

/// Whoever may delete definitions takes no object past its finalizers, and the names are not taken meanwhile.
#[tokio::test]
async fn deleting_a_definition_respects_finalizers() {
    let api = Api::start().await;
    definer(&api).await;
    let body = definition("example.com", "widgets", "Widget", &[]);
    assert_eq!(define(&api, body.clone()).await, 201);
    wait_for(&api, WIDGETS, 200).await;
    let mut kept = widget("kept");
    kept["metadata"]["finalizers"] = json!(["example.com/keep"]);
    api.post(WIDGETS, kept).await.expect(201);
    let path = format!("{DEFINITIONS}/widgets.example.com");
    assert_eq!(
        as_user(&api, "definer", &[], "DELETE", &path, None)
            .await
            .code,
        200
    );
    assert_eq!(
        as_user(&api, "definer", &[], "DELETE", &path, None)
            .await
            .code,
        200
    );
    assert_eq!(define(&api, body).await, 409);
    assert_eq!(api.get(&format!("{WIDGETS}/kept")).await.code, 200);
    api.merge(
        &format!("{WIDGETS}/kept"),
        json!({"metadata": {"finalizers": null}}),
    )
    .await
    .expect(200);
    wait_for(&api, &path, 404).await;
}
