use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, RoleBinding, RoleRef,
};
use serde_json::{Value, json};

use super::escalation::{EscalationError, check_binding, check_cluster_role, check_role};
use super::*;
use crate::Rules;

fn shared<T>(objects: Vec<T>) -> Vec<Arc<T>> {
    objects.into_iter().map(Arc::new).collect()
}

fn from<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn binding(user: &str, role: &str) -> ClusterRoleBinding {
    from(
        json!({"metadata": {"name": user}, "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "User", "name": user, "apiGroup": GROUP}]}),
    )
}

fn policy(more_roles: Vec<ClusterRole>, bindings: Vec<RoleBinding>) -> Policy {
    let mut roles = stock::cluster_roles();
    roles.extend(more_roles);
    let mut cluster = stock::cluster_role_bindings();
    for role in ["view", "edit", "admin", "cluster-admin"] {
        cluster.push(binding(&format!("{role}er"), role));
    }
    Policy::new(
        &shared(roles),
        shared(stock::roles()),
        shared(cluster),
        shared(bindings),
    )
}

fn user(name: &str) -> User {
    User::new(name, ["system:authenticated"])
}

fn on<'a>(verb: &'a str, namespace: &'a str, group: &'a str, resource: &'a str) -> Request<'a> {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    Request::Resource {
        verb,
        namespace,
        group,
        resource,
        subresource,
        name: "",
    }
}

#[test]
fn who_may_what_with_the_stock_roles() {
    let policy = policy(vec![], vec![]);
    for (who, request, want) in [
        ("alice", on("get", "a", "", "pods"), false),
        (
            "alice",
            on(
                "create",
                "",
                "authorization.k8s.io",
                "selfsubjectaccessreviews",
            ),
            true,
        ),
        (
            "alice",
            Request::Path {
                verb: "get",
                path: "/api",
            },
            true,
        ),
        (
            "alice",
            Request::Path {
                verb: "get",
                path: "/apis/node.k8s.io/v1",
            },
            true,
        ),
        (
            "alice",
            Request::Path {
                verb: "get",
                path: "/metrics",
            },
            false,
        ),
        ("viewer", on("list", "a", "", "pods"), true),
        ("viewer", on("list", "", "", "pods"), true),
        ("viewer", on("get", "a", "", "pods/log"), true),
        ("viewer", on("get", "a", "", "pods/exec"), false),
        ("viewer", on("get", "a", "", "secrets"), false),
        ("viewer", on("create", "a", "", "pods"), false),
        (
            "viewer",
            on("list", "", "node.k8s.io", "runtimeclasses"),
            false,
        ),
        ("viewer", on("list", "", "", "nodes"), false),
        ("editer", on("create", "a", "", "pods"), true),
        ("editer", on("list", "a", "", "pods"), true),
        ("editer", on("create", "a", "", "pods/exec"), true),
        (
            "editer",
            on("create", "a", "rbac.authorization.k8s.io", "roles"),
            false,
        ),
        (
            "editer",
            on("create", "", "node.k8s.io", "runtimeclasses"),
            false,
        ),
        (
            "adminer",
            on("create", "a", "rbac.authorization.k8s.io", "roles"),
            true,
        ),
        ("adminer", on("get", "a", "", "pods/log"), true),
        (
            "adminer",
            on("create", "", "rbac.authorization.k8s.io", "clusterroles"),
            false,
        ),
        (
            "cluster-adminer",
            on("create", "", "node.k8s.io", "runtimeclasses"),
            true,
        ),
        (
            "cluster-adminer",
            Request::Path {
                verb: "get",
                path: "/metrics",
            },
            true,
        ),
    ] {
        assert_eq!(
            policy.authorize(&user(who), &request).allowed(),
            want,
            "{who} {request:?}"
        );
    }
    // the group alone gives nobody a node's rights: those come from the Node authorizer
    let node = User::new("system:node:n1", ["system:nodes", "system:authenticated"]);
    let watch = on("watch", "", "node.k8s.io", "runtimeclasses");
    assert!(!policy.authorize(&node, &watch).allowed());
    let rules = stock::node_rules();
    let allowed = |request: &Request<'_>| rules.iter().any(|r| rule::allows(r, request));
    assert!(allowed(&watch));
    assert!(allowed(&on("patch", "a", "", "pods/status")));
    assert!(!allowed(&on("create", "", "node.k8s.io", "runtimeclasses")));
    let anonymous = User::new("system:anonymous", ["system:unauthenticated"]);
    assert!(
        policy
            .authorize(
                &anonymous,
                &Request::Path {
                    verb: "get",
                    path: "/healthz"
                }
            )
            .allowed()
    );
    assert!(
        !policy
            .authorize(
                &anonymous,
                &Request::Path {
                    verb: "get",
                    path: "/api"
                }
            )
            .allowed()
    );
    assert!(
        policy
            .authorize(&User::new("x", [MASTERS]), &on("frob", "", "x", "y"))
            .allowed()
    );
}

#[test]
fn names_subresources_and_service_accounts() {
    let role: ClusterRole = from(json!({"metadata": {"name": "r"}, "rules": [
        {"apiGroups": [""], "resources": ["pods", "*/scale"], "verbs": ["get"], "resourceNames": ["p"]}]}));
    let local: RoleBinding = from(json!({"metadata": {"name": "b", "namespace": "a"},
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": "r"},
        "subjects": [{"kind": "ServiceAccount", "name": "sa"}]}));
    let policy = policy(vec![role], vec![local]);
    let sa = User::new("system:serviceaccount:a:sa", ["system:serviceaccounts"]);
    for (namespace, resource, subresource, name, want) in [
        ("a", "pods", "", "p", true),
        ("a", "pods", "", "q", false),
        ("a", "pods", "", "", false),
        ("a", "pods", "log", "p", false),
        ("a", "anything", "scale", "p", true),
        ("b", "pods", "", "p", false),
        ("", "pods", "", "p", false),
    ] {
        let request = Request::Resource {
            verb: "get",
            namespace,
            group: "",
            resource,
            subresource,
            name,
        };
        assert_eq!(
            policy.authorize(&sa, &request).allowed(),
            want,
            "{request:?}"
        );
    }
}

#[test]
fn nobody_grants_what_they_do_not_hold() {
    let policy = policy(vec![], vec![]);
    let rules = |value: Value| -> Vec<PolicyRule> { from(value) };
    let pods =
        rules(json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "create"]}]));
    let nodes = rules(
        json!([{"apiGroups": [""], "resources": ["nodes", "pods"], "verbs": ["get", "list"]}]),
    );
    assert_eq!(
        check_role(&policy, &user("adminer"), "a", "r", &pods),
        Ok(())
    );
    let Err(EscalationError::NotHeld { missing, .. }) =
        check_role(&policy, &user("adminer"), "a", "r", &nodes)
    else {
        panic!("nodes must not be granted");
    };
    assert_eq!(
        missing,
        r#"{APIGroups:[""], Resources:["nodes"], Verbs:["get", "list"]}"#
    );
    assert_eq!(
        check_role(&policy, &user("cluster-adminer"), "a", "r", &nodes),
        Ok(())
    );
    assert_eq!(
        check_role(&policy, &User::new("x", [MASTERS]), "a", "r", &nodes),
        Ok(())
    );

    let mut aggregated: ClusterRole = from(json!({"metadata": {"name": "r"},
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}}));
    assert_eq!(
        check_cluster_role(&policy, &user("adminer"), &aggregated, None),
        Err(EscalationError::Aggregation)
    );
    assert_eq!(
        check_cluster_role(&policy, &user("cluster-adminer"), &aggregated, None),
        Ok(())
    );
    let before = aggregated.clone();
    aggregated.aggregation_rule = None;
    assert_eq!(
        check_cluster_role(&policy, &user("adminer"), &aggregated, Some(&before)),
        Err(EscalationError::Aggregation)
    );

    let reference = |name: &str| RoleRef {
        api_group: Some(GROUP.into()),
        kind: "ClusterRole".into(),
        name: name.into(),
    };
    assert_eq!(
        check_binding(&policy, &user("adminer"), "a", &reference("edit")),
        Ok(())
    );
    assert!(matches!(
        check_binding(&policy, &user("adminer"), "a", &reference("cluster-admin")),
        Err(EscalationError::NotHeld { .. })
    ));
    assert!(matches!(
        check_binding(&policy, &user("adminer"), "a", &reference("nope")),
        Err(EscalationError::RoleNotFound { .. })
    ));
}

#[test]
fn a_rule_of_a_few_kilobytes_that_stands_for_billions_is_not_taken_apart() {
    let policy = policy(vec![], vec![]);
    let many = |prefix: &str| {
        (0..3000)
            .map(|i| format!("{prefix}{i}"))
            .collect::<Vec<_>>()
    };
    let wide: Vec<PolicyRule> = from(
        json!([{"apiGroups": many("g"), "resources": many("r"), "verbs": many("v"), "resourceNames": many("n")}]),
    );
    assert_eq!(
        check_role(&policy, &user("adminer"), "a", "r", &wide),
        Err(EscalationError::TooWide {
            user: "adminer".to_owned()
        })
    );
    // Who holds everything holds this too.
    assert_eq!(
        check_role(&policy, &user("cluster-adminer"), "a", "r", &wide),
        Ok(())
    );
    let scattered: Vec<PolicyRule> =
        from(json!([{"apiGroups": ["x"], "resources": many("r"), "verbs": ["get"]}]));
    let Err(EscalationError::NotHeld { missing, .. }) =
        check_role(&policy, &user("adminer"), "a", "r", &scattered)
    else {
        panic!("these must not be granted");
    };
    assert_eq!(missing.lines().count(), 101);
    assert!(missing.ends_with("\nand more"), "{missing}");
}

#[test]
fn the_verbs_bind_and_escalate_lift_the_check() {
    let role: ClusterRole = from(json!({"metadata": {"name": "lifter"}, "rules": [
        {"apiGroups": [GROUP], "resources": ["roles", "clusterroles"], "verbs": ["bind", "escalate"]}]}));
    let mut cluster = stock::cluster_role_bindings();
    cluster.push(binding("lifter", "lifter"));
    let mut roles = stock::cluster_roles();
    roles.push(role);
    let policy = Policy::new(&shared(roles), vec![], shared(cluster), vec![]);
    let all: Vec<PolicyRule> =
        from(json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]));
    assert_eq!(check_role(&policy, &user("lifter"), "a", "r", &all), Ok(()));
    let reference = RoleRef {
        api_group: Some(GROUP.into()),
        kind: "ClusterRole".into(),
        name: "cluster-admin".into(),
    };
    assert_eq!(
        check_binding(&policy, &user("lifter"), "", &reference),
        Ok(())
    );
}

#[test]
fn the_stock_objects_are_valid() {
    for role in stock::cluster_roles() {
        assert_eq!(role.validate(), [], "{:?}", role.metadata.name);
        assert!(
            !role.rules.as_ref().unwrap().is_empty(),
            "{:?}",
            role.metadata.name
        );
    }
    for role in stock::roles() {
        assert_eq!(role.validate(), []);
    }
    let names: Vec<_> = stock::cluster_roles()
        .into_iter()
        .map(|r| r.metadata.name)
        .collect();
    for mut binding in stock::cluster_role_bindings() {
        binding.default();
        assert_eq!(binding.validate(), []);
        assert!(
            names.contains(&Some(binding.role_ref.name.clone())),
            "{binding:?}"
        );
    }
    for mut binding in stock::role_bindings() {
        binding.default();
        assert_eq!(binding.validate(), []);
    }
}

#[test]
fn each_controller_has_the_rights_of_its_own_account_and_nobody_elses() {
    let policy = policy(vec![], vec![]);
    let may = |namespace: &str, name: &str, request: Request<'_>| {
        let account = format!("system:serviceaccount:{namespace}:{name}");
        let user = User::new(account, ["system:serviceaccounts", "system:authenticated"]);
        policy.authorize(&user, &request).allowed()
    };
    let system = "kube-system";
    for (controller, request, want) in [
        (
            "deployment-controller",
            on("update", "a", "apps", "replicasets"),
            true,
        ),
        (
            "deployment-controller",
            on("create", "a", "", "pods"),
            false,
        ),
        ("replicaset-controller", on("create", "a", "", "pods"), true),
        (
            "job-controller",
            on("update", "a", "batch", "jobs/status"),
            true,
        ),
        ("job-controller", on("get", "a", "", "secrets"), false),
        (
            "endpointslice-controller",
            on("create", "a", "discovery.k8s.io", "endpointslices"),
            true,
        ),
        (
            "generic-garbage-collector",
            on("delete", "a", "example.com", "widgets"),
            true,
        ),
        (
            "generic-garbage-collector",
            on("create", "a", "", "pods"),
            false,
        ),
        (
            "namespace-controller",
            on("deletecollection", "a", "example.com", "widgets"),
            true,
        ),
        (
            "certificate-controller",
            on("sign", "", "certificates.k8s.io", "signers"),
            false,
        ),
        ("default", on("list", "a", "", "pods"), false),
    ] {
        assert_eq!(
            may(system, controller, request),
            want,
            "{controller} {request:?}"
        );
        assert!(
            !may("a", controller, request),
            "{controller} of another namespace"
        );
    }
    let sign = |name: &'static str| Request::Resource {
        verb: "sign",
        namespace: "",
        group: "certificates.k8s.io",
        resource: "signers",
        subresource: "",
        name,
    };
    assert!(may(
        system,
        "certificate-controller",
        sign("kubernetes.io/kubelet-serving")
    ));
    assert!(!may(
        system,
        "certificate-controller",
        sign("example.com/own")
    ));
    // the controller manager itself asks for the tokens of its controllers, and has none of their rights
    let manager = user("system:kube-controller-manager");
    let asks = |request| policy.authorize(&manager, &request).allowed();
    assert!(asks(on("create", system, "", "serviceaccounts/token")));
    assert!(!asks(on("create", "a", "", "pods")));
}
