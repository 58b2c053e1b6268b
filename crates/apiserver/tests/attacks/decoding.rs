//! Bodies and patches that cost more than they are worth.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Answer, Api, PATIENCE, as_user, bind, pod};

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

/// Almost the largest body that is read at all.
const LARGEST: usize = 2_900_000;
/// Large enough that comparing all items with all would take minutes, for an unoptimized build on a busy machine.
const LARGE: usize = 600_000;
/// What somebody else's small request may take meanwhile, on a slow machine that does other things too.
const NEIGHBOUR_PATIENCE: Duration = Duration::from_secs(5);

/// Somebody with the rights of `edit`, which a tenant of a namespace has.
async fn tenant(api: &Api) -> [(&'static str, &'static str); 2] {
    bind(api, "tenant", "edit", "mallory").await;
    [
        ("impersonate-user", "mallory"),
        ("impersonate-group", "system:authenticated"),
    ]
}

/// Sends a request as that tenant, while somebody else asks for small things again and again.
async fn attack(
    api: &Api,
    who: &[(&str, &str)],
    method: &str,
    path: &str,
    content_type: &str,
    body: String,
) -> Answer {
    let headers: Vec<_> = who
        .iter()
        .copied()
        .chain([("content-type", content_type)])
        .collect();
    let begun = Instant::now();
    let attacking = api.raw(method, path, &headers, body);
    tokio::pin!(attacking);
    let mut slowest = Duration::ZERO;
    let mut asked = begun;
    let answer = loop {
        asked = asked.max(Instant::now());
        let neighbour = async {
            assert_eq!(api.get("/api/v1/namespaces/default").await.code, 200);
            slowest = slowest.max(asked.elapsed());
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        tokio::select! {
            biased;
            answer = &mut attacking => break answer,
            () = neighbour => {}
        }
        // The loop goes on with the attack where it was.
    };
    // Who was not answered before the attacker was has waited too.
    slowest = slowest.max(asked.elapsed());
    assert!(
        slowest < NEIGHBOUR_PATIENCE,
        "somebody else waited {slowest:?}"
    );
    assert!(
        begun.elapsed() < PATIENCE,
        "{method} {path} took {:?}",
        begun.elapsed()
    );
    answer
}

/// As many items as have so many bytes.
fn many(bytes: usize, item: impl Fn(usize) -> String) -> String {
    let mut text = String::with_capacity(bytes);
    for n in 0.. {
        let next = item(n);
        if text.len() + next.len() + 1 > bytes {
            break;
        }
        if n > 0 {
            text.push(',');
        }
        text.push_str(&next);
    }
    text
}

fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

/// A kind of which anything can be stored.
async fn define_widgets(api: &Api) {
    let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": anything}}]}});
    api.post(DEFINITIONS, definition).await.expect(201);
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "widgets",
        "labels": {"rbac.authorization.k8s.io/aggregate-to-edit": "true"}},
        "rules": [{"apiGroups": ["example.com"], "resources": ["widgets"], "verbs": ["*"]}]});
    api.post("/apis/rbac.authorization.k8s.io/v1/clusterroles", role)
        .await
        .expect(201);
    bind(api, "widgets", "widgets", "mallory").await;
    let until = Instant::now() + PATIENCE;
    while api.get(WIDGETS).await.code != 200 {
        assert!(Instant::now() < until, "the definition is not served");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn repeated_and_unknown_keys_take_linear_time_and_few_reports() {
    let api = Api::start().await;
    let anybody = [
        ("impersonate-user", "mallory"),
        ("impersonate-group", "system:authenticated"),
    ];
    let question = r#""spec":{"resourceAttributes":{"verb":"get","resource":"pods"}}"#;
    for keys in [
        // Each twice, one over and over, each once.
        many(LARGEST, |n| format!("\"k{}\":1", n / 2)),
        many(LARGEST, |_| "\"k\":1".to_owned()),
        many(LARGEST, |n| format!("\"k{n}\":1")),
    ] {
        let body = format!("{{{question},{keys}}}");
        let answer = attack(&api, &anybody, "POST", REVIEWS, "application/json", body).await;
        let warnings = answer.warnings();
        assert!(answer.code == 201, "{:.300}", answer.text);
        assert!(
            !warnings.is_empty() && warnings.len() <= 64,
            "{}",
            warnings.len()
        );
        assert!(warnings.iter().map(String::len).sum::<usize>() < 10_000);
        let body = format!("{{{question},{keys}}}");
        let strict = format!("{REVIEWS}?fieldValidation=Strict");
        let answer = attack(&api, &anybody, "POST", &strict, "application/json", body).await;
        assert_eq!(answer.code, 400, "{:.300}", answer.text);
        assert!(answer.text.len() < 100_000, "{}", answer.text.len());
    }
    // Under one key that is as long as the rest.
    let long = "x".repeat(LARGEST / 2);
    let keys = many(LARGEST / 2 - 200, |n| format!("\"k{}\":1", n / 2));
    let body = format!("{{{question},\"{long}\":{{{keys}}}}}");
    let answer = attack(&api, &anybody, "POST", REVIEWS, "application/json", body).await;
    assert_eq!(answer.code, 201, "{:.300}", answer.text);
}

#[tokio::test]
async fn long_lists_of_a_pod_are_checked_in_linear_time() {
    let api = Api::start().await;
    let who = tenant(&api).await;
    let with = |list: String| {
        format!(
            r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"p"}},"spec":{{"containers":[{{"name":"c","image":"x",{list}}}]}}}}"#
        )
    };
    for body in [
        with(format!(
            "\"env\":[{}]",
            many(LARGE, |n| format!(r#"{{"name":"e{}"}}"#, n / 2))
        )),
        with(format!(
            "\"volumeMounts\":[{}]",
            many(LARGE, |n| format!(r#"{{"name":"v","mountPath":"/{n}"}}"#))
        )),
    ] {
        let path = format!("{PODS}?dryRun=All");
        let answer = attack(&api, &who, "POST", &path, "application/json", body).await;
        assert!(
            [201, 413, 422].contains(&answer.code),
            "{:.300}",
            answer.text
        );
    }
}

#[tokio::test]
async fn nobody_nests_deeper_than_can_be_read_back() {
    let api = Api::start().await;
    let who = tenant(&api).await;
    define_widgets(&api).await;
    let widget = |name: &str, spec: &str| {
        format!(
            r#"{{"apiVersion":"example.com/v1","kind":"Widget","metadata":{{"name":"{name}"}},"spec":{spec}}}"#
        )
    };
    for levels in [101, 127, 1_000, 1_000_000] {
        for content_type in ["application/json", "application/yaml"] {
            let body = widget("deep", &nested(levels));
            let answer = attack(&api, &who, "POST", WIDGETS, content_type, body).await;
            assert_eq!(
                answer.code, 400,
                "{levels} {content_type}: {:.300}",
                answer.text
            );
        }
        let path = format!("{WIDGETS}/deep?fieldManager=m");
        let body = widget("deep", &nested(levels));
        let apply = "application/apply-patch+yaml";
        let answer = attack(&api, &who, "PATCH", &path, apply, body).await;
        assert_eq!(answer.code, 400, "{levels}: {:.300}", answer.text);
    }
    // Step by step, each of which is small: what is there goes one level down.
    let body = widget("steps", r#"{"a":{},"b":{}}"#);
    api.raw(
        "POST",
        WIDGETS,
        &[("content-type", "application/json")],
        body,
    )
    .await
    .expect(201);
    let path = format!("{WIDGETS}/steps");
    let step = r#"[{"op":"move","from":"/spec/a","path":"/spec/b/x"},{"op":"move","from":"/spec/b","path":"/spec/a"},
        {"op":"add","path":"/spec/b","value":{}}]"#;
    let mut refused = None;
    for at in 0..130 {
        let json_patch = "application/json-patch+json";
        let answer = attack(&api, &who, "PATCH", &path, json_patch, step.to_owned()).await;
        if answer.code != 200 {
            assert_eq!(answer.code, 422, "{}", answer.text);
            assert!(
                answer.text.contains("exceeded max depth"),
                "{}",
                answer.text
            );
            refused = Some(at);
            break;
        }
    }
    assert!(refused.is_some_and(|at| at > 80), "{refused:?}");
    // What was stored last is read, listed, written back and removed like anything else.
    let mut stored = api.get(&path).await.expect(200);
    assert_eq!(api.get(WIDGETS).await.expect(200)["items"][0], stored);
    stored["metadata"]["labels"] = json!({"a": "b"});
    api.put(&path, &stored).await.expect(200);
    let patch = json!({"metadata": {"labels": null}});
    api.merge(&path, patch).await.expect(200);
    api.delete(&path).await.expect(200);
}

#[tokio::test]
async fn a_json_patch_does_not_grow_without_bound() {
    let api = Api::start().await;
    let who = tenant(&api).await;
    define_widgets(&api).await;
    let body = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"},
        "spec": {"a0": "x".repeat(1000), "list": vec![0; 200_000]}});
    api.post(WIDGETS, body).await.expect(201);
    let mut doubling = Vec::new();
    for n in 0..60 {
        doubling.push(json!({"op": "add", "path": format!("/spec/a{}", n + 1), "value": {}}));
        for side in ["l", "r"] {
            let (from, to) = (format!("/spec/a{n}"), format!("/spec/a{}/{side}", n + 1));
            doubling.push(json!({"op": "copy", "from": from, "path": to}));
        }
    }
    let back_and_forth: Vec<Value> = (0..5_000)
        .flat_map(|_| {
            let step = |from: &str, to: &str| json!({"op": "move", "from": from, "path": to});
            [step("/spec/list", "/spec/l"), step("/spec/l", "/spec/list")]
        })
        .collect();
    let in_front = json!({"op": "add", "path": "/spec/list/0", "value": 0});
    for patch in [
        doubling,
        back_and_forth,
        vec![in_front; 10_000],
        vec![json!({"op": "test", "path": "/x"}); 10_001],
    ] {
        let path = format!("{WIDGETS}/w");
        let body = Value::from(patch).to_string();
        let json_patch = "application/json-patch+json";
        let answer = attack(&api, &who, "PATCH", &path, json_patch, body).await;
        assert_eq!(answer.code, 413, "{:.300}", answer.text);
    }
}

#[tokio::test]
async fn aliases_do_not_multiply() {
    let api = Api::start().await;
    let who = tenant(&api).await;
    let head = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bomb}\n";
    let mut laughs = format!("{head}a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
    for n in 1..12 {
        let again = vec![format!("*a{}", n - 1); 9].join(", ");
        laughs.push_str(&format!("a{n}: &a{n} [{again}]\n"));
    }
    let long = "x".repeat(1 << 20);
    let again = vec!["*s"; 20_000].join(", ");
    let strings = format!("{head}s: &s {long}\nall: [{again}]\n");
    for body in [laughs, strings] {
        let answer = attack(&api, &who, "POST", CONFIG_MAPS, "application/yaml", body).await;
        assert_eq!(answer.code, 400, "{:.300}", answer.text);
    }
    assert_eq!(api.get(&format!("{CONFIG_MAPS}/bomb")).await.code, 404);
}

/// Asserts that a body four times as large takes about four times as long, where each item meeting each other would
/// make it sixteen times.
async fn is_linear(
    api: &Api,
    who: &[(&str, &str)],
    (path, content_type): (&str, &str),
    body: impl Fn(usize) -> String,
) {
    let mut took = [Duration::ZERO; 2];
    for (took, bytes) in took.iter_mut().zip([LARGE / 4, LARGE]) {
        let begun = Instant::now();
        let answer = attack(api, who, "PATCH", path, content_type, body(bytes)).await;
        *took = begun.elapsed();
        assert!(
            [200, 201, 400, 413, 422].contains(&answer.code),
            "{:.300}",
            answer.text
        );
    }
    let [quarter, whole] = took;
    assert!(
        whole < quarter * 9 + Duration::from_secs(1),
        "{path}: {quarter:?}, then {whole:?}"
    );
}

#[tokio::test]
async fn merging_long_lists_takes_linear_time() {
    let api = Api::start().await;
    let who = tenant(&api).await;
    api.post(PODS, pod("p")).await.expect(201);
    let path = format!("{PODS}/p");
    let to = (path.as_str(), "application/strategic-merge-patch+json");
    let env = |bytes: usize, item: &dyn Fn(usize) -> String| {
        let list = many(bytes, item);
        format!(r#"{{"spec":{{"containers":[{{"name":"c","env":[{list}]}}]}}}}"#)
    };
    is_linear(&api, &who, to, |bytes| {
        env(bytes, &|n| format!(r#"{{"name":"e{n}"}}"#))
    })
    .await;
    is_linear(&api, &who, to, |bytes| {
        env(bytes, &|n| {
            format!(r#"{{"name":"e{n}","$patch":"delete"}}"#)
        })
    })
    .await;
    for field in ["finalizers", "$retainKeys"] {
        is_linear(&api, &who, to, |bytes| {
            let list = many(bytes, |n| format!("\"e{n}\""));
            format!(r#"{{"metadata":{{"{field}":[{list}]}}}}"#)
        })
        .await;
    }
}

#[tokio::test]
async fn applying_long_lists_and_names_takes_linear_time() {
    let api = Api::start().await;
    let who = tenant(&api).await;
    define_widgets(&api).await;
    let apply = "application/apply-patch+yaml";
    let path = format!("{WIDGETS}/w?fieldManager=m&dryRun=All");
    is_linear(&api, &who, (&path, apply), |bytes| {
        let fields = many(bytes / 2, |n| format!("\"k{n}\":1"));
        let long = "x".repeat(bytes / 2);
        format!(
            r#"{{"apiVersion":"example.com/v1","kind":"Widget","metadata":{{"name":"w"}},"spec":{{"{long}":{{{fields}}}}}}}"#
        )
    })
    .await;
    let path = format!("{PODS}/p?fieldManager=m&dryRun=All");
    is_linear(&api, &who, (&path, apply), |bytes| {
        let env = many(bytes, |n| format!(r#"{{"name":"e{n}"}}"#));
        format!(
            r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"p"}},"spec":{{"containers":[{{"name":"c","image":"x","env":[{env}]}}]}}}}"#
        )
    })
    .await;
}

#[tokio::test]
async fn a_review_with_many_groups_is_answered_in_linear_time() {
    let api = Api::start().await;
    bind(&api, "asks", "system:auth-delegator", "mallory").await;
    let groups: Vec<String> = (0..200_000).map(|n| format!("g{n}")).collect();
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": {"user": "x", "groups": groups, "resourceAttributes": {"verb": "get", "resource": "pods"}}});
    let begun = Instant::now();
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let answer = as_user(&api, "mallory", &[], "POST", path, Some(review)).await;
    let answer = answer.expect(201);
    assert_eq!(answer["status"]["allowed"], false);
    assert!(begun.elapsed() < PATIENCE);
}

/// A kind whose schema says what it likes.
async fn define(api: &Api, plural: &str, kind: &str, spec: Value) -> String {
    let schema = json!({"type": "object", "properties": {"spec": spec}});
    let definition = json!({"metadata": {"name": format!("{plural}.example.com")},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": plural, "kind": kind},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}});
    api.post(DEFINITIONS, definition).await.expect(201);
    let role = json!({"metadata": {"name": plural},
        "rules": [{"apiGroups": ["example.com"], "resources": [plural], "verbs": ["create"]}]});
    api.post("/apis/rbac.authorization.k8s.io/v1/clusterroles", role)
        .await
        .expect(201);
    bind(api, plural, plural, "mallory").await;
    let path = format!("/apis/example.com/v1/namespaces/default/{plural}");
    let until = Instant::now() + PATIENCE;
    while api.get(&path).await.code != 200 {
        assert!(Instant::now() < until, "the definition is not served");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    path
}

#[tokio::test]
async fn schemas_and_objects_do_not_multiply() {
    let api = Api::start().await;
    let who = tenant(&api).await;
    let lists = |items: Value| json!({"type": "object", "additionalProperties": {"type": "array", "items": items}});
    let body = |kind: &str, key: &str, item: &str| {
        let items = many(LARGE / 4, |_| item.to_owned());
        format!(
            r#"{{"apiVersion":"example.com/v1","kind":"{kind}","metadata":{{"name":"x"}},"spec":{{"{key}":[{items}]}}}}"#
        )
    };
    // A default of 100 kB for each of 50,000 items: 5 GB.
    let fills = lists(
        json!({"type": "object", "properties": {"x": {"type": "string", "default": "x".repeat(100_000)}}}),
    );
    let path = define(&api, "gadgets", "Gadget", fills).await;
    let gadget = body("Gadget", "a", "{}");
    let answer = attack(&api, &who, "POST", &path, "application/json", gadget).await;
    assert_eq!(answer.code, 413, "{:.300}", answer.text);
    // A mistake at each of 75,000 items, under a key of 400 kB: 30 GB of paths.
    let path = define(&api, "gizmos", "Gizmo", lists(json!({"type": "string"}))).await;
    let gizmo = body("Gizmo", &"k".repeat(400_000), "1");
    let answer = attack(&api, &who, "POST", &path, "application/json", gizmo).await;
    assert_eq!(answer.code, 422, "{:.300}", answer.text);
    assert!(answer.text.len() < 1_000_000, "{}", answer.text.len());
    // 20,000 values that each of 50,000 items is compared with.
    let values: Vec<String> = (0..20_000).map(|n| n.to_string()).collect();
    let path = define(
        &api,
        "gears",
        "Gear",
        lists(json!({"type": "string", "enum": values})),
    )
    .await;
    let gear = body("Gear", "a", "\"19999\"");
    let answer = attack(&api, &who, "POST", &path, "application/json", gear).await;
    assert_eq!(answer.code, 422, "{:.300}", answer.text);
}
