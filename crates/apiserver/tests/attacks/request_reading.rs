//! Requests that could be read in two ways.
//!
//! [`what_is_authorized_is_what_is_executed`] is the table of the design: for each form of a request there is one
//! permission that it needs. It is sent by users who hold one permission each, of all that there are; whoever holds
//! another one is refused, and whoever holds the right one gets what the permission says and nothing more.

mod forms;

use futures::future::join_all;
use serde_json::{Value, json};

use self::forms::Form;
use super::harness::{Answer, Api, CLASSES, CONFIG_MAPS, PATIENCE, RBAC, bind, class, pod};

const VERBS: [&str; 8] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
];
const RESOURCES: [&str; 8] = [
    "configmaps",
    "pods",
    "pods/status",
    "pods/exec",
    "pods/log",
    "pods/proxy",
    "namespaces",
    "runtimeclasses",
];
/// The name that half of the permissions are limited to.
const LIMIT: &str = "a";

/// One permission, and the user who holds it.
#[derive(Clone, Copy)]
struct Permission {
    verb: &'static str,
    resource: &'static str,
    limited: bool,
}

impl Permission {
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for verb in VERBS {
            for resource in RESOURCES {
                for limited in [false, true] {
                    all.push(Self {
                        verb,
                        resource,
                        limited,
                    });
                }
            }
        }
        all
    }

    fn user(self) -> String {
        let limit = if self.limited { "-limited" } else { "" };
        format!("{}-{}{limit}", self.verb, self.resource.replace('/', "-"))
    }

    /// The permissions as roles; all of them are bound before the first request.
    async fn grant(self, api: &Api) {
        let mut rule = json!({"apiGroups": ["", "node.k8s.io"], "resources": [self.resource], "verbs": [self.verb]});
        if self.limited {
            rule["resourceNames"] = json!([LIMIT]);
        }
        let role = json!({"metadata": {"name": self.user()}, "rules": [rule]});
        api.post(&format!("{RBAC}/clusterroles"), role)
            .await
            .expect(201);
        bind(api, &self.user(), &self.user(), &self.user()).await;
    }
}

async fn send(api: &Api, user: &str, method: &str, path: &str, body: &Value) -> Answer {
    let content = match method {
        "PATCH" => "application/merge-patch+json",
        _ => "application/json",
    };
    let headers = [("impersonate-user", user), ("content-type", content)];
    let body = match method {
        "GET" | "HEAD" | "DELETE" => String::new(),
        _ => body.to_string(),
    };
    api.raw(method, path, &headers, body).await
}

/// What was executed, as the answer shows it: the names of the objects in it.
fn shown(answer: &Answer) -> Vec<String> {
    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap_or("").to_owned();
    let mut names = Vec::new();
    for line in answer.text.lines().filter(|line| line.starts_with('{')) {
        let Ok(value) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        if let Some(items) = value["items"].as_array() {
            names.extend(items.iter().map(name));
        } else if value["kind"] == "Status" {
            names.push(value["details"]["name"].as_str().unwrap_or("").to_owned());
        } else if value["type"].is_string() {
            names.push(name(&value["object"]));
        } else {
            names.push(name(&value));
        }
    }
    names
}

async fn prepare() -> Api {
    let api = Api::start().await;
    for name in ["a", "b"] {
        api.config_map(name, json!({})).await;
        api.post(CLASSES, class(name, "runc")).await.expect(201);
        let namespace = json!({"metadata": {"name": name}});
        api.post("/api/v1/namespaces", namespace).await.expect(201);
        api.post("/api/v1/namespaces/default/pods", pod(name))
            .await
            .expect(201);
    }
    for permission in Permission::all() {
        permission.grant(&api).await;
    }
    api
}

async fn revision(api: &Api) -> String {
    let list = api.get("/api/v1/namespaces?limit=1").await.expect(200);
    list["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_authorized_is_what_is_executed() {
    let api = prepare().await;
    let before = revision(&api).await;
    let users = Permission::all();
    for form in Form::all() {
        let Form {
            method,
            path,
            needed,
            limit,
        } = form;
        let new = path.contains("dryRun") && method == "POST";
        let name = if new { "new" } else { limit.unwrap_or(LIMIT) };
        let kind = if path.contains("/pods/") {
            "Pod"
        } else {
            "ConfigMap"
        };
        let body = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "labels": {"written": "yes"}}});
        let answers = join_all(users.iter().map(|permission| {
            let (api, body) = (&api, &body);
            async move { send(api, &permission.user(), method, path, body).await }
        }));
        for (permission, answer) in users.iter().zip(answers.await) {
            let who = permission.user();
            let right = needed == Some((permission.verb, permission.resource))
                && (!permission.limited || limit == Some(LIMIT));
            if !right {
                let refused = match needed {
                    Some(_) => answer.code == 403,
                    None => matches!(answer.code, 400 | 403..=405),
                };
                assert!(
                    refused,
                    "{method} {path} by {who}: {} {}",
                    answer.code, answer.text
                );
                continue;
            }
            let connects = ["/exec", "/log", "/proxy"].iter().any(|c| path.contains(c));
            if connects {
                // This server was given no way to its nodes: authorization was all.
                assert_eq!(
                    answer.code, 503,
                    "{method} {path} by {who}: {}",
                    answer.text
                );
                continue;
            }
            assert!(
                answer.code < 300,
                "{method} {path} by {who}: {} {}",
                answer.code,
                answer.text
            );
            if method == "HEAD" {
                continue;
            }
            let names = shown(&answer);
            assert!(!names.is_empty(), "{method} {path} by {who} shows nothing");
            if let Some(limit) = limit {
                assert!(
                    names.iter().all(|n| n == limit),
                    "{method} {path} by {who} shows {names:?}"
                );
            }
        }
    }
    assert_eq!(revision(&api).await, before, "nothing was to be written");
}

/// Whoever may do everything in a namespace may do nothing outside.
#[tokio::test]
async fn a_namespaces_admin_reaches_nothing_of_the_clusters_scope() {
    let api = Api::start().await;
    api.post("/api/v1/namespaces", json!({"metadata": {"name": "mine"}}))
        .await
        .expect(201);
    api.post(CLASSES, class("c", "runc")).await.expect(201);
    let role = json!({"metadata": {"name": "all"}, "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]});
    let roles = format!("{RBAC}/namespaces/mine");
    api.post(&format!("{roles}/roles"), role).await.expect(201);
    let binding = json!({"metadata": {"name": "all"}, "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "mallory"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "all"}});
    api.post(&format!("{roles}/rolebindings"), binding)
        .await
        .expect(201);
    let own = send(
        &api,
        "mallory",
        "GET",
        "/api/v1/namespaces/mine",
        &json!({}),
    )
    .await;
    assert_eq!(own.code, 200, "{}", own.text);
    let body = json!({"metadata": {"name": "kube-system", "labels": {"taken": "over"}}});
    for (method, path) in [
        ("GET", "/api/v1/namespaces/mine/namespaces/kube-system"),
        ("GET", "/api/v1/namespaces/mine/namespaces"),
        ("PUT", "/api/v1/namespaces/mine/namespaces/kube-system"),
        ("PATCH", "/api/v1/namespaces/mine/namespaces/kube-system"),
        (
            "PUT",
            "/api/v1/namespaces/mine/namespaces/kube-system/finalize",
        ),
        ("DELETE", "/api/v1/namespaces/mine/namespaces/default"),
        ("DELETE", "/api/v1/namespaces/mine/namespaces"),
        ("POST", "/api/v1/namespaces/mine/namespaces"),
        (
            "GET",
            "/apis/node.k8s.io/v1/namespaces/mine/runtimeclasses/c",
        ),
        (
            "DELETE",
            "/apis/node.k8s.io/v1/namespaces/mine/runtimeclasses/c",
        ),
    ] {
        let answer = send(&api, "mallory", method, path, &body).await;
        assert_eq!(answer.code, 404, "{method} {path}: {}", answer.text);
    }
    let labels =
        api.get("/api/v1/namespaces/kube-system").await.expect(200)["metadata"]["labels"].clone();
    assert!(labels.get("taken").is_none(), "{labels}");
    api.get(&format!("{CLASSES}/c")).await.expect(200);
}

/// A node may read the Secrets of its pods by name; no form of selector shows it another one.
#[tokio::test]
async fn a_node_sees_no_secret_but_those_of_its_pods() {
    let api = Api::start().await;
    let secrets = "/api/v1/namespaces/default/secrets";
    for name in ["mounted", "other"] {
        let secret = json!({"metadata": {"name": name}, "stringData": {"k": "v"}});
        api.post(secrets, secret).await.expect(201);
    }
    let mut mounting = pod("p");
    mounting["spec"]["nodeName"] = json!("n1");
    mounting["spec"]["volumes"] = json!([{"name": "v", "secret": {"secretName": "mounted"}}]);
    api.post("/api/v1/namespaces/default/pods", mounting)
        .await
        .expect(201);
    let ask = async |query: &str| {
        let headers = [
            ("impersonate-user", "system:node:n1"),
            ("impersonate-group", "system:nodes"),
        ];
        api.raw("GET", &format!("{secrets}{query}"), &headers, "")
            .await
    };
    let listed = ask("?fieldSelector=metadata.name=mounted").await;
    assert_eq!(
        (listed.code, shown(&listed)),
        (200, vec!["mounted".to_owned()])
    );
    for query in [
        "",
        "/other",
        "?fieldSelector=metadata.name=other",
        "?fieldSelector=metadata.name=other&fieldSelector=metadata.name=mounted",
        "?fieldSelector=metadata.name=mounted&fieldSelector=metadata.name=other",
        "?fieldSelector=metadata.namespace=default&fieldSelector=metadata.name=mounted",
        "?fieldSelector=metadata.namespace!=x%5C,metadata.name=mounted",
        "?fieldSelector=metadata.namespace!=x%5C,metadata.name%5C=mounted",
        "?fieldSelector=metadata.name!=x,metadata.namespace=default",
    ] {
        let answer = ask(query).await;
        assert!(
            matches!(answer.code, 400 | 403),
            "{query}: {} {}",
            answer.code,
            answer.text
        );
    }
}

/// Anybody can ask for what is not there; what is counted must not grow with it.
#[tokio::test]
async fn made_up_names_are_not_counted() {
    let api = Api::start().await;
    for path in [
        "/api/v1/madeup",
        "/apis/madeup.io/v1/things",
        "/api/v1/namespaces/default/pods/p/madeup",
        "/api/v1/namespaces/default/pods?limit=madeup",
        "/madeup",
    ] {
        for user in ["system:anonymous", "nobody"] {
            send(&api, user, "GET", path, &json!({})).await;
            send(&api, user, "MADEUP", path, &json!({})).await;
        }
    }
    let metrics = api.get("/metrics").await.text;
    assert!(metrics.contains("apiserver_request_total"), "{metrics}");
    assert!(!metrics.to_lowercase().contains("madeup"), "{metrics}");
}

/// Times that no clock can show ended a worker.
#[tokio::test]
async fn times_beyond_range_are_refused() {
    let api = Api::start().await;
    let mut running = pod("p");
    running["spec"]["nodeName"] = json!("n1");
    let pods = "/api/v1/namespaces/default/pods";
    api.post(pods, running).await.expect(201);
    for (query, code) in [
        ("gracePeriodSeconds=9223372036854775807", 422),
        ("gracePeriodSeconds=99999999999999999999", 400),
    ] {
        let answer = api.delete(&format!("{pods}/p?{query}")).await;
        assert_eq!(answer.code, code, "{query}: {}", answer.text);
    }
    let options =
        json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": i64::MAX});
    let json = [("content-type", "application/json")];
    let answer = api
        .raw("DELETE", &format!("{pods}/p"), &json, options.to_string())
        .await;
    assert_eq!(answer.code, 422, "{}", answer.text);
    for seconds in [
        "-1",
        "2147483648",
        "9223372036854775807",
        "99999999999999999999",
        "x",
    ] {
        let path = format!("{CONFIG_MAPS}?watch=1&timeoutSeconds={seconds}");
        let answer = tokio::time::timeout(PATIENCE, api.get(&path)).await;
        assert_eq!(answer.expect("no watch").code, 400, "{seconds}");
    }
    api.get(&format!("{pods}/p")).await.expect(200);
}
