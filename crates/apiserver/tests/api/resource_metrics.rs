//! metrics.k8s.io, from what nodes say.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Api, as_user, bind, names};
use crate::kubelet_server::{Kubelet, METRICS, authority, list, node, pod_on, said, start};

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";

/// Two nodes; `a` has the pods `web` and `db`.
async fn cluster() -> (Api, Kubelet) {
    let ca = authority();
    let api = start(&ca, &["a", "b"]).await;
    // Ten seconds go by from answer to answer.
    let kubelet = Kubelet::start(&ca, "a", |n| Some(said(10 * n, &["web", "db"]))).await;
    let other = Kubelet::start(&ca, "b", |n| Some(said(10 * n, &[]))).await;
    node(&api, "a", kubelet.port, json!({"zone": "x"})).await;
    node(&api, "b", other.port, json!({"zone": "y"})).await;
    pod_on(&api, "web", "a", json!({"app": "web"})).await;
    pod_on(&api, "db", "a", json!({"app": "db"})).await;
    pod_on(&api, "quiet", "b", json!({})).await;
    (api, kubelet)
}

#[tokio::test]
async fn nodes_and_pods_use_what_their_nodes_say() {
    let (api, kubelet) = cluster().await;
    assert_eq!(kubelet.requests(), 0, "nobody has asked yet");
    let nodes = list(&api, &format!("{METRICS}/nodes"), &["a", "b"]).await;
    assert_eq!(nodes["kind"], "NodeMetricsList");
    assert_eq!(names(&nodes), ["a", "b"]);
    let first = &nodes["items"][0];
    assert_eq!(first["usage"], json!({"cpu": "250m", "memory": "1Mi"}));
    assert_eq!(first["window"], "10s");
    assert_eq!(first["metadata"]["labels"]["zone"], "x");
    assert!(first["timestamp"].as_str().unwrap().ends_with('Z'));
    let one = api.get(&format!("{METRICS}/nodes/a")).await.expect(200);
    assert_eq!(
        (&one["kind"], &one["apiVersion"]),
        (&json!("NodeMetrics"), &json!("metrics.k8s.io/v1beta1"))
    );

    let pods = list(&api, &format!("{METRICS}/pods"), &["db", "web"]).await;
    let usage = json!({"cpu": "250m", "memory": "3Mi"});
    assert_eq!(
        pods["items"][1]["containers"],
        json!([{"name": "c", "usage": usage}])
    );
    let of_default = format!("{METRICS}/namespaces/default/pods");
    assert_eq!(
        names(&api.get(&of_default).await.expect(200)),
        ["db", "web"]
    );
    assert_eq!(
        names(
            &api.get(&format!("{METRICS}/namespaces/other/pods"))
                .await
                .expect(200)
        ),
        [""; 0]
    );
    let web = api.get(&format!("{of_default}/web")).await.expect(200);
    assert_eq!(web["metadata"]["namespace"], "default");
    // Of a pod that its node says nothing of nothing is known, and of one that there isn't either.
    for name in ["quiet", "none"] {
        let missing = api.get(&format!("{of_default}/{name}")).await.expect(404);
        assert_eq!(missing["details"]["group"], "metrics.k8s.io", "{missing}");
    }
}

#[tokio::test]
async fn selectors_tables_and_discovery_are_as_for_other_kinds() {
    let (api, _kubelet) = cluster().await;
    let of_default = format!("{METRICS}/namespaces/default/pods");
    list(&api, &of_default, &["db", "web"]).await;
    for (query, found) in [
        ("labelSelector=app=web", vec!["web"]),
        ("labelSelector=app in (db)", vec!["db"]),
        ("fieldSelector=metadata.name=db", vec!["db"]),
    ] {
        let list = api.get(&format!("{of_default}?{query}")).await.expect(200);
        assert_eq!(names(&list), found, "{query}");
    }
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = api.raw("GET", &of_default, &table, "").await.expect(200);
    let columns: Vec<&str> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| column["name"].as_str().unwrap())
        .collect();
    assert_eq!(columns, ["Name", "cpu", "memory", "Window"]);
    assert_eq!(
        table["rows"][0]["cells"],
        json!(["db", "250m", "3Mi", "10s"])
    );
    let groups = api.get("/apis").await.expect(200);
    let mut groups = groups["groups"].as_array().unwrap().iter();
    assert!(groups.any(|g| g["name"] == "metrics.k8s.io"));
    let list = api.get(METRICS).await.expect(200);
    let resources: Vec<(&Value, &Value)> = list["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| (&r["name"], &r["verbs"]))
        .collect();
    let verbs = json!(["get", "list"]);
    assert_eq!(
        resources,
        [(&json!("nodes"), &verbs), (&json!("pods"), &verbs)]
    );
    let document = api
        .get("/openapi/v3/apis/metrics.k8s.io/v1beta1")
        .await
        .expect(200);
    let schemas = &document["components"]["schemas"];
    let usage = &schemas["io.k8s.metrics.v1beta1.NodeMetrics"]["properties"]["usage"];
    assert_eq!(usage["additionalProperties"]["type"], "string", "{schemas}");
    // Nothing of it is written.
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let path = format!("{METRICS}/nodes/a");
        let answer = api.raw(method, &path, &[], "{}").await;
        assert_eq!(answer.code, 405, "{method}: {}", answer.text);
    }
    api.get(&format!("{METRICS}/nodes?watch=true"))
        .await
        .expect(405);
}

#[tokio::test]
async fn who_may_view_may_see_what_is_used() {
    let (api, _kubelet) = cluster().await;
    let path = format!("{METRICS}/nodes");
    let get = async |path: &str| as_user(&api, "jane", &[], "GET", path, None).await.code;
    assert_eq!(get(&path).await, 403);
    for (at, role) in ["view", "edit", "admin"].into_iter().enumerate() {
        let user = format!("user{at}");
        bind(&api, &format!("b{at}"), role, &user).await;
        let begun = Instant::now();
        // Aggregated roles are filled in by a task.
        while as_user(&api, &user, &[], "GET", &path, None).await.code != 200 {
            assert!(begun.elapsed() < Duration::from_secs(20), "{role}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn a_real_metrics_server_takes_its_place() {
    let (api, kubelet) = cluster().await;
    api.get(&format!("{SERVICES}/v1beta1.metrics.k8s.io"))
        .await
        .expect(404);
    let service = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "v1beta1.metrics.k8s.io"},
        "spec": {"group": "metrics.k8s.io", "version": "v1beta1", "insecureSkipTLSVerify": true,
            "groupPriorityMinimum": 100, "versionPriority": 100,
            "service": {"name": "metrics-server", "namespace": "kube-system"}}});
    api.post(SERVICES, service).await.expect(201);
    let path = format!("{METRICS}/nodes");
    let wait = async |code: u16| {
        let begun = Instant::now();
        loop {
            let answer = api.get(&path).await;
            if answer.code == code {
                return answer.text;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{}", answer.text);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    // It is not there, and nobody answers in its place.
    let text = wait(503).await;
    assert!(text.contains("service unavailable"), "{text}");
    // Its status follows: the server asks first, and writes then.
    let begun = Instant::now();
    loop {
        let service = api
            .get(&format!("{SERVICES}/v1beta1.metrics.k8s.io"))
            .await
            .expect(200);
        if service["status"]["conditions"][0]["reason"] == "FailedDiscoveryCheck" {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{service}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let asked = kubelet.requests();
    api.delete(&format!("{SERVICES}/v1beta1.metrics.k8s.io"))
        .await
        .expect(200);
    wait(200).await;
    assert!(kubelet.requests() >= asked);
}

#[tokio::test]
async fn a_server_that_cannot_reach_nodes_says_so() {
    let api = Api::start().await;
    let answer = api.get(&format!("{METRICS}/nodes")).await.expect(503);
    assert!(
        answer["message"]
            .as_str()
            .unwrap()
            .contains("client certificate for nodes")
    );
}
