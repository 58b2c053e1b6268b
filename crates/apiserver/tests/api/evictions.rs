//! Evictions hold to disruption budgets.

use serde_json::{Value, json};

use super::harness::{Answer, Api, PODS, pod};

const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

async fn running(api: &Api, name: &str, ready: &str) {
    let mut object = pod(name);
    object["metadata"]["labels"] = json!({"app": "web"});
    object["spec"]["nodeName"] = json!("n");
    api.post(PODS, object).await.expect(201);
    let status =
        json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}});
    api.merge(&format!("{PODS}/{name}/status"), status)
        .await
        .expect(200);
}

async fn evict(api: &Api, name: &str, query: &str) -> Answer {
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": name, "namespace": "default"}, "deleteOptions": {"gracePeriodSeconds": 0}});
    api.post(&format!("{PODS}/{name}/eviction{query}"), eviction)
        .await
}

async fn budget(api: &Api, name: &str, status: Value) {
    let object = json!({"metadata": {"name": name},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}});
    api.post(BUDGETS, object).await.expect(201);
    let path = format!("{BUDGETS}/{name}/status");
    api.merge(&path, json!({"status": status}))
        .await
        .expect(200);
}

fn cause(refused: &Value) -> String {
    assert_eq!(refused["reason"], "TooManyRequests");
    assert_eq!(
        refused["details"]["causes"][0]["reason"],
        "DisruptionBudget"
    );
    refused["details"]["causes"][0]["message"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn a_budget_is_spent_and_then_refuses() {
    let api = Api::start().await;
    for name in ["a", "b", "c"] {
        running(&api, name, "True").await;
    }
    // A budget that no controller has looked at allows nothing.
    budget(&api, "pdb", json!({"disruptionsAllowed": 1})).await;
    let refused = evict(&api, "a", "").await.expect(429);
    assert!(
        cause(&refused).contains("still being processed"),
        "{refused}"
    );
    let status = json!({"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 3, "desiredHealthy": 2, "expectedPods": 3});
    let path = format!("{BUDGETS}/pdb/status");
    api.merge(&path, json!({"status": status}))
        .await
        .expect(200);
    evict(&api, "a", "?dryRun=All").await.expect(201);
    evict(&api, "a", "").await.expect(201);
    api.get(&format!("{PODS}/a")).await.expect(404);
    let spent = api.get(&format!("{BUDGETS}/pdb")).await.expect(200);
    assert_eq!(spent["status"]["disruptionsAllowed"], 0);
    assert!(spent["status"]["disruptedPods"]["a"].is_string(), "{spent}");
    let refused = evict(&api, "b", "").await.expect(429);
    assert_eq!(
        cause(&refused),
        "The disruption budget pdb needs 2 healthy pods and has 3 currently"
    );
    api.get(&format!("{PODS}/b")).await.expect(200);
    // Two budgets about one pod are more than an eviction can hold to.
    budget(
        &api,
        "other",
        json!({"observedGeneration": 1, "disruptionsAllowed": 1}),
    )
    .await;
    evict(&api, "b", "").await.expect(500);
    api.get(&format!("{PODS}/b")).await.expect(200);
    // A delete is no eviction.
    api.delete(&format!("{PODS}/c?gracePeriodSeconds=0"))
        .await
        .expect(200);
}

#[tokio::test]
async fn pods_that_serve_nobody_are_not_protected() {
    let api = Api::start().await;
    running(&api, "sick", "False").await;
    running(&api, "done", "True").await;
    budget(
        &api,
        "pdb",
        json!({"observedGeneration": 1, "currentHealthy": 0, "desiredHealthy": 1}),
    )
    .await;
    evict(&api, "sick", "").await.expect(429);
    let policy = json!({"spec": {"unhealthyPodEvictionPolicy": "AlwaysAllow"}});
    api.merge(&format!("{BUDGETS}/pdb"), policy)
        .await
        .expect(200);
    evict(&api, "sick", "").await.expect(201);
    let status = json!({"status": {"phase": "Succeeded"}});
    api.merge(&format!("{PODS}/done/status"), status)
        .await
        .expect(200);
    evict(&api, "done", "").await.expect(201);
}
