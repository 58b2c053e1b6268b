//! Quotas and limits of a namespace.

use std::sync::Arc;

use serde_json::json;

use crate::harness::{Api, CLASSES, PODS, class, pod};

#[tokio::test]
async fn two_pods_never_take_what_is_left_for_one() {
    let api = Arc::new(Api::start().await);
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"},
        "spec": {"hard": {"pods": "3", "count/configmaps": "1"}}});
    api.post("/api/v1/namespaces/default/resourcequotas", quota)
        .await
        .expect(201);
    let mut clients = Vec::new();
    for n in 0..12 {
        let api = Arc::clone(&api);
        clients.push(tokio::spawn(async move {
            api.post(PODS, pod(&format!("p{n}"))).await.code
        }));
    }
    let mut made = 0;
    for client in clients {
        match client.await.unwrap() {
            201 => made += 1,
            code => assert_eq!(code, 403),
        }
    }
    assert_eq!(made, 3);
    api.config_map("one", json!({})).await;
    let two = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "two"}});
    let refused = api
        .post("/api/v1/namespaces/default/configmaps", two)
        .await
        .expect(403);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("exceeded quota: q"),
        "{refused}"
    );
}

#[tokio::test]
async fn overhead_counts() {
    let api = Api::start().await;
    let mut heavy = class("heavy", "runsc");
    heavy["overhead"] = json!({"podFixed": {"cpu": "600m"}});
    api.post(CLASSES, heavy).await.expect(201);
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"},
        "spec": {"hard": {"requests.cpu": "1"}}});
    api.post("/api/v1/namespaces/default/resourcequotas", quota)
        .await
        .expect(201);
    let mut light = pod("light");
    light["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "500m"}});
    let mut classy = light.clone();
    classy["metadata"]["name"] = json!("classy");
    classy["spec"]["runtimeClassName"] = json!("heavy");
    let refused = api.post(PODS, classy).await.expect(403);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("requested: requests.cpu=1100m"),
        "{refused}"
    );
    api.post(PODS, light).await.expect(201);
}

#[tokio::test]
async fn limits_give_defaults_and_bounds() {
    let api = Api::start().await;
    let range = json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l"}, "spec": {"limits": [
        {"type": "Container", "default": {"memory": "64Mi"}, "defaultRequest": {"memory": "32Mi"}, "max": {"memory": "128Mi"}}]}});
    api.post("/api/v1/namespaces/default/limitranges", range)
        .await
        .expect(201);
    let made = api.post(PODS, pod("plain")).await.expect(201);
    let resources = &made["spec"]["containers"][0]["resources"];
    assert_eq!(resources["limits"]["memory"], "64Mi");
    assert_eq!(resources["requests"]["memory"], "32Mi");
    assert_eq!(made["status"]["qosClass"], "Burstable");
    let mut big = pod("big");
    big["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "256Mi"}});
    assert_eq!(api.post(PODS, big).await.code, 403);
}
