//! Quotas and limits of a namespace, with the overhead of classes in their sums.

use serde_json::json;

use crate::harness::{Api, CLASSES, CONFIG_MAPS, PODS, class, pod};

const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";
const LIMITS: &str = "/api/v1/namespaces/default/limitranges";

#[tokio::test]
async fn overhead_counts_in_quota_and_limit_range() {
    let api = Api::start().await;
    let mut heavy = class("heavy", "runsc");
    heavy["overhead"] = json!({"podFixed": {"cpu": "600m"}});
    api.post(CLASSES, heavy).await.expect(201);
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"requests.cpu": "1"}}});
    api.post(QUOTAS, quota).await.expect(201);
    let sized = |name: &str, classy: bool| {
        let mut p = pod(name);
        p["spec"]["containers"][0]["resources"] =
            json!({"requests": {"cpu": "500m"}, "limits": {"cpu": "500m"}});
        if classy {
            p["spec"]["runtimeClassName"] = json!("heavy");
        }
        p
    };
    let refused = api.post(PODS, sized("a", true)).await.expect(403);
    let message = refused["message"].as_str().unwrap();
    assert!(
        message.contains("requested: requests.cpu=1100m, used: requests.cpu=0"),
        "{message}"
    );
    let refused = api.post(PODS, pod("b")).await.expect(403);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("must specify")
    );
    api.post(PODS, sized("c", false)).await.expect(201);
    api.post(PODS, sized("d", false)).await.expect(201);
    api.post(PODS, sized("e", false)).await.expect(403);

    api.delete(&format!("{QUOTAS}/q")).await.expect(200);
    let limits = json!({"metadata": {"name": "l"}, "spec": {"limits": [{"type": "Pod", "max": {"cpu": "1"}}]}});
    api.post(LIMITS, limits).await.expect(201);
    let refused = api.post(PODS, sized("f", true)).await.expect(403);
    assert!(refused["message"].as_str().unwrap().contains("1100m"));
    api.post(PODS, sized("g", false)).await.expect(201);
}

#[tokio::test]
async fn objects_are_counted() {
    let api = Api::start().await;
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {"configmaps": "2", "count/secrets": "0"}}});
    api.post(QUOTAS, quota).await.expect(201);
    let there = api.get(CONFIG_MAPS).await.expect(200)["items"]
        .as_array()
        .unwrap()
        .len();
    for i in there..2 {
        let map = json!({"metadata": {"name": format!("m{i}")}});
        api.post(CONFIG_MAPS, map).await.expect(201);
    }
    let map = json!({"metadata": {"name": "over"}});
    let refused = api.post(CONFIG_MAPS, map).await.expect(403);
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("exceeded quota: q, requested: configmaps=1")
    );
    let secrets = "/api/v1/namespaces/default/secrets";
    api.post(secrets, json!({"metadata": {"name": "s"}}))
        .await
        .expect(403);
}

#[tokio::test]
async fn storage_and_ports_of_nodes_are_measured() {
    let api = Api::start().await;
    let claims = "/api/v1/namespaces/default/persistentvolumeclaims";
    let services = "/api/v1/namespaces/default/services";
    let hard = json!({"requests.storage": "3Gi", "fast.storageclass.storage.k8s.io/persistentvolumeclaims": "1",
        "services.nodeports": "1", "services.loadbalancers": "0"});
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": hard}});
    api.post(QUOTAS, quota).await.expect(201);
    let claim = |name: &str, class: &str, size: &str| {
        json!({"metadata": {"name": name}, "spec": {"storageClassName": class, "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": size}}}})
    };
    api.post(claims, claim("a", "fast", "2Gi"))
        .await
        .expect(201);
    let refused = api
        .post(claims, claim("b", "slow", "2Gi"))
        .await
        .expect(403);
    let message = refused["message"].as_str().unwrap();
    let want = "requested: requests.storage=2Gi, used: requests.storage=2Gi, limited: requests.storage=3Gi";
    assert!(message.contains(want), "{message}");
    api.post(claims, claim("b", "fast", "1Gi"))
        .await
        .expect(403);
    api.post(claims, claim("b", "slow", "1Gi"))
        .await
        .expect(201);
    // A claim that grows takes what it takes in addition.
    let class = json!({"metadata": {"name": "slow"}, "provisioner": "d.example", "allowVolumeExpansion": true});
    api.post("/apis/storage.k8s.io/v1/storageclasses", class)
        .await
        .expect(201);
    let bound = json!({"status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}});
    api.merge(&format!("{claims}/b/status"), bound)
        .await
        .expect(200);
    let grown = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    api.merge(&format!("{claims}/b"), grown).await.expect(403);

    let service = |name: &str, kind: &str| json!({"metadata": {"name": name}, "spec": {"type": kind, "ports": [{"port": 80}]}});
    api.post(services, service("l", "LoadBalancer"))
        .await
        .expect(403);
    api.post(services, service("n", "NodePort"))
        .await
        .expect(201);
    api.post(services, service("m", "NodePort"))
        .await
        .expect(403);
    api.post(services, service("m", "ClusterIP"))
        .await
        .expect(201);
    let open = json!({"spec": {"type": "NodePort"}});
    api.merge(&format!("{services}/m"), open).await.expect(403);

    let limits = json!({"metadata": {"name": "l"}, "spec": {"limits": [
        {"type": "PersistentVolumeClaim", "min": {"storage": "100Mi"}, "max": {"storage": "500Mi"}}]}});
    api.post(LIMITS, limits).await.expect(201);
    api.delete(&format!("{claims}/b")).await.expect(200);
    for (size, code) in [("50Mi", 403), ("600Mi", 403), ("200Mi", 201)] {
        let answer = api.post(claims, claim("c", "slow", size)).await;
        assert_eq!(answer.code, code, "{size}: {}", answer.text);
    }
}
