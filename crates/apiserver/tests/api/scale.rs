//! The subresource `scale` of workloads.

use serde_json::{Value, json};

use super::harness::Api;

fn workload(path: &str) -> Value {
    let template = json!({"metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let mut object = json!({"metadata": {"name": "w"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": template}});
    if path.contains("replicationcontrollers") {
        object["spec"]["selector"] = json!({"app": "web"});
    }
    object
}

const SCALED: [&str; 4] = [
    "/apis/apps/v1/namespaces/default/deployments",
    "/apis/apps/v1/namespaces/default/replicasets",
    "/apis/apps/v1/namespaces/default/statefulsets",
    "/api/v1/namespaces/default/replicationcontrollers",
];

#[tokio::test]
async fn scales_are_read_and_written() {
    let api = Api::start().await;
    for path in SCALED {
        let made = api.post(path, workload(path)).await.expect(201);
        let (one, scale) = (format!("{path}/w"), format!("{path}/w/scale"));
        let status = json!({"status": {"replicas": 1}});
        api.merge(&format!("{one}/status"), status)
            .await
            .expect(200);
        let read = api.get(&scale).await.expect(200);
        assert_eq!(read["kind"], "Scale", "{path}");
        assert_eq!(read["apiVersion"], "autoscaling/v1");
        assert_eq!(read["metadata"]["uid"], made["metadata"]["uid"]);
        assert_eq!(read["spec"], json!({"replicas": 2}));
        assert_eq!(
            read["status"],
            json!({"replicas": 1, "selector": "app=web"})
        );
        // by PUT, at the version that was read and at no other
        let mut wanted = read.clone();
        wanted["spec"]["replicas"] = json!(5);
        let written = api.put(&scale, &wanted).await.expect(200);
        assert_eq!(written["spec"]["replicas"], 5);
        api.put(&scale, &wanted).await.expect(409);
        let object = api.get(&one).await.expect(200);
        assert_eq!(object["spec"]["replicas"], 5);
        assert_eq!(object["metadata"]["generation"], 2, "{path}");
        let managers = object["metadata"]["managedFields"].as_array().unwrap();
        assert!(
            managers.iter().any(|m| m["subresource"] == "scale"),
            "{managers:?}"
        );
        // by patches; to zero, too
        let patched = api
            .merge(&scale, json!({"spec": {"replicas": 0}}))
            .await
            .expect(200);
        assert_eq!(patched["spec"], json!({}));
        for kind in [
            "application/strategic-merge-patch+json",
            "application/json-patch+json",
        ] {
            let body = if kind.contains("json-patch") {
                json!([{"op": "replace", "path": "/spec/replicas", "value": 4}])
            } else {
                json!({"spec": {"replicas": 3}})
            };
            let headers = [("content-type", kind)];
            api.raw("PATCH", &scale, &headers, body.to_string())
                .await
                .expect(200);
        }
        assert_eq!(api.get(&one).await.expect(200)["spec"]["replicas"], 4);
        // what is no scale
        let refused = api
            .merge(&scale, json!({"spec": {"replicas": -1}}))
            .await
            .expect(422);
        assert_eq!(refused["details"]["causes"][0]["field"], "spec.replicas");
        let mut other = api.get(&scale).await.expect(200);
        other["metadata"]["name"] = json!("other");
        api.put(&scale, &other).await.expect(400);
        other["metadata"]["name"] = json!("w");
        other["metadata"]["uid"] = json!("other");
        api.put(&scale, &other).await.expect(409);
        // a dry run
        let dry = format!("{scale}?dryRun=All");
        let shown = api
            .merge(&dry, json!({"spec": {"replicas": 9}}))
            .await
            .expect(200);
        assert_eq!(shown["spec"]["replicas"], 9);
        assert_eq!(api.get(&one).await.expect(200)["spec"]["replicas"], 4);
        api.get(&format!("{path}/none/scale")).await.expect(404);
    }
}

#[tokio::test]
async fn only_what_has_replicas_has_a_scale() {
    let api = Api::start().await;
    let path = "/apis/apps/v1/namespaces/default/daemonsets";
    let mut set = workload(path);
    set["spec"]["replicas"].take();
    api.post(path, set).await.expect(201);
    api.get(&format!("{path}/w/scale")).await.expect(404);
    let apps = api.get("/apis/apps/v1").await.expect(200);
    let resources = apps["resources"].as_array().unwrap();
    let scale = resources
        .iter()
        .find(|r| r["name"] == "deployments/scale")
        .unwrap();
    assert_eq!(scale["kind"], "Scale");
    assert_eq!(scale["group"], "autoscaling");
    assert_eq!(scale["version"], "v1");
}

#[tokio::test]
async fn an_autoscaler_is_one_object_in_two_versions() {
    let api = Api::start().await;
    let path = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
    let scaler = json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 50,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}});
    let made = api.post(path, scaler).await.expect(201);
    assert_eq!(made["apiVersion"], "autoscaling/v1");
    assert_eq!(made["spec"]["targetCPUUtilizationPercentage"], 50);
    let newer = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers/h";
    let read = api.get(newer).await.expect(200);
    assert_eq!(
        read["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"],
        50
    );
    let behavior = json!({"spec": {"behavior": {"scaleDown": {"stabilizationWindowSeconds": 7}}}});
    api.merge(newer, behavior).await.expect(200);
    // A client of the older version changes what it knows, and nothing else.
    let older = format!("{path}/h");
    let mut object = api.get(&older).await.expect(200);
    object["spec"]["maxReplicas"] = json!(9);
    api.put(&older, &object).await.expect(200);
    let read = api.get(newer).await.expect(200);
    assert_eq!(read["spec"]["maxReplicas"], 9);
    assert_eq!(
        read["spec"]["behavior"]["scaleDown"]["stabilizationWindowSeconds"],
        7
    );
    assert_eq!(read["metadata"]["annotations"], Value::Null);
}
