//! Connections into pods, and creations by verbs that don't say so, by somebody who may only read or change.

use serde_json::{Value, json};

use super::harness::{Answer, Api, CLASSES, CONFIG_MAPS, PODS, class, pod};

/// Gives a user some verbs on some resources.
async fn grant(api: &Api, user: &str, verbs: &[&str], resources: &[&str]) {
    let rule = json!({"apiGroups": ["*"], "resources": resources, "verbs": verbs});
    super::harness::grant(api, user, user, json!([rule])).await;
}

const CONNECTIONS: [&str; 6] = [
    "pods/exec",
    "pods/attach",
    "pods/portforward",
    "pods/proxy",
    "nodes/proxy",
    "services/proxy",
];

async fn as_of(api: &Api, user: &str, method: &str, path: &str, upgrade: bool) -> Answer {
    let mut headers = vec![("impersonate-user", user)];
    if upgrade {
        headers.extend([
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ]);
    }
    api.raw(method, path, &headers, "").await
}

#[tokio::test]
async fn whoever_may_only_read_connects_to_nothing() {
    let api = Api::start().await;
    api.post(PODS, pod("p")).await.expect(201);
    api.post("/api/v1/nodes", json!({"metadata": {"name": "n"}}))
        .await
        .expect(201);
    grant(&api, "reader", &["get", "list", "watch"], &CONNECTIONS).await;
    grant(&api, "creator", &["create"], &CONNECTIONS).await;
    grant(&api, "both", &["get", "create"], &CONNECTIONS).await;
    let watched = PODS.replace("/v1/", "/v1/watch/");
    for sub in ["exec?command=sh", "attach", "portforward?ports=80"] {
        for method in ["GET", "POST"] {
            for upgrade in [true, false] {
                let path = format!("{PODS}/p/{sub}");
                let refused = as_of(&api, "reader", method, &path, upgrade).await;
                assert_eq!(refused.code, 403, "{method} {sub}: {}", refused.text);
                assert!(
                    refused.text.contains("cannot create resource"),
                    "{}",
                    refused.text
                );
                // 503: this server was given no way to its nodes, and would have gone there.
                let allowed = as_of(&api, "creator", method, &path, upgrade).await;
                assert_eq!(allowed.code, 503, "{method} {sub}: {}", allowed.text);
            }
        }
        for method in ["PUT", "PATCH", "DELETE"] {
            let path = format!("{PODS}/p/{sub}");
            let answer = as_of(&api, "both", method, &path, false).await;
            assert_eq!(answer.code, 403, "{method} {sub}: {}", answer.text);
        }
        let path = format!("{watched}/p/{sub}");
        let answer = as_of(&api, "reader", "GET", &path, true).await;
        assert_eq!(answer.code, 404, "{path}: {}", answer.text);
        let answer = as_of(&api, "reader", "POST", &path, true).await;
        assert_eq!(answer.code, 405, "{path}: {}", answer.text);
    }
    let pod_proxy = format!("{PODS}/p/proxy/x");
    let service_proxy = "/api/v1/namespaces/default/services/https:kubernetes:https/proxy/x";
    for path in [
        pod_proxy.as_str(),
        "/api/v1/nodes/n/proxy/exec/default/p/c",
        service_proxy,
    ] {
        for (user, method, upgrade, code) in [
            ("reader", "GET", false, 503),
            ("reader", "GET", true, 403),
            ("reader", "POST", false, 403),
            ("reader", "DELETE", false, 403),
            ("creator", "GET", true, 403),
            ("creator", "POST", false, 503),
            ("both", "GET", true, 503),
        ] {
            let answer = as_of(&api, user, method, path, upgrade).await;
            assert_eq!(
                answer.code, code,
                "{user} {method} {path} {upgrade}: {}",
                answer.text
            );
        }
    }
}

async fn write(
    api: &Api,
    user: &str,
    method: &str,
    content: &str,
    path: &str,
    body: &Value,
) -> Answer {
    let headers = [("impersonate-user", user), ("content-type", content)];
    api.raw(method, path, &headers, body.to_string()).await
}

const JSON: &str = "application/json";
const APPLY: &str = "application/apply-patch+yaml";

#[tokio::test]
async fn an_update_of_what_is_not_there_needs_create() {
    let api = Api::start().await;
    let kinds = ["runtimeclasses", "leases", "configmaps"];
    grant(&api, "updater", &["get", "update", "patch"], &kinds).await;
    grant(&api, "owner", &["create", "update", "patch"], &kinds).await;
    let path = format!("{CLASSES}/c");
    let refused = write(&api, "updater", "PUT", JSON, &path, &class("c", "runc")).await;
    assert_eq!(refused.code, 403, "{}", refused.text);
    assert_eq!(
        refused.json()["message"],
        "runtimeclasses.node.k8s.io \"c\" is forbidden: User \"updater\" cannot create resource \"runtimeclasses\" in API group \"node.k8s.io\" at the cluster scope"
    );
    assert_eq!(api.get(&path).await.code, 404);
    let created = write(&api, "owner", "PUT", JSON, &path, &class("c", "runc")).await;
    assert_eq!(created.code, 201, "{}", created.text);
    let mut changed = class("c", "runc");
    changed["metadata"] = json!({"name": "c", "labels": {"a": "b"}, "resourceVersion": created.json()["metadata"]["resourceVersion"]});
    let updated = write(&api, "updater", "PUT", JSON, &path, &changed).await;
    assert_eq!(updated.code, 200, "{}", updated.text);
    let lease = json!({"metadata": {"name": "l"}});
    let path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l";
    let refused = write(&api, "updater", "PUT", JSON, path, &lease).await;
    assert_eq!(refused.code, 403, "{}", refused.text);
}

#[tokio::test]
async fn an_apply_of_what_is_not_there_needs_create() {
    let api = Api::start().await;
    grant(&api, "patcher", &["get", "patch"], &["configmaps"]).await;
    grant(&api, "owner", &["create", "patch"], &["configmaps"]).await;
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"k": "v"}});
    let path = format!("{CONFIG_MAPS}/m");
    for query in [
        "?fieldManager=x",
        "?fieldManager=x&dryRun=All",
        "?fieldManager=x&force=true",
    ] {
        let path = format!("{path}{query}");
        let refused = write(&api, "patcher", "PATCH", APPLY, &path, &object).await;
        assert_eq!(refused.code, 403, "{query}: {}", refused.text);
    }
    assert_eq!(api.get(&path).await.code, 404);
    let path = format!("{path}?fieldManager=x");
    let created = write(&api, "owner", "PATCH", APPLY, &path, &object).await;
    assert_eq!(created.code, 201, "{}", created.text);
    let patched = write(&api, "patcher", "PATCH", APPLY, &path, &object).await;
    assert_eq!(patched.code, 200, "{}", patched.text);
}
