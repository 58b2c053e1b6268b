//! Roles and bindings that make the question of who may do what expensive.

use serde_json::{Value, json};

use super::*;
use crate::harness::{Answer, RBAC, bind};

const NAMESPACED: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";

/// `mallory` is the administrator of a namespace, and has a role there with very many names.
async fn start() -> Api {
    let api = Api::start_with(with_users).await;
    bind(&api, "tenant", "admin", "mallory").await;
    for n in 0..3 {
        let names: Vec<String> = (0..15_000)
            .map(|name| format!("{n}-{name:05}-{}", "x".repeat(40)))
            .collect();
        let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"], "resourceNames": names}]);
        let role = json!({"metadata": {"name": format!("wide{n}")}, "rules": rules});
        as_mallory(&api, "POST", &format!("{NAMESPACED}/roles"), &role)
            .await
            .expect(201);
        bind_role(&api, &format!("wide{n}"), n).await;
    }
    api
}

async fn as_mallory(api: &Api, method: &str, path: &str, body: &Value) -> Answer {
    let headers = [
        ("authorization", "Bearer mallory"),
        ("content-type", "application/json"),
    ];
    api.raw_without_credentials(method, path, &headers, body.to_string())
        .await
}

async fn bind_role(api: &Api, role: &str, n: usize) {
    let binding = json!({"metadata": {"name": format!("{role}-{n}")},
        "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "mallory"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role}});
    as_mallory(api, "POST", &format!("{NAMESPACED}/rolebindings"), &binding)
        .await
        .expect(201);
}

#[tokio::test]
async fn the_rules_of_a_role_count_once_however_often_it_is_bound() {
    let api = start().await;
    for n in 10..40 {
        bind_role(&api, "wide0", n).await;
    }
    let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let question = json!({"spec": {"namespace": "default"}});
    let answer = as_mallory(&api, "POST", path, &question).await;
    // Three roles of three quarters of a megabyte, of which an answer need not have all.
    assert!(answer.text.len() < 2 << 20, "{}", answer.text.len());
    let status = answer.expect(201)["status"].clone();
    assert_eq!(status["incomplete"], true);
    let error = status["evaluationError"].as_str().unwrap();
    assert!(error.contains("too many rules"), "{error}");
    // Whoever has an ordinary number sees them all.
    bind(&api, "jane", "view", "jane").await;
    let headers = [
        ("impersonate-user", "jane"),
        ("content-type", "application/json"),
    ];
    let answer = api.raw("POST", path, &headers, question.to_string()).await;
    assert_eq!(answer.expect(201)["status"]["incomplete"], false);
    others_are_served(&api).await;
}

#[tokio::test]
async fn what_somebody_has_and_what_he_gives_do_not_multiply() {
    let api = start().await;
    // Some hundred bytes that stand for twenty thousand pods, none of which he may read.
    let list = |prefix: &str, count: usize| -> Vec<String> {
        (0..count).map(|n| format!("{prefix}{n}")).collect()
    };
    let rules = json!([{"apiGroups": list("g", 27), "resources": list("r", 27), "verbs": ["get"],
        "resourceNames": list("n", 27)}]);
    let role = json!({"metadata": {"name": "given"}, "rules": rules});
    let begun = Instant::now();
    let answer = as_mallory(&api, "POST", &format!("{NAMESPACED}/roles"), &role).await;
    let took = begun.elapsed();
    assert_eq!(answer.code, 403, "{:.300}", answer.text);
    // It took minutes.
    assert!(took < Duration::from_secs(8), "{took:?}");
    let roles = format!("{RBAC}/namespaces/default/roles/given");
    assert_eq!(api.get(&roles).await.code, 404);
}

/// Whoever administers a namespace may ask about anybody there, and chooses what that somebody is a member of.
#[tokio::test]
async fn groups_and_subjects_do_not_multiply() {
    let api = Api::start_with(with_users).await;
    bind(&api, "tenant", "admin", "mallory").await;
    for n in 0..2 {
        let subjects: Vec<Value> = (0..12_000)
            .map(|s| json!({"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": format!("s{n}-{s:06}")}))
            .collect();
        let binding = json!({"metadata": {"name": format!("b{n}")}, "subjects": subjects,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"}});
        as_mallory(
            &api,
            "POST",
            &format!("{NAMESPACED}/rolebindings"),
            &binding,
        )
        .await
        .expect(201);
    }
    let groups: Vec<String> = (0..100_000).map(|g| format!("g0-{g:06}")).collect();
    let review = json!({"metadata": {"namespace": "default"}, "spec": {"user": "x", "groups": groups,
        "resourceAttributes": {"namespace": "default", "verb": "get", "resource": "secrets"}}});
    let path = "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews";
    let begun = Instant::now();
    let answer = as_mallory(&api, "POST", path, &review).await;
    assert_eq!(answer.expect(201)["status"]["allowed"], false);
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(8), "{took:?}");
    others_are_served(&api).await;
}
