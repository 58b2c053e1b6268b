//! Admission webhooks: who is asked about what, in which words, and what becomes of the answer.

use http_body_util::Full;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::harness::{Api, CLASSES, CONFIG_MAPS, PODS, as_user, bind, class, pod};
use crate::hook_server::{
    Got, HookServer, MUTATING, VALIDATING, configuration, own_address, patched, reply, reviewed,
    rule, rule_of,
};

const NAMESPACES: &str = "/api/v1/namespaces";

fn config_map(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"k": "v"}})
}

async fn allow_all() -> HookServer {
    HookServer::start(|_| json!({"allowed": true})).await
}

#[tokio::test]
async fn a_validating_webhook_sees_the_request_and_refuses() {
    let api = Api::start().await;
    let hook = HookServer::start(|request| {
        let name = request["name"].as_str().unwrap_or_default();
        if name == "bad" {
            return json!({"allowed": false, "status": {"code": 418, "reason": "Teapot", "message": "no coffee"}});
        }
        let allowed = request["operation"] != "DELETE";
        json!({"allowed": allowed, "warnings": ["careful"]})
    })
    .await;
    let hooks = configuration("v", &[hook.hook("deny.example.com", rule("configmaps"))]);
    let stored = api.post(VALIDATING, hooks).await.expect(201);
    assert_eq!(stored["webhooks"][0]["timeoutSeconds"], 10);
    let answer = api.post(CONFIG_MAPS, config_map("good")).await;
    assert!(
        answer.warnings().iter().any(|w| w.contains("careful")),
        "{:?}",
        answer.warnings()
    );
    answer.expect(201);
    let denied = api.post(CONFIG_MAPS, config_map("bad")).await;
    let status = denied.expect(418);
    assert_eq!(status["reason"], "Teapot");
    assert_eq!(
        status["message"],
        "admission webhook \"deny.example.com\" denied the request: no coffee"
    );
    let one = format!("{CONFIG_MAPS}/good");
    api.merge(&one, json!({"data": {"k": "w"}}))
        .await
        .expect(200);
    let status = api.delete(&one).await.expect(400);
    assert_eq!(
        status["message"],
        "admission webhook \"deny.example.com\" denied the request without explanation"
    );
    api.get(&one).await.expect(200);
    let requests = hook.requests();
    assert_eq!(requests.len(), 4);
    let (create, update, delete) = (&requests[0], &requests[2], &requests[3]);
    assert_eq!(
        create["kind"],
        json!({"group": "", "version": "v1", "kind": "ConfigMap"})
    );
    assert_eq!(
        create["resource"],
        json!({"group": "", "version": "v1", "resource": "configmaps"})
    );
    assert_eq!(create["requestKind"], create["kind"]);
    assert_eq!(create["userInfo"]["username"], "admin");
    assert_eq!(
        (&create["namespace"], &create["name"]),
        (&json!("default"), &json!("good"))
    );
    assert_eq!(create["object"]["data"]["k"], "v");
    assert_eq!(create["object"]["kind"], "ConfigMap");
    assert_eq!(
        (&create["oldObject"], &create["dryRun"]),
        (&Value::Null, &json!(false))
    );
    assert_eq!(create["options"]["kind"], "CreateOptions");
    assert_eq!(update["operation"], "UPDATE");
    assert_eq!(update["oldObject"]["data"]["k"], "v");
    assert_eq!(update["object"]["data"]["k"], "w");
    assert_eq!(update["options"]["kind"], "UpdateOptions");
    assert_eq!(delete["object"], Value::Null);
    assert_eq!(delete["oldObject"]["data"]["k"], "w");
    assert_eq!(delete["options"]["kind"], "DeleteOptions");
    let got = hook.got.lock();
    assert_eq!(got[0].path.split("/path").last(), Some("?timeout=10s"));
    assert_eq!(got[0].headers["content-type"], "application/json");
    assert!(!got[0].headers.contains_key("authorization"));
}

#[tokio::test]
async fn what_a_mutating_webhook_makes_is_defaulted_and_checked_again() {
    let api = Api::start().await;
    let hook = HookServer::start(|request| {
        if request["name"] == "broken" {
            let patch =
                json!([{"op": "add", "path": "/spec/containers/0/name", "value": "Not A Name"}]);
            return patched(&patch);
        }
        let sidecar =
            json!({"name": "sidecar", "image": "proxy", "ports": [{"containerPort": 80}]});
        patched(&json!([
            {"op": "add", "path": "/spec/containers/-", "value": sidecar},
            {"op": "add", "path": "/metadata/labels", "value": {"made": "yes"}},
            {"op": "add", "path": "/nonsense", "value": 1},
        ]))
    })
    .await;
    let hooks = configuration("m", &[hook.hook("side.example.com", rule("pods"))]);
    api.post(MUTATING, hooks).await.expect(201);
    let made = api.post(PODS, pod("p")).await.expect(201);
    let sidecar = &made["spec"]["containers"][1];
    assert_eq!(sidecar["terminationMessagePath"], "/dev/termination-log");
    assert_eq!(sidecar["ports"][0]["protocol"], "TCP");
    assert_eq!(sidecar["imagePullPolicy"], "Always");
    assert_eq!(made["metadata"]["labels"]["made"], "yes");
    assert_eq!(made["nonsense"], Value::Null);
    // The pods' own subresources are others' business: the rule names pods alone.
    let status = json!({"status": {"phase": "Running"}});
    api.merge(&format!("{PODS}/p/status"), status)
        .await
        .expect(200);
    assert_eq!(hook.requests().len(), 1);
    let refused = api.post(PODS, pod("broken")).await.expect(422);
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("spec.containers[0].name"), "{message}");
}

#[tokio::test]
async fn mutating_webhooks_are_asked_in_order_and_again_when_needed() {
    let api = Api::start().await;
    let appending = |text: &'static str| {
        HookServer::start(move |request| {
            let before = request["object"]["data"]["trace"]
                .as_str()
                .unwrap_or_default();
            if text == "b" && before.contains('b') {
                return json!({"allowed": true});
            }
            patched(
                &json!([{"op": "add", "path": "/data/trace", "value": format!("{before}{text}")}]),
            )
        })
    };
    let (a, b, c) = (
        appending("a").await,
        appending("b").await,
        appending("c").await,
    );
    // By the names of the configurations, whenever they were made.
    let mut again = a.hook("a.example.com", rule("configmaps"));
    again["reinvocationPolicy"] = json!("IfNeeded");
    let third = configuration("z", &[c.hook("c.example.com", rule("configmaps"))]);
    api.post(MUTATING, third).await.expect(201);
    let both = configuration("y", &[again, b.hook("b.example.com", rule("configmaps"))]);
    api.post(MUTATING, both).await.expect(201);
    let made = api.post(CONFIG_MAPS, config_map("x")).await.expect(201);
    assert_eq!(made["data"]["trace"], "abca");
    assert_eq!(
        (a.requests().len(), b.requests().len(), c.requests().len()),
        (2, 1, 1)
    );
    // Validating ones see what is stored.
    let judge = allow_all().await;
    let hooks = configuration("v", &[judge.hook("v.example.com", rule("configmaps"))]);
    api.post(VALIDATING, hooks).await.expect(201);
    api.post(CONFIG_MAPS, config_map("y")).await.expect(201);
    assert_eq!(judge.requests()[0]["object"]["data"]["trace"], "abca");
}

#[tokio::test]
async fn equivalent_versions_are_converted_for_the_webhook() {
    let api = Api::start().await;
    let hook = HookServer::start(|request| {
        if request["object"]["handler"] == "bad" {
            return json!({"allowed": false});
        }
        patched(&json!([{"op": "replace", "path": "/handler", "value": "made"}]))
    })
    .await;
    let mut exact = hook.hook(
        "exact.example.com",
        rule_of("node.k8s.io", "v1beta1", "runtimeclasses"),
    );
    exact["matchPolicy"] = json!("Exact");
    api.post(MUTATING, configuration("m", &[exact.clone()]))
        .await
        .expect(201);
    api.post(CLASSES, class("unseen", "runc")).await.expect(201);
    assert_eq!(hook.requests().len(), 0);
    exact["matchPolicy"] = json!("Equivalent");
    let one = format!("{MUTATING}/m");
    api.merge(&one, json!({"webhooks": [exact]}))
        .await
        .expect(200);
    let made = api.post(CLASSES, class("seen", "runc")).await.expect(201);
    assert_eq!(
        (&made["handler"], &made["apiVersion"]),
        (&json!("made"), &json!("node.k8s.io/v1"))
    );
    let request = &hook.requests()[0];
    assert_eq!(request["object"]["apiVersion"], "node.k8s.io/v1beta1");
    assert_eq!(request["kind"]["version"], "v1beta1");
    assert_eq!(request["requestKind"]["version"], "v1");
    assert_eq!(request["requestResource"]["version"], "v1");
    api.post(CLASSES, class("refused", "bad")).await.expect(400);
    // Another shape: v1alpha1 has a spec.
    let alpha = json!([
        {"operations": ["CREATE"], "apiGroups": ["node.k8s.io"], "apiVersions": ["v1alpha1"], "resources": ["runtimeclasses"]}]);
    let old = HookServer::start(|request| {
        assert_eq!(request["object"]["spec"]["runtimeHandler"], "made");
        patched(&json!([{"op": "replace", "path": "/spec/runtimeHandler", "value": "alpha"}]))
    })
    .await;
    let hooks = configuration("n", &[old.hook("alpha.example.com", alpha)]);
    api.post(MUTATING, hooks).await.expect(201);
    let made = api.post(CLASSES, class("alpha", "runc")).await.expect(201);
    assert_eq!(made["handler"], "alpha");
}

#[tokio::test]
async fn selectors_and_scopes_choose() {
    let api = Api::start().await;
    let hook = HookServer::start(|_| json!({"allowed": false})).await;
    api.post(
        NAMESPACES,
        json!({"metadata": {"name": "strict", "labels": {"strict": "yes"}}}),
    )
    .await
    .expect(201);
    let strict = "/api/v1/namespaces/strict/configmaps";
    let mut by_namespace = hook.hook("n.example.com", rule("configmaps"));
    by_namespace["namespaceSelector"] = json!({"matchLabels": {"strict": "yes"}});
    api.post(VALIDATING, configuration("n", &[by_namespace]))
        .await
        .expect(201);
    api.post(CONFIG_MAPS, config_map("a")).await.expect(201);
    api.post(strict, config_map("a")).await.expect(400);
    api.delete(&format!("{VALIDATING}/n")).await.expect(200);
    let mut by_object = hook.hook("o.example.com", rule("configmaps"));
    by_object["objectSelector"] =
        json!({"matchExpressions": [{"key": "guarded", "operator": "Exists"}]});
    api.post(VALIDATING, configuration("o", &[by_object]))
        .await
        .expect(201);
    api.post(strict, config_map("a")).await.expect(201);
    let mut labelled = config_map("b");
    labelled["metadata"]["labels"] = json!({"guarded": ""});
    api.post(strict, labelled).await.expect(400);
    let one = format!("{CONFIG_MAPS}/a");
    api.merge(&one, json!({"metadata": {"labels": {"guarded": ""}}}))
        .await
        .expect(400);
    api.delete(&format!("{VALIDATING}/o")).await.expect(200);
    let every = json!([{"operations": ["CREATE", "UPDATE"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"], "scope": "Cluster"}]);
    let all = hook.hook("c.example.com", every);
    api.post(VALIDATING, configuration("c", &[all]))
        .await
        .expect(201);
    api.post(CONFIG_MAPS, config_map("c")).await.expect(201);
    api.post(CLASSES, class("c", "runc")).await.expect(400);
    // A Namespace is of the cluster, and its own labels count for it.
    api.post(NAMESPACES, json!({"metadata": {"name": "other"}}))
        .await
        .expect(400);
    // What configures webhooks is never shown to them: this can be taken back.
    api.merge(
        &format!("{VALIDATING}/c"),
        json!({"metadata": {"labels": {"a": "b"}}}),
    )
    .await
    .expect(200);
    api.delete(&format!("{VALIDATING}/c")).await.expect(200);
    api.post(CLASSES, class("c", "runc")).await.expect(201);
}

#[tokio::test]
async fn what_a_missing_answer_means_is_for_the_failure_policy() {
    let api = Api::start().await;
    let lying = HookServer::start_raw(Arc::new(|got: Got| {
        Box::pin(async move {
            let object = &got.body["request"]["object"]["metadata"];
            match object["name"].as_str().unwrap_or_default() {
                "uid" => reply(
                    200,
                    got.body
                        .to_string()
                        .replace("\"request\"", "\"response\"")
                        .replace("\"uid\"", "\"old\""),
                ),
                "error" => reply(500, "broken inside"),
                "gone" => reply(404, ""),
                "text" => reply(200, "fine"),
                _ => reviewed(&got, json!({"allowed": true})),
            }
        })
    }))
    .await;
    let mut hook = lying.hook("lie.example.com", rule("configmaps"));
    api.post(VALIDATING, configuration("v", &[hook.clone()]))
        .await
        .expect(201);
    for (name, said) in [
        (
            "uid",
            "received invalid webhook response: expected response.uid=",
        ),
        (
            "error",
            "failed to call webhook: an error on the server (\"broken inside\") has prevented the request from succeeding",
        ),
        (
            "gone",
            "failed to call webhook: the server could not find the requested resource",
        ),
        (
            "text",
            "received invalid webhook response: it is no AdmissionReview: ",
        ),
    ] {
        let status = api.post(CONFIG_MAPS, config_map(name)).await.expect(500);
        let message = status["message"].as_str().unwrap();
        let begins = "Internal error occurred: failed calling webhook \"lie.example.com\": ";
        assert!(
            message.starts_with(begins) && message.contains(said),
            "{message}"
        );
        assert_eq!(status["reason"], "InternalError");
    }
    api.post(CONFIG_MAPS, config_map("good")).await.expect(201);
    hook["failurePolicy"] = json!("Ignore");
    api.merge(&format!("{VALIDATING}/v"), json!({"webhooks": [hook]}))
        .await
        .expect(200);
    for name in ["uid", "error", "gone", "text"] {
        api.post(CONFIG_MAPS, config_map(name)).await.expect(201);
    }
}

#[tokio::test]
async fn a_webhook_has_its_time_and_no_more() {
    let api = Api::start().await;
    let slow = HookServer::start_raw(Arc::new(|_| Box::pin(std::future::pending()))).await;
    let mut hook = slow.hook("slow.example.com", rule("configmaps"));
    hook["timeoutSeconds"] = json!(1);
    api.post(MUTATING, configuration("m", &[hook.clone()]))
        .await
        .expect(201);
    let begun = Instant::now();
    let status = api.post(CONFIG_MAPS, config_map("x")).await.expect(500);
    let message = status["message"].as_str().unwrap();
    assert!(message.contains("failed calling webhook \"slow.example.com\": failed to call webhook: Post \"https://localhost:"), "{message}");
    assert!(
        message.ends_with("/path?timeout=1s\": context deadline exceeded"),
        "{message}"
    );
    assert!(begun.elapsed() < Duration::from_secs(8));
    hook["failurePolicy"] = json!("Ignore");
    api.merge(&format!("{MUTATING}/m"), json!({"webhooks": [hook]}))
        .await
        .expect(200);
    api.post(CONFIG_MAPS, config_map("x")).await.expect(201);
}

#[tokio::test]
async fn dry_runs_ask_only_who_has_no_side_effects() {
    let api = Api::start().await;
    let hook = allow_all().await;
    api.post(
        VALIDATING,
        configuration("v", &[hook.hook("v.example.com", rule("configmaps"))]),
    )
    .await
    .expect(201);
    let dry = format!("{CONFIG_MAPS}?dryRun=All");
    api.post(&dry, config_map("x")).await.expect(201);
    let request = &hook.requests()[0];
    assert_eq!(
        (&request["dryRun"], &request["options"]["dryRun"]),
        (&json!(true), &json!(["All"]))
    );
    // Such as were stored when that was still allowed.
    let mut effects = hook.hook("e.example.com", rule("configmaps"));
    effects["sideEffects"] = json!("Some");
    api.post(VALIDATING, configuration("e", &[effects]))
        .await
        .expect(422);
}

#[tokio::test]
async fn subresources_have_their_own_kinds() {
    let api = Api::start().await;
    let hook = HookServer::start(|request| {
        if request["subResource"] == "scale" && request["object"]["spec"]["replicas"] == json!(5) {
            return patched(&json!([{"op": "replace", "path": "/spec/replicas", "value": 3}]));
        }
        json!({"allowed": true})
    })
    .await;
    let rules = json!([
        {"operations": ["*"], "apiGroups": [""], "apiVersions": ["*"], "resources": ["pods/eviction", "pods/binding", "serviceaccounts/token"]},
        {"operations": ["DELETE"], "apiGroups": [""], "apiVersions": ["*"], "resources": ["pods"]},
        {"operations": ["*"], "apiGroups": ["apps"], "apiVersions": ["*"], "resources": ["*/scale"]}]);
    api.post(
        MUTATING,
        configuration("m", &[hook.hook("s.example.com", rules)]),
    )
    .await
    .expect(201);
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": pod("x")["spec"]});
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    api.post(deployments, deployment).await.expect(201);
    assert_eq!(hook.requests().len(), 0);
    let scale = format!("{deployments}/d/scale");
    let scaled = api
        .merge(&scale, json!({"spec": {"replicas": 5}}))
        .await
        .expect(200);
    assert_eq!(scaled["spec"]["replicas"], 3);
    assert_eq!(
        api.get(&format!("{deployments}/d")).await.expect(200)["spec"]["replicas"],
        3
    );
    api.post(PODS, pod("p")).await.expect(201);
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    api.post(&format!("{PODS}/p/binding"), binding)
        .await
        .expect(201);
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    api.post(&format!("{PODS}/p/eviction"), eviction)
        .await
        .expect(201);
    let kinds: Vec<(String, String)> = hook
        .requests()
        .iter()
        .map(|r| {
            let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
            (text(&r["subResource"]), text(&r["kind"]["kind"]))
        })
        .collect();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(kinds[0], pair("scale", "Scale"));
    assert!(kinds.contains(&pair("binding", "Binding")), "{kinds:?}");
    assert!(kinds.contains(&pair("eviction", "Eviction")), "{kinds:?}");
    // An eviction is admitted as that, and not as a deletion.
    assert!(!kinds.contains(&pair("", "Pod")), "{kinds:?}");
    assert!(!kinds.iter().any(|(_, kind)| kind.is_empty()), "{kinds:?}");
    api.post(PODS, pod("q")).await.expect(201);
    api.delete(&format!("{PODS}/q?gracePeriodSeconds=0"))
        .await
        .expect(200);
    let last = hook.requests().pop().unwrap();
    assert_eq!(
        (&last["operation"], &last["kind"]["kind"]),
        (&json!("DELETE"), &json!("Pod"))
    );
}

#[tokio::test]
async fn connections_are_admitted_too() {
    let api = Api::start().await;
    let hook =
        HookServer::start(|_| json!({"allowed": false, "status": {"message": "no shells"}})).await;
    let rules = json!([{"operations": ["CONNECT"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods/exec"]}]);
    api.post(
        VALIDATING,
        configuration("v", &[hook.hook("c.example.com", rules)]),
    )
    .await
    .expect(201);
    api.post(PODS, pod("p")).await.expect(201);
    let path = format!("{PODS}/p/exec?command=sh&command=-c&stdin=true&container=c");
    let status = api.post(&path, json!({})).await.expect(400);
    assert_eq!(
        status["message"],
        "admission webhook \"c.example.com\" denied the request: no shells"
    );
    let request = &hook.requests()[0];
    assert_eq!(
        request["kind"],
        json!({"group": "", "version": "v1", "kind": "PodExecOptions"})
    );
    assert_eq!(request["object"]["command"], json!(["sh", "-c"]));
    assert_eq!(
        (&request["object"]["stdin"], &request["subResource"]),
        (&json!(true), &json!("exec"))
    );
    assert_eq!(
        (&request["operation"], &request["name"]),
        (&json!("CONNECT"), &json!("p"))
    );
}

#[tokio::test]
async fn custom_resources_are_admitted() {
    let api = Api::start().await;
    let definition = json!({"metadata": {"name": "widgets.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "widgets", "kind": "Widget"}, "versions": [{"name": "v1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "size": {"type": "integer", "maximum": 10}, "color": {"type": "string", "default": "red"}}}}}}}]}});
    api.post(
        "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        definition,
    )
    .await
    .expect(201);
    let widgets = "/apis/example.com/v1/namespaces/default/widgets";
    let begun = Instant::now();
    while api.get(widgets).await.code != 200 {
        assert!(begun.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let hook = HookServer::start(|request| {
        let size = request["object"]["spec"]["size"].as_i64().unwrap();
        patched(&json!([{"op": "replace", "path": "/spec", "value": {"size": size * 2, "unknown": true}}]))
    })
    .await;
    let hooks = configuration(
        "m",
        &[hook.hook("w.example.com", rule_of("example.com", "*", "widgets"))],
    );
    api.post(MUTATING, hooks).await.expect(201);
    let widget = |name: &str, size: i64| json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": {"size": size}});
    let made = api.post(widgets, widget("a", 4)).await.expect(201);
    // Pruned, defaulted and checked by the schema.
    assert_eq!(made["spec"], json!({"size": 8, "color": "red"}));
    api.post(widgets, widget("b", 6)).await.expect(422);
}

#[tokio::test]
async fn the_one_who_asks_is_who_he_is() {
    let api = Api::start().await;
    let hook = allow_all().await;
    api.post(
        VALIDATING,
        configuration("v", &[hook.hook("u.example.com", rule("configmaps"))]),
    )
    .await
    .expect(201);
    bind(&api, "b", "edit", "jane").await;
    as_user(
        &api,
        "jane",
        &["developers"],
        "POST",
        CONFIG_MAPS,
        Some(config_map("x")),
    )
    .await
    .expect(201);
    let user = &hook.requests()[0]["userInfo"];
    assert_eq!(user["username"], "jane");
    assert!(
        user["groups"]
            .as_array()
            .unwrap()
            .contains(&json!("developers")),
        "{user}"
    );
}

#[tokio::test]
async fn a_service_leads_to_its_ready_endpoints() {
    let ip = own_address().expect("this test needs a network interface besides loopback");
    let api = Api::start().await;
    let answering = Arc::new(
        |got: Got| -> futures::future::BoxFuture<'static, http::Response<Full<bytes::Bytes>>> {
            Box::pin(async move { reviewed(&got, json!({"allowed": false})) })
        },
    );
    let hook = HookServer::start_at(ip, &["hook.default.svc"], answering).await;
    let mut by_service = hook.hook("s.example.com", rule("configmaps"));
    by_service["clientConfig"] = json!({"caBundle": hook.ca_bundle(),
        "service": {"namespace": "default", "name": "hook", "path": "/judge", "port": 8443}});
    api.post(VALIDATING, configuration("v", &[by_service]))
        .await
        .expect(201);
    let fails = |said: &'static str| {
        let api = &api;
        async move {
            let status = api.post(CONFIG_MAPS, config_map("x")).await.expect(500);
            let message = status["message"].as_str().unwrap();
            assert!(
                message.contains("Post \"https://hook.default.svc:8443/judge?timeout=10s\": "),
                "{message}"
            );
            assert!(message.ends_with(said), "{message}");
        }
    };
    fails("service \"hook\" not found").await;
    let service = json!({"metadata": {"name": "hook"}, "spec": {"ports": [{"name": "https", "port": 8443, "targetPort": 1}]}});
    api.post("/api/v1/namespaces/default/services", service)
        .await
        .expect(201);
    fails("no endpoints available for service \"hook\"").await;
    // A pod with its node's network, which is this machine, and the port that it declares.
    let node = json!({"metadata": {"name": "n"}, "status": {"addresses": [{"type": "InternalIP", "address": ip.to_string()}]}});
    api.post("/api/v1/nodes", node).await.expect(201);
    let mut host = pod("p");
    host["spec"]["nodeName"] = json!("n");
    host["spec"]["hostNetwork"] = json!(true);
    let port = hook.address.port();
    host["spec"]["containers"][0]["ports"] = json!([{"containerPort": port, "hostPort": port}]);
    api.post(PODS, host).await.expect(201);
    let slice = json!({"metadata": {"name": "hook-1", "labels": {"kubernetes.io/service-name": "hook"}}, "addressType": "IPv4",
        "ports": [{"name": "https", "port": port}],
        "endpoints": [{"addresses": [ip.to_string()], "conditions": {"ready": false}, "targetRef": {"kind": "Pod", "name": "p", "namespace": "default"}}]});
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let mut slice = api.post(slices, slice).await.expect(201);
    fails("no endpoints available for service \"hook\"").await;
    slice["endpoints"][0]["conditions"]["ready"] = json!(true);
    api.put(&format!("{slices}/hook-1"), &slice)
        .await
        .expect(200);
    let status = api.post(CONFIG_MAPS, config_map("x")).await.expect(400);
    assert_eq!(
        status["message"],
        "admission webhook \"s.example.com\" denied the request without explanation"
    );
    assert_eq!(hook.got.lock()[0].path, "/judge?timeout=10s");
}

#[tokio::test]
async fn a_webhook_may_have_a_certificate_that_is_its_own_authority() {
    let api = Api::start().await;
    let hook = HookServer::start_self_signed(json!({"allowed": true, "warnings": ["asked"]})).await;
    let hooks = configuration("v", &[hook.hook("own.example.com", rule("configmaps"))]);
    api.post(VALIDATING, hooks).await.expect(201);
    let answer = api.post(CONFIG_MAPS, config_map("a")).await;
    assert!(
        answer.warnings().iter().any(|w| w.contains("asked")),
        "{}",
        answer.text
    );
    answer.expect(201);
    // Who has another certificate of that kind is nobody.
    let other = HookServer::start_self_signed(json!({"allowed": true})).await;
    let mut stranger = hook.hook("own.example.com", rule("configmaps"));
    stranger["clientConfig"]["url"] = json!(format!("https://localhost:{}/", other.address.port()));
    let changed = json!({"webhooks": [stranger]});
    api.merge(&format!("{VALIDATING}/v"), changed)
        .await
        .expect(200);
    let status = api.post(CONFIG_MAPS, config_map("b")).await.expect(500);
    let message = status["message"].as_str().unwrap_or_default();
    assert!(message.contains("certificate"), "{message}");
    assert!(other.requests().is_empty());
}
