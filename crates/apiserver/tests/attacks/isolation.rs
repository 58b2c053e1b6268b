//! A namespace's floor of isolation: pods that try to get below it, and who tries to take it away.

mod classes;
mod namespaces;
mod pods;
mod templates;

use serde_json::{Value, json};

use crate::harness::{Answer, Api, class, grant};

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
    let rules = json!([
        {"apiGroups": [""], "resources": ["namespaces", "namespaces/status", "namespaces/finalize"], "resourceNames": [namespace], "verbs": all},
        {"apiGroups": all, "resources": ["pods", "pods/ephemeralcontainers", "pods/binding", "pods/status", "deployments"], "verbs": all}]);
    grant(api, "owner", OWNER, rules).await;
}

async fn as_owner(api: &Api, method: &str, path: &str, content: &str, body: &Value) -> Answer {
    let headers = [("impersonate-user", OWNER), ("content-type", content)];
    api.raw(method, path, &headers, body.to_string()).await
}
