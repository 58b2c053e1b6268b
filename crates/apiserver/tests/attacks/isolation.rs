//! A namespace's floor of isolation: pods that try to get below it, and who tries to take it away.

use serde_json::{Value, json};

use crate::harness::{Answer, Api, CLASSES, RBAC, as_user, bind, class, pod};

const NAMESPACES: &str = "/api/v1/namespaces";
const NODES: &str = "/api/v1/nodes";
const MINIMUM: &str = "node.berth.dev/minimum-isolation";
const DECLARED: &str = "node.berth.dev/isolation";
const LEVELS: &str = "berth.dev/handler-isolation";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const MERGE: &str = "application/merge-patch+json";
const OWNER: &str = "mallory";

/// A namespace, with a floor; and where its pods are.
async fn namespace(api: &Api, name: &str, floor: Option<&str>) -> String {
    let annotations = floor.map_or(json!({}), |floor| json!({MINIMUM: floor}));
    let body = json!({"metadata": {"name": name, "annotations": annotations}});
    api.post(NAMESPACES, body).await.expect(201);
    format!("{NAMESPACES}/{name}/pods")
}

fn of_class(name: &str, class: &str) -> Value {
    let mut pod = pod(name);
    pod["spec"]["runtimeClassName"] = json!(class);
    pod
}

fn declaring(name: &str, handler: &str, level: &str) -> Value {
    let mut class = class(name, handler);
    class["metadata"]["annotations"] = json!({DECLARED: level});
    class
}

/// A node that reports handlers and what they are.
async fn node(api: &Api, name: &str, levels: Value) {
    let handlers: Vec<Value> = levels
        .as_object()
        .unwrap()
        .keys()
        .map(|handler| json!({"name": handler}))
        .collect();
    let annotations = json!({LEVELS: levels.to_string()});
    let body = json!({"metadata": {"name": name, "annotations": annotations}, "status": {"runtimeHandlers": handlers}});
    api.post(NODES, body).await.expect(201);
}

fn message(answer: Answer, code: u16) -> String {
    answer.expect(code)["message"].as_str().unwrap().to_owned()
}

/// Somebody who may do everything with one namespace object and what is in it, and nothing else.
async fn owner_of(api: &Api, namespace: &str) {
    let all = json!(["*"]);
    let role = json!({"metadata": {"name": "owner"}, "rules": [
        {"apiGroups": [""], "resources": ["namespaces", "namespaces/status", "namespaces/finalize"], "resourceNames": [namespace], "verbs": all},
        {"apiGroups": all, "resources": ["pods", "pods/ephemeralcontainers", "pods/binding", "pods/status", "deployments"], "verbs": all}]});
    api.post(&format!("{RBAC}/clusterroles"), role)
        .await
        .expect(201);
    bind(api, "owner", "owner", OWNER).await;
}

async fn as_owner(api: &Api, method: &str, path: &str, content: &str, body: &Value) -> Answer {
    let headers = [("impersonate-user", OWNER), ("content-type", content)];
    api.raw(method, path, &headers, body.to_string()).await
}

#[tokio::test]
async fn no_pod_gets_below_the_floor() {
    let api = Api::start().await;
    for made in [
        class("runc", "runc"),
        class("gvisor", "runsc"),
        class("kata", "kata-qemu"),
        class("odd", "odd"),
        declaring("declared", "odd", "vm"),
        declaring("modest", "kata-qemu", "process"),
    ] {
        api.post(CLASSES, made).await.expect(201);
    }
    let pods = namespace(&api, "boxed", Some("sandbox")).await;
    assert_eq!(
        message(api.post(&pods, of_class("a", "runc")).await, 403),
        "pods \"a\" is forbidden: pod rejected: RuntimeClass \"runc\" isolates by process, and namespace \"boxed\" demands at least \
         sandbox (annotation node.berth.dev/minimum-isolation)"
    );
    assert_eq!(
        message(api.post(&pods, pod("a")).await, 403),
        "pods \"a\" is forbidden: pod rejected: a pod without RuntimeClass isolates by process, and namespace \"boxed\" demands at \
         least sandbox (annotation node.berth.dev/minimum-isolation)"
    );
    let unknown = message(api.post(&pods, of_class("a", "odd")).await, 403);
    assert!(
        unknown.contains("nobody knows how RuntimeClass \"odd\""),
        "{unknown}"
    );
    api.post(&pods, of_class("a", "modest")).await.expect(403);
    for good in ["gvisor", "kata", "declared"] {
        let made = api.post(&pods, of_class(good, good)).await.expect(201);
        assert_eq!(made["metadata"]["annotations"][MINIMUM], "sandbox");
    }
    let strict = namespace(&api, "strict", Some("vm")).await;
    api.post(&strict, of_class("a", "gvisor")).await.expect(403);
    api.post(&strict, of_class("a", "kata")).await.expect(201);
    // A namespace without one, or with the weakest, admits as before.
    for (name, floor) in [("open", None), ("same", Some("process"))] {
        let pods = namespace(&api, name, floor).await;
        api.post(&pods, pod("a")).await.expect(201);
        api.post(&pods, of_class("b", "odd")).await.expect(201);
    }
}

#[tokio::test]
async fn the_default_class_counts() {
    let api = Api::start().await;
    api.post(CLASSES, class("gvisor", "runsc"))
        .await
        .expect(201);
    let annotations = json!({MINIMUM: "sandbox", "node.berth.dev/default-runtime-class": "gvisor"});
    let body = json!({"metadata": {"name": "n", "annotations": annotations}});
    api.post(NAMESPACES, body).await.expect(201);
    let made = api
        .post(&format!("{NAMESPACES}/n/pods"), pod("a"))
        .await
        .expect(201);
    assert_eq!(made["spec"]["runtimeClassName"], "gvisor");
}

#[tokio::test]
async fn what_nodes_say_counts_for_each_of_them_alone() {
    let api = Api::start().await;
    api.post(CLASSES, class("kata", "kata")).await.expect(201);
    api.post(CLASSES, declaring("sworn", "kata", "vm"))
        .await
        .expect(201);
    api.post(CLASSES, class("runc", "runc")).await.expect(201);
    let pods = namespace(&api, "n", Some("vm")).await;
    // The only node with the handler has another runtime behind it.
    node(
        &api,
        "fake",
        json!({"": "process", "kata": "process", "runc": "process"}),
    )
    .await;
    for name in ["kata", "sworn"] {
        let said = message(api.post(&pods, of_class("a", name)).await, 403);
        assert!(said.contains("isolates by process"), "{said}");
    }
    // Another node has it: the first can't take the class away from all others.
    node(
        &api,
        "real",
        json!({"": "process", "kata": "vm", "runc": "process"}),
    )
    .await;
    api.post(&pods, of_class("a", "kata")).await.expect(201);
    // But who names the first gets no further.
    let mut there = of_class("b", "kata");
    there["spec"]["nodeName"] = json!("fake");
    api.post(&pods, there).await.expect(403);
    let bind = json!({"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "fake"}});
    let said = message(api.post(&format!("{pods}/a/binding"), bind).await, 403);
    assert!(said.contains("isolates by process"), "{said}");
    let bind = json!({"metadata": {"name": "a"}, "target": {"kind": "Node", "name": "real"}});
    api.post(&format!("{pods}/a/binding"), bind)
        .await
        .expect(201);
    // A report that can't be read makes nothing of it strong.
    api.delete(&format!("{NODES}/real")).await.expect(200);
    let broken = json!({"metadata": {"name": "broken", "annotations": {LEVELS: "{"}}, "status": {"runtimeHandlers": [{"name": "kata"}]}});
    api.post(NODES, broken).await.expect(201);
    api.post(&pods, of_class("c", "sworn")).await.expect(403);
}

#[tokio::test]
async fn a_pod_keeps_the_demand_that_it_was_made_with() {
    let api = Api::start().await;
    api.post(CLASSES, class("gvisor", "runsc"))
        .await
        .expect(201);
    api.post(CLASSES, class("kata", "kata")).await.expect(201);
    let pods = namespace(&api, "n", Some("sandbox")).await;
    // It can't bring less, but more; what is none is refused.
    for (own, want) in [("process", "sandbox"), ("vm", "vm")] {
        let mut body = of_class(own, "kata");
        body["metadata"]["annotations"] = json!({MINIMUM: own});
        let made = api.post(&pods, body).await.expect(201);
        assert_eq!(made["metadata"]["annotations"][MINIMUM], want);
    }
    let mut stronger = of_class("a", "gvisor");
    stronger["metadata"]["annotations"] = json!({MINIMUM: "vm"});
    api.post(&pods, stronger).await.expect(403);
    let mut none = of_class("a", "gvisor");
    none["metadata"]["annotations"] = json!({MINIMUM: "quantum"});
    api.post(&pods, none).await.expect(403);

    api.post(&pods, of_class("p", "gvisor")).await.expect(201);
    owner_of(&api, "n").await;
    let path = format!("{pods}/p");
    for (subresource, content, annotations) in [
        ("", MERGE, json!({MINIMUM: null})),
        ("", MERGE, json!({MINIMUM: "process"})),
        ("", STRATEGIC, json!({MINIMUM: "process"})),
        ("/status", MERGE, json!({MINIMUM: "process"})),
        ("/status", STRATEGIC, json!({MINIMUM: null})),
    ] {
        let body = json!({"metadata": {"annotations": annotations}});
        let got = as_owner(
            &api,
            "PATCH",
            &format!("{path}{subresource}"),
            content,
            &body,
        )
        .await
        .expect(200);
        assert_eq!(
            got["metadata"]["annotations"][MINIMUM], "sandbox",
            "{subresource} {body}"
        );
    }
    for subresource in ["", "/status"] {
        let mut whole = api.get(&path).await.expect(200);
        whole["metadata"]["annotations"] = json!({"other": "kept"});
        let got = as_owner(
            &api,
            "PUT",
            &format!("{path}{subresource}"),
            "application/json",
            &whole,
        )
        .await
        .expect(200);
        assert_eq!(
            got["metadata"]["annotations"],
            json!({"other": "kept", MINIMUM: "sandbox"})
        );
    }
    let mut bind = json!({"metadata": {"name": "p", "annotations": {MINIMUM: "process"}}, "target": {"kind": "Node", "name": "x"}});
    for path in [
        format!("{pods}/p/binding"),
        format!("{NAMESPACES}/n/bindings"),
    ] {
        let refused = message(api.post(&path, bind.clone()).await, 403);
        assert!(refused.contains("can't be changed"), "{refused}");
    }
    bind["metadata"]["annotations"] = json!({});
    api.post(&format!("{pods}/p/binding"), bind)
        .await
        .expect(201);
    let bound = api.get(&path).await.expect(200);
    assert_eq!(bound["metadata"]["annotations"][MINIMUM], "sandbox");
}

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
    let role = json!({"metadata": {"name": "classes"}, "rules": [{"apiGroups": ["node.k8s.io"], "resources": ["runtimeclasses"], "verbs": ["update"]}]});
    api.post(&format!("{RBAC}/clusterroles"), role)
        .await
        .expect(201);
    bind(&api, "classes", "classes", OWNER).await;
    as_owner(&api, "PATCH", &path, MERGE, &patch(json!("process")))
        .await
        .expect(200);
}

#[tokio::test]
async fn rights_on_one_class_lower_nothing() {
    let api = Api::start().await;
    namespace(&api, "n", Some("sandbox")).await;
    owner_of(&api, "n").await;
    let role = json!({"metadata": {"name": "one"}, "rules": [{"apiGroups": ["node.k8s.io"], "resources": ["runtimeclasses"], "resourceNames": ["mine"], "verbs": ["*"]}]});
    api.post(&format!("{RBAC}/clusterroles"), role)
        .await
        .expect(201);
    bind(&api, "one", "one", OWNER).await;
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
    let said = message(api.post(&pods, of_class("p", "kata")).await, 403);
    assert!(
        said.contains(
            "admits no pod until its annotation node.berth.dev/minimum-isolation is one of"
        ),
        "{said}"
    );
    let said = message(
        api.post(&format!("{NAMESPACES}/l/pods"), of_class("p", "kata"))
            .await,
        403,
    );
    assert!(said.contains("until its label"), "{said}");
    let strict = namespace(&api, "strict", Some("sandbox")).await;
    let said = message(api.post(&strict, of_class("p", "c")).await, 403);
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
    api.post(&pods, of_class("p", "kata")).await.expect(201);
    api.delete(&format!("{NAMESPACES}/l")).await.expect(200);
}

#[tokio::test]
async fn a_class_gets_no_weaker_below_what_runs() {
    let api = Api::start().await;
    api.post(CLASSES, declaring("c", "odd", "vm"))
        .await
        .expect(201);
    let pods = namespace(&api, "n", Some("sandbox")).await;
    api.post(&pods, of_class("p", "c")).await.expect(201);
    let path = format!("{CLASSES}/c");
    let declare = |value: Value| json!({"metadata": {"annotations": {DECLARED: value}}});
    for weaker in [json!("process"), json!(null)] {
        let said = message(api.merge(&path, declare(weaker)).await, 403);
        assert!(
            said.contains("\"n\" (at least sandbox, 1 pod(s))"),
            "{said}"
        );
    }
    // What is still enough goes, and everything else of the class.
    api.merge(&path, declare(json!("sandbox")))
        .await
        .expect(200);
    api.merge(&path, json!({"metadata": {"labels": {"a": "b"}}}))
        .await
        .expect(200);
    // Deleted and made again, with another handler, by any way.
    api.delete(&path).await.expect(200);
    for weaker in [
        class("c", "runc"),
        class("c", "other"),
        declaring("c", "kata", "process"),
    ] {
        let said = message(api.post(CLASSES, weaker.clone()).await, 403);
        assert!(
            said.contains("weaker than what namespaces that use it demand"),
            "{said}"
        );
        let put = api.put(&path, &weaker).await;
        assert_eq!(put.code, 403, "{}", put.text);
    }
    api.post(CLASSES, class("c", "kata")).await.expect(201);
    api.delete(&path).await.expect(200);
    // Without the pod nothing relies on it.
    api.delete(&format!("{pods}/p?gracePeriodSeconds=0"))
        .await
        .expect(200);
    api.post(CLASSES, class("c", "runc")).await.expect(201);
}

#[tokio::test]
async fn a_namespace_whose_policy_names_a_class_relies_on_it() {
    let api = Api::start().await;
    let annotations = json!({MINIMUM: "sandbox", "node.berth.dev/allowed-runtime-classes": "a, c"});
    api.post(
        NAMESPACES,
        json!({"metadata": {"name": "n", "annotations": annotations}}),
    )
    .await
    .expect(201);
    let made = api.post(CLASSES, class("c", "runc")).await;
    assert!(
        made.warnings()
            .iter()
            .any(|w| w.contains("which will reject its pods")),
        "{:?}",
        made.warnings()
    );
    made.expect(201);
    api.post(CLASSES, declaring("a", "odd", "vm"))
        .await
        .expect(201);
    let weaker = json!({"metadata": {"annotations": {DECLARED: "process"}}});
    let said = message(api.merge(&format!("{CLASSES}/a"), weaker).await, 403);
    assert!(said.contains("its policy names the class"), "{said}");
}

#[tokio::test]
async fn no_new_code_in_a_pod_that_is_too_weak_by_now() {
    let api = Api::start().await;
    api.post(CLASSES, class("gvisor", "runsc"))
        .await
        .expect(201);
    let pods = namespace(&api, "n", None).await;
    api.post(&pods, pod("plain")).await.expect(201);
    api.post(&pods, of_class("boxed", "gvisor"))
        .await
        .expect(201);
    let mut gated = pod("gated");
    gated["spec"]["schedulingGates"] = json!([{"name": "example.com/wait"}]);
    api.post(&pods, gated).await.expect(201);
    let raised = api
        .merge(
            &format!("{NAMESPACES}/n"),
            json!({"metadata": {"annotations": {MINIMUM: "sandbox"}}}),
        )
        .await;
    let warnings = raised.warnings().join("\n");
    assert!(
        warnings.contains("2 existing pod(s)")
            && warnings.contains("plain")
            && !warnings.contains("boxed"),
        "{warnings}"
    );
    raised.expect(200);
    let debug = json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": "busybox"}]}})
        .to_string();
    let headers = [("content-type", STRATEGIC)];
    let at = |name: &str| format!("{pods}/{name}/ephemeralcontainers");
    let refused = api
        .raw("PATCH", &at("plain"), &headers, debug.clone())
        .await;
    assert!(message(refused, 403).contains("isolates by process"));
    api.raw("PATCH", &at("boxed"), &headers, debug)
        .await
        .expect(200);
    // Nor by another image, nor where a gate has kept it from running, nor in one that has run nowhere yet.
    let image = json!({"spec": {"containers": [{"name": "c", "image": "other"}]}}).to_string();
    let (plain, boxed) = (format!("{pods}/plain"), format!("{pods}/boxed"));
    let refused = api.raw("PATCH", &plain, &headers, image.clone());
    assert!(message(refused.await, 403).contains("isolates by process"));
    let image = api.raw("PATCH", &boxed, &headers, image);
    image.await.expect(200);
    let open = json!({"spec": {"schedulingGates": null}});
    let refused = api.merge(&format!("{pods}/gated"), open).await;
    assert!(message(refused, 403).contains("isolates by process"));
    let to = json!({"metadata": {"name": "plain"}, "target": {"kind": "Node", "name": "n1"}});
    let refused = api.post(&format!("{pods}/plain/binding"), to).await;
    assert!(message(refused, 403).contains("isolates by process"));
    // A label would count as a demand that nobody can read.
    let label = json!({"metadata": {"labels": {MINIMUM: "x"}}});
    api.merge(&format!("{pods}/plain"), label).await.expect(403);
    // It goes on otherwise.
    api.merge(
        &format!("{pods}/plain"),
        json!({"metadata": {"labels": {"a": "b"}}}),
    )
    .await
    .expect(200);
}

#[tokio::test]
async fn templates_are_warned_of() {
    let api = Api::start_with(|config| {
        config.pod_template_paths = vec!["rollouts.example.com=.spec.template".parse().unwrap()];
    })
    .await;
    api.post(CLASSES, class("gvisor", "runsc"))
        .await
        .expect(201);
    namespace(&api, "n", Some("sandbox")).await;
    let template = |class: Option<&str>| json!({"metadata": {"labels": {"a": "b"}}, "spec": {"runtimeClassName": class, "containers": [{"name": "c", "image": "i"}]}});
    let job = |mut template: Value| {
        template["spec"]["restartPolicy"] = json!("Never");
        json!({"template": template})
    };
    let selected =
        |template| json!({"selector": {"matchLabels": {"a": "b"}}, "template": template});
    let crd = json!({"metadata": {"name": "rollouts.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "rollouts", "singular": "rollout", "kind": "Rollout", "listKind": "RolloutList"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}});
    api.post(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        crd,
    )
    .await
    .expect(201);
    let rollouts = "/apis/example.com/v1/namespaces/n/rollouts";
    for _ in 0..200 {
        if api.get(rollouts).await.code == 200 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    type Wrap = fn(Value) -> Value;
    let all: [(&str, Wrap); 6] = [
        (
            "/apis/apps/v1/namespaces/n/deployments",
            |t| json!({"spec": t}),
        ),
        (
            "/apis/apps/v1/namespaces/n/daemonsets",
            |t| json!({"spec": t}),
        ),
        (
            "/apis/apps/v1/namespaces/n/statefulsets",
            |t| json!({"spec": t}),
        ),
        ("/apis/batch/v1/namespaces/n/jobs", |t| json!({"spec": t})),
        (
            "/apis/batch/v1/namespaces/n/cronjobs",
            |t| json!({"spec": {"schedule": "0 0 * * *", "jobTemplate": {"spec": t}}}),
        ),
        (
            rollouts,
            |t| json!({"apiVersion": "example.com/v1", "kind": "Rollout", "spec": t}),
        ),
    ];
    for (path, wrap) in all {
        for (name, class, warned) in [("weak", None, true), ("strong", Some("gvisor"), false)] {
            let spec = if path.contains("batch") {
                job(template(class))
            } else {
                selected(template(class))
            };
            let mut body = wrap(spec);
            body["metadata"] = json!({"name": name});
            let answer = api.post(path, body).await;
            let said = answer.warnings().join("\n");
            assert_eq!(
                said.contains("pods of this template will be refused: pod rejected: a pod without RuntimeClass isolates by process"),
                warned, "{path} {said}"
            );
            answer.expect(201);
        }
    }
}

#[tokio::test]
async fn the_audit_log_says_what_was_demanded_and_what_ran() {
    let dir = tempfile::tempdir().unwrap();
    let (policy, log) = (dir.path().join("policy.yaml"), dir.path().join("audit.log"));
    std::fs::write(
        &policy,
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n",
    )
    .unwrap();
    let api = Api::start_with(|config| {
        config.audit = Some(berth_apiserver::AuditConfig::new(&policy, &log));
    })
    .await;
    api.post(CLASSES, class("gvisor", "runsc"))
        .await
        .expect(201);
    let pods = namespace(&api, "n", Some("sandbox")).await;
    let send = async |method: &str, path: &str, id: &str, content: &str, body: Value| {
        let headers = [("content-type", content), ("audit-id", id)];
        api.raw(method, path, &headers, body.to_string()).await
    };
    send(
        "POST",
        &pods,
        "made",
        "application/json",
        of_class("p", "gvisor"),
    )
    .await
    .expect(201);
    let ran = json!({"metadata": {"annotations": {"berth.dev/runtime": "runsc (/usr/bin/runsc, 2026)", "berth.dev/isolation": "sandbox"}}});
    send("PATCH", &format!("{pods}/p/status"), "ran", STRATEGIC, ran)
        .await
        .expect(200);
    let text = std::fs::read_to_string(&log).unwrap();
    let find = |id: &str| -> Value {
        let mut events = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let event = events.find(|e| e["auditID"] == id && e["stage"] == "ResponseComplete");
        event.unwrap_or_else(|| panic!("{text}"))["annotations"].clone()
    };
    assert_eq!(find("made")[MINIMUM], "sandbox");
    let ran = find("ran");
    assert_eq!(ran["berth.dev/runtime"], "runsc (/usr/bin/runsc, 2026)");
    assert_eq!(ran["berth.dev/isolation"], "sandbox");
}

#[tokio::test]
async fn a_node_makes_no_mirror_pod_below_the_floor() {
    let api = Api::start().await;
    let pods = namespace(&api, "n", Some("sandbox")).await;
    let groups = ["system:nodes", "system:authenticated"];
    let node = json!({"metadata": {"name": "w"}});
    let node = as_user(&api, "system:node:w", &groups, "POST", NODES, Some(node))
        .await
        .expect(201);
    let mut mirror = pod("static-w");
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "hash"});
    mirror["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Node", "name": "w", "uid": node["metadata"]["uid"], "controller": true}]);
    mirror["spec"]["nodeName"] = json!("w");
    let answer = as_user(&api, "system:node:w", &groups, "POST", &pods, Some(mirror)).await;
    assert!(message(answer, 403).contains("isolates by process"));
}
