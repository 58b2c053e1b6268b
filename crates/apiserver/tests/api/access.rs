//! Who may do what: stock roles, custom roles, impersonation, escalation, nodes, tokens, reviews.

use serde_json::{Value, json};

use super::harness::{Api, CLASSES, CONFIG_MAPS, PODS, RBAC, as_user, bind, class, pod};

const AUTHENTICATED: &str = "system:authenticated";

#[tokio::test]
async fn only_admins_write_runtime_classes() {
    let api = Api::start().await;
    for (role, pods) in [
        ("view", 403),
        ("edit", 201),
        ("admin", 201),
        ("cluster-admin", 201),
    ] {
        bind(&api, &format!("b-{role}"), role, role).await;
        let may = if role == "cluster-admin" { 201 } else { 403 };
        let answer = as_user(
            &api,
            role,
            &[AUTHENTICATED],
            "POST",
            CLASSES,
            Some(class(role, "runc")),
        )
        .await;
        assert_eq!(answer.code, may, "{role}: {}", answer.text);
        let answer = as_user(&api, role, &[AUTHENTICATED], "POST", PODS, Some(pod(role))).await;
        assert_eq!(answer.code, pods, "{role}: {}", answer.text);
    }
    let refused = as_user(
        &api,
        "view",
        &[AUTHENTICATED],
        "POST",
        CLASSES,
        Some(class("x", "runc")),
    )
    .await
    .expect(403);
    assert_eq!(
        refused["message"],
        "runtimeclasses.node.k8s.io is forbidden: User \"view\" cannot create resource \"runtimeclasses\" in API group \"node.k8s.io\" at the cluster scope"
    );
}

#[tokio::test]
async fn a_role_that_joins_an_aggregated_one_takes_effect_and_is_shown() {
    let api = Api::start().await;
    bind(&api, "b", "view", "eve").await;
    assert_eq!(
        as_user(&api, "eve", &[], "GET", CLASSES, None).await.code,
        403
    );
    let role = json!({"metadata": {"name": "classes", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        "rules": [{"apiGroups": ["node.k8s.io"], "resources": ["runtimeclasses"], "verbs": ["list"]}]});
    let mut roles = api
        .watch(&format!(
            "{RBAC}/clusterroles?watch=true&fieldSelector=metadata.name=view&resourceVersion=0"
        ))
        .await;
    api.post(&format!("{RBAC}/clusterroles"), role)
        .await
        .expect(201);
    assert_eq!(
        as_user(&api, "eve", &[], "GET", CLASSES, None).await.code,
        200
    );
    while !roles.next().await.unwrap()["object"]["rules"]
        .to_string()
        .contains("runtimeclasses")
    {}
}

#[tokio::test]
async fn nobody_gives_what_he_does_not_have() {
    let api = Api::start().await;
    let role = |verb: &str, name: &str| {
        json!({"metadata": {"name": name}, "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": [verb]},
            {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles", "clusterrolebindings"], "verbs": ["create"]}]})
    };
    let path = format!("{RBAC}/clusterroles");
    api.post(&path, role("get", "getter")).await.expect(201);
    bind(&api, "b", "getter", "mallory").await;
    let write = async |path: &str, body: Value| {
        as_user(&api, "mallory", &[], "POST", path, Some(body))
            .await
            .code
    };
    assert_eq!(write(&path, role("get", "same")).await, 201);
    assert_eq!(write(&path, role("delete", "more")).await, 403);
    let binding = |role: &str| {
        json!({"metadata": {"name": format!("m-{role}")}, "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "mallory"}],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}})
    };
    let bindings = format!("{RBAC}/clusterrolebindings");
    assert_eq!(write(&bindings, binding("getter")).await, 201);
    assert_eq!(write(&bindings, binding("cluster-admin")).await, 403);
}

#[tokio::test]
async fn impersonation_needs_leave_for_each_part() {
    let api = Api::start().await;
    let role = json!({"metadata": {"name": "actor"}, "rules": [{"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"], "resourceNames": ["bob"]}]});
    api.post(&format!("{RBAC}/clusterroles"), role)
        .await
        .expect(201);
    let account = json!({"metadata": {"name": "actor"}});
    api.post("/api/v1/namespaces/default/serviceaccounts", account)
        .await
        .expect(201);
    bind(&api, "actor", "actor", "alice").await;
    // the caller is a master; what counts below is the answer of a review about alice
    let may = async |resource: &str, name: &str| {
        let spec = json!({"user": "alice", "resourceAttributes": {"verb": "impersonate", "resource": resource, "name": name}});
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        api.post(path, json!({"spec": spec})).await.expect(201)["status"]["allowed"].clone()
    };
    assert_eq!(may("users", "bob").await, true);
    assert_eq!(may("users", "eve").await, false);
    assert_eq!(may("groups", "system:masters").await, false);
    let who = as_user(
        &api,
        "bob",
        &["g"],
        "POST",
        "/apis/authentication.k8s.io/v1/selfsubjectreviews",
        Some(json!({})),
    )
    .await
    .expect(201);
    assert_eq!(
        who["status"]["userInfo"],
        json!({"username": "bob", "groups": ["g", AUTHENTICATED]})
    );
    let answer = api
        .raw("GET", CONFIG_MAPS, &[("impersonate-group", "g")], "")
        .await;
    assert_eq!(answer.code, 400);
}

#[tokio::test]
async fn a_node_reads_only_what_its_pods_use() {
    let api = Api::start().await;
    let mut mounting = pod("p");
    mounting["spec"]["nodeName"] = json!("n1");
    mounting["spec"]["volumes"] = json!([{"name": "v", "configMap": {"name": "mine"}}]);
    api.post(PODS, mounting).await.expect(201);
    for name in ["mine", "other"] {
        api.config_map(name, json!({})).await;
    }
    let get = async |node: &str, path: &str| {
        let user = format!("system:node:{node}");
        as_user(
            &api,
            &user,
            &["system:nodes", AUTHENTICATED],
            "GET",
            path,
            None,
        )
        .await
        .code
    };
    assert_eq!(get("n1", &format!("{CONFIG_MAPS}/mine")).await, 200);
    assert_eq!(get("n1", &format!("{CONFIG_MAPS}/other")).await, 403);
    assert_eq!(get("n2", &format!("{CONFIG_MAPS}/mine")).await, 403);
    assert_eq!(get("n1", CONFIG_MAPS).await, 403);
    assert_eq!(get("n1", &format!("{PODS}/p")).await, 200);
    assert_eq!(get("n2", &format!("{PODS}/p")).await, 403);
    assert_eq!(get("n1", CLASSES).await, 200);
    let refused = as_user(
        &api,
        "system:node:n2",
        &["system:nodes"],
        "DELETE",
        "/api/v1/nodes/n1",
        None,
    )
    .await;
    assert_eq!(refused.code, 403, "{}", refused.text);
}

/// A stock kubelet says that it is not ready until it has written its own.
#[tokio::test]
async fn a_node_writes_its_csi_node() {
    let api = Api::start().await;
    let path = "/apis/storage.k8s.io/v1/csinodes";
    let own = json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "metadata": {"name": "n1"}, "spec": {"drivers": []}});
    let call = async |node: &str, verb: &str, path: &str, body: Option<Value>| {
        let user = format!("system:node:{node}");
        as_user(
            &api,
            &user,
            &["system:nodes", AUTHENTICATED],
            verb,
            path,
            body,
        )
        .await
        .code
    };
    assert_eq!(call("n1", "POST", path, Some(own.clone())).await, 201);
    let one = format!("{path}/n1");
    assert_eq!(call("n1", "GET", &one, None).await, 200);
    assert_eq!(call("n2", "PUT", &one, Some(own)).await, 403);
    let drivers = "/apis/storage.k8s.io/v1/csidrivers";
    assert_eq!(call("n1", "GET", drivers, None).await, 200);
}

#[tokio::test]
async fn rules_and_reviews_agree_with_the_answers() {
    let api = Api::start().await;
    let role = json!({"metadata": {"name": "r", "namespace": "default"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"], "resourceNames": ["one"]}]});
    api.post(&format!("{RBAC}/namespaces/default/roles"), role)
        .await
        .expect(201);
    let binding = json!({"metadata": {"name": "b"}, "subjects": [{"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "g"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}});
    api.post(&format!("{RBAC}/namespaces/default/rolebindings"), binding)
        .await
        .expect(201);
    api.post(PODS, pod("one")).await.expect(201);
    api.post(PODS, pod("two")).await.expect(201);
    let get = async |name: &str| {
        as_user(&api, "u", &["g"], "GET", &format!("{PODS}/{name}"), None)
            .await
            .code
    };
    assert_eq!((get("one").await, get("two").await), (200, 403));
    let review = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default", "name": "one"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let status = as_user(&api, "u", &["g"], "POST", path, Some(review))
        .await
        .expect(201)["status"]
        .clone();
    assert_eq!(status["allowed"], true);
    let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let rules = as_user(
        &api,
        "u",
        &["g"],
        "POST",
        path,
        Some(json!({"spec": {"namespace": "default"}})),
    )
    .await
    .expect(201);
    let wanted = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["one"]});
    assert!(
        rules["status"]["resourceRules"]
            .as_array()
            .unwrap()
            .contains(&wanted),
        "{rules}"
    );
}
