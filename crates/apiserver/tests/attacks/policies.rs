//! Policies that objects make expensive.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Api, CONFIG_MAPS};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";

async fn policy(api: &Api, mut spec: Value, binding: Value) {
    spec["matchConstraints"] = json!({"resourceRules": [
        {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["*"], "resources": ["configmaps"]}]});
    spec["matchConditions"] =
        json!([{"name": "a", "expression": "object.metadata.name.startsWith('judged')"}]);
    let policy = json!({"metadata": {"name": "p"}, "spec": spec});
    api.post(&format!("{GROUP}/validatingadmissionpolicies"), policy)
        .await
        .expect(201);
    let mut spec = binding;
    spec["policyName"] = json!("p");
    spec["validationActions"] = json!(["Deny"]);
    let binding = json!({"metadata": {"name": "b"}, "spec": spec});
    api.post(
        &format!("{GROUP}/validatingadmissionpolicybindings"),
        binding,
    )
    .await
    .expect(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expensive_object_is_stopped_and_holds_up_nobody() {
    let api = std::sync::Arc::new(Api::start().await);
    let quadratic = "object.data.all(k, object.data.all(l, object.data[k] + l != 'x'))";
    policy(
        &api,
        json!({"validations": [{"expression": quadratic}]}),
        json!({}),
    )
    .await;
    let data: serde_json::Map<String, Value> =
        (0..3000).map(|n| (format!("k{n}"), json!("v"))).collect();
    let body = json!({"metadata": {"name": "judged"}, "data": data});
    let judging: Vec<_> = (0..8)
        .map(|_| {
            let (api, body) = (std::sync::Arc::clone(&api), body.clone());
            tokio::spawn(async move { api.post(CONFIG_MAPS, body).await.expect(422) })
        })
        .collect();
    let mut slowest = Duration::ZERO;
    while judging.iter().any(|one| !one.is_finished()) {
        let begun = Instant::now();
        assert_eq!(api.get("/healthz").await.code, 200);
        slowest = slowest.max(begun.elapsed());
    }
    for one in judging {
        let status = one.await.unwrap();
        let message = status["message"].as_str().unwrap();
        assert!(
            message.contains("cost limit exceeded") || message.contains("cost budget"),
            "{message}"
        );
    }
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parameters_share_what_a_request_may_cost() {
    let api = Api::start().await;
    // Counted as much, done fast: a tenth of a unit for each character, times a tenth of those that are looked for.
    let costly = format!("!params.data.big.contains('{}')", "y".repeat(40));
    let validations: Vec<Value> = (0..20).map(|_| json!({"expression": costly})).collect();
    let spec =
        json!({"validations": validations, "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}});
    let binding = json!({"paramRef": {"selector": {"matchLabels": {"param": "yes"}}, "parameterNotFoundAction": "Allow"}});
    policy(&api, spec, binding).await;
    let big = "x".repeat(900_000);
    for n in 0..5 {
        let param = json!({"metadata": {"name": format!("param-{n}"), "labels": {"param": "yes"}}, "data": {"big": big}});
        api.post(CONFIG_MAPS, param).await.expect(201);
    }
    let status = api
        .post(CONFIG_MAPS, json!({"metadata": {"name": "judged"}}))
        .await
        .expect(422);
    let message = status["message"].as_str().unwrap();
    assert!(message.contains("running out of cost budget"), "{message}");
}
