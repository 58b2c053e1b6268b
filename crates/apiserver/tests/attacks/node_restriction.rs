//! A node's credentials in the wrong hands.

use berth_apiserver::tokens::TokenConfig;
use serde_json::{Value, json};

use crate::harness::{Answer, Api, CLASSES, CONFIG_MAPS, PODS, RBAC, as_user, bind, pod};

const AUTHENTICATED: &str = "system:authenticated";
const NODES: &str = "/api/v1/nodes";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
const CSI_NODES: &str = "/apis/storage.k8s.io/v1/csinodes";
const TOKEN: &str = "/api/v1/namespaces/default/serviceaccounts/default/token";

async fn start() -> Api {
    Api::start_with(|config| {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        config.tokens = Some(TokenConfig {
            issuer: "https://issuer".to_owned(),
            audiences: vec!["api".to_owned()],
            key: key.serialize_pem().into_bytes(),
            max_expiration_seconds: None,
        });
    })
    .await
}

async fn node(api: &Api, name: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
    let user = format!("system:node:{name}");
    let groups = ["system:nodes", AUTHENTICATED];
    as_user(api, &user, &groups, method, path, body).await
}

async fn patch(api: &Api, name: &str, path: &str, body: Value) -> u16 {
    let user = format!("system:node:{name}");
    let headers = [
        ("impersonate-user", user.as_str()),
        ("impersonate-group", "system:nodes"),
        ("impersonate-group", AUTHENTICATED),
        ("content-type", "application/merge-patch+json"),
    ];
    api.raw("PATCH", path, &headers, body.to_string())
        .await
        .code
}

/// Registers a node as itself, with the labels that a kubelet sets.
async fn register(api: &Api, name: &str) -> Value {
    let body = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {
        "kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "amd64", "example.com/rack": "1"}}});
    node(api, name, "POST", NODES, Some(body)).await.expect(201)
}

/// A pod of an administrator on a node.
async fn placed(api: &Api, name: &str, on: &str) -> Value {
    let mut body = pod(name);
    body["spec"]["nodeName"] = json!(on);
    api.post(PODS, body).await.expect(201)
}

#[tokio::test]
async fn the_group_alone_gives_nothing() {
    let api = start().await;
    register(&api, "n1").await;
    placed(&api, "p", "n1").await;
    let groups = ["system:nodes", AUTHENTICATED];
    for user in ["mallory", "system:node:", "system:nodes:n1"] {
        for path in [
            NODES,
            "/api/v1/nodes/n1",
            PODS,
            CLASSES,
            &format!("{PODS}/p"),
        ] {
            let answer = as_user(&api, user, &groups, "GET", path, None).await;
            assert_eq!(answer.code, 403, "{user} {path}");
        }
        let lease = json!({"metadata": {"name": "n1"}});
        let answer = as_user(&api, user, &groups, "POST", LEASES, Some(lease)).await;
        assert_eq!(answer.code, 403, "{user}");
    }
    let binding = format!("{RBAC}/clusterrolebindings/system:node");
    let binding = api.get(&binding).await.expect(200);
    assert!(binding["subjects"].is_null(), "{binding}");
}

#[tokio::test]
async fn a_node_does_its_own_work() {
    let api = start().await;
    register(&api, "n1").await;
    let mine = placed(&api, "p", "n1").await;
    let own = format!("{NODES}/n1");
    assert_eq!(node(&api, "n1", "GET", &own, None).await.code, 200);
    let annotation = json!({"metadata": {"annotations": {"node.berth.dev/x": "y"}}});
    assert_eq!(patch(&api, "n1", &own, annotation).await, 200);
    let status = json!({"status": {"phase": "Running"}, "metadata": {"annotations": {"node.berth.dev/runtime": "runc"}}});
    let path = format!("{PODS}/p/status");
    assert_eq!(patch(&api, "n1", &path, status).await, 200);
    let ready = json!({"status": {"capacity": {"pods": "110"}}});
    assert_eq!(
        patch(&api, "n1", &format!("{own}/status"), ready).await,
        200
    );
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "n1"}, "spec": {"holderIdentity": "n1"}});
    node(&api, "n1", "POST", LEASES, Some(lease))
        .await
        .expect(201);
    let renewed = json!({"spec": {"leaseDurationSeconds": 40}});
    assert_eq!(
        patch(&api, "n1", &format!("{LEASES}/n1"), renewed).await,
        200
    );
    let csi = json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "metadata": {"name": "n1"}, "spec": {"drivers": []}});
    node(&api, "n1", "POST", CSI_NODES, Some(csi))
        .await
        .expect(201);
    for query in [
        "fieldSelector=spec.nodeName=n1",
        "fieldSelector=metadata.namespace=default,spec.nodeName=n1",
    ] {
        let list = format!("/api/v1/pods?{query}");
        assert_eq!(
            node(&api, "n1", "GET", &list, None).await.code,
            200,
            "{query}"
        );
    }
    assert_eq!(node(&api, "n1", "GET", CLASSES, None).await.code, 200);
    let volumes = mine["spec"]["volumes"][0]["projected"]["sources"].clone();
    let seconds = &volumes[0]["serviceAccountToken"]["expirationSeconds"];
    let token = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": [], "expirationSeconds": seconds,
        "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": mine["metadata"]["uid"]}}});
    node(&api, "n1", "POST", TOKEN, Some(token))
        .await
        .expect(201);
    let gone = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0});
    let path = format!("{PODS}/p");
    assert_eq!(
        node(&api, "n1", "DELETE", &path, Some(gone)).await.code,
        200
    );
}

fn mirror(node: &Value) -> Value {
    let name = &node["metadata"]["name"];
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "mirror", "annotations": {"kubernetes.io/config.mirror": "hash"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": name, "uid": node["metadata"]["uid"], "controller": true}]},
        "spec": {"nodeName": name, "containers": [{"name": "c", "image": "busybox"}]}})
}

#[tokio::test]
async fn a_node_creates_mirror_pods_of_its_own_only() {
    let api = start().await;
    let (n1, n2) = (register(&api, "n1").await, register(&api, "n2").await);
    let with = |pointer: &str, value: Value| {
        let mut body = mirror(&n1);
        let (parent, field) = pointer.rsplit_once('/').unwrap();
        body.pointer_mut(parent).unwrap()[field] = value;
        body
    };
    let plain = {
        let mut body = pod("plain");
        body["spec"]["nodeName"] = json!("n1");
        body
    };
    let volume = |source: Value| {
        let mut volume = source;
        volume["name"] = json!("v");
        json!([volume])
    };
    for (what, body) in [
        ("no mirror", plain),
        ("unbound", pod("free")),
        ("of another node", mirror(&n2)),
        ("for another node", with("/spec/nodeName", json!("n2"))),
        (
            "without owner",
            with("/metadata/ownerReferences", json!([])),
        ),
        (
            "account",
            with("/spec/serviceAccountName", json!("default")),
        ),
        (
            "secret",
            with(
                "/spec/volumes",
                volume(json!({"secret": {"secretName": "s"}})),
            ),
        ),
        (
            "configmap",
            with("/spec/volumes", volume(json!({"configMap": {"name": "s"}}))),
        ),
        (
            "claim",
            with(
                "/spec/volumes",
                volume(json!({"persistentVolumeClaim": {"claimName": "s"}})),
            ),
        ),
        (
            "token",
            with(
                "/spec/volumes",
                volume(json!({"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}})),
            ),
        ),
        (
            "pull secret",
            with("/spec/imagePullSecrets", json!([{"name": "s"}])),
        ),
    ] {
        let answer = node(&api, "n1", "POST", PODS, Some(body)).await;
        assert_eq!(answer.code, 403, "{what}: {}", answer.text);
    }
    node(&api, "n1", "POST", PODS, Some(mirror(&n1)))
        .await
        .expect(201);
}

#[tokio::test]
async fn a_node_leaves_pods_of_others_alone() {
    let api = start().await;
    register(&api, "n1").await;
    register(&api, "n2").await;
    placed(&api, "other", "n2").await;
    api.post(PODS, pod("free")).await.expect(201);
    let mine = placed(&api, "mine", "n1").await;
    for name in ["other", "free"] {
        let path = format!("{PODS}/{name}");
        assert_eq!(node(&api, "n1", "GET", &path, None).await.code, 403);
        assert_eq!(node(&api, "n1", "DELETE", &path, None).await.code, 403);
        let status = json!({"status": {"phase": "Failed"}});
        assert_eq!(
            patch(&api, "n1", &format!("{path}/status"), status).await,
            403
        );
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": "default"}});
        let evicted = node(
            &api,
            "n1",
            "POST",
            &format!("{path}/eviction"),
            Some(eviction),
        )
        .await;
        assert_eq!(evicted.code, 403, "{}", evicted.text);
        assert_eq!(
            api.get(&path).await.expect(200)["status"]["phase"],
            "Pending"
        );
    }
    for query in [
        "",
        "?fieldSelector=spec.nodeName=n2",
        "?fieldSelector=spec.nodeName!=n1",
        "?fieldSelector=spec.nodeName=n1&fieldSelector=spec.nodeName=n2",
        "?fieldSelector=status.phase=x\\,spec.nodeName=n1",
    ] {
        let answer = node(&api, "n1", "GET", &format!("/api/v1/pods{query}"), None).await;
        assert!(matches!(answer.code, 400 | 403), "{query}: {}", answer.code);
    }
    // its own pods it does not change but for their status
    let path = format!("{PODS}/mine");
    let labels = json!({"metadata": {"labels": {"app": "other"}}});
    assert_eq!(patch(&api, "n1", &path, labels.clone()).await, 403);
    assert_eq!(
        patch(&api, "n1", &format!("{path}/status"), labels).await,
        403
    );
    let finalizers = json!({"metadata": {"finalizers": ["example.com/stay"]}});
    assert_eq!(
        patch(&api, "n1", &format!("{path}/status"), finalizers).await,
        403
    );
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "mine", "namespace": "default"}});
    let evicted = node(
        &api,
        "n1",
        "POST",
        &format!("{path}/eviction"),
        Some(eviction),
    )
    .await;
    assert_eq!(evicted.code, 201, "{}: {mine}", evicted.text);
}

/// More rights by RBAC do not lift what admission forbids nodes.
#[tokio::test]
async fn a_node_that_an_administrator_trusts_with_more_is_still_a_node() {
    let api = start().await;
    register(&api, "n1").await;
    register(&api, "n2").await;
    bind(&api, "n1-admin", "cluster-admin", "system:node:n1").await;
    api.post(PODS, pod("free")).await.expect(201);
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "free"}, "target": {"kind": "Node", "name": "n1"}});
    let bound = node(
        &api,
        "n1",
        "POST",
        &format!("{PODS}/free/binding"),
        Some(binding),
    )
    .await;
    assert_eq!(bound.code, 403, "{}", bound.text);
    let deleted = node(&api, "n1", "DELETE", &format!("{NODES}/n2"), None).await;
    assert_eq!(deleted.code, 403, "{}", deleted.text);
    let labels =
        json!({"metadata": {"labels": {"node-restriction.kubernetes.io/tier": "trusted"}}});
    assert_eq!(patch(&api, "n1", &format!("{NODES}/n1"), labels).await, 403);
}

#[tokio::test]
async fn a_node_steers_no_pods_to_itself() {
    let api = start().await;
    register(&api, "n1").await;
    register(&api, "n2").await;
    let own = format!("{NODES}/n1");
    api.merge(&own, json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}, "metadata": {"labels": {"node-role.kubernetes.io/worker": ""}}}))
        .await
        .expect(200);
    for (path, body) in [
        (
            own.clone(),
            json!({"metadata": {"labels": {"node-restriction.kubernetes.io/tier": "trusted"}}}),
        ),
        (
            own.clone(),
            json!({"metadata": {"labels": {"x.node-restriction.kubernetes.io/tier": "trusted"}}}),
        ),
        (
            own.clone(),
            json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}}),
        ),
        (
            own.clone(),
            json!({"metadata": {"labels": {"node-role.kubernetes.io/worker": null}}}),
        ),
        (
            own.clone(),
            json!({"metadata": {"labels": {"x.k8s.io/y": ""}}}),
        ),
        (own.clone(), json!({"spec": {"taints": null}})),
        (own.clone(), json!({"spec": {"taints": []}})),
        (
            own.clone(),
            json!({"metadata": {"finalizers": ["example.com/stay"]}}),
        ),
        (
            own.clone(),
            json!({"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n2", "uid": "u"}]}}),
        ),
        (
            format!("{own}/status"),
            json!({"metadata": {"labels": {"node-restriction.kubernetes.io/tier": "trusted"}}}),
        ),
        (
            format!("{NODES}/n2"),
            json!({"metadata": {"annotations": {"a": "b"}}}),
        ),
        (
            format!("{NODES}/n2/status"),
            json!({"status": {"capacity": {"pods": "0"}}}),
        ),
    ] {
        assert_eq!(
            patch(&api, "n1", &path, body.clone()).await,
            403,
            "{path} {body}"
        );
    }
    for path in [own.clone(), format!("{NODES}/n2")] {
        assert_eq!(node(&api, "n1", "DELETE", &path, None).await.code, 403);
    }
    for path in [NODES, "/api/v1/nodes/n2"] {
        assert_eq!(node(&api, "n1", "GET", path, None).await.code, 403);
    }
    for (name, labels) in [
        (
            "n3",
            json!({"node-restriction.kubernetes.io/tier": "trusted"}),
        ),
        ("other", json!({})),
    ] {
        let body = json!({"metadata": {"name": name, "labels": labels}});
        assert_eq!(node(&api, "n3", "POST", NODES, Some(body)).await.code, 403);
    }
}

#[tokio::test]
async fn a_node_has_one_lease_and_one_csi_node() {
    let api = start().await;
    let lease = |name: &str| json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": {}});
    let elsewhere = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
    for (path, body) in [
        (LEASES, lease("n2")),
        (elsewhere, lease("n1")),
        (
            CSI_NODES,
            json!({"metadata": {"name": "n2"}, "spec": {"drivers": []}}),
        ),
    ] {
        assert_eq!(
            node(&api, "n1", "POST", path, Some(body)).await.code,
            403,
            "{path}"
        );
    }
    api.post(LEASES, lease("n2")).await.expect(201);
    let renewed = json!({"spec": {"holderIdentity": "n1"}});
    assert_eq!(
        patch(&api, "n1", &format!("{LEASES}/n2"), renewed).await,
        403
    );
    assert_eq!(node(&api, "n1", "GET", LEASES, None).await.code, 403);
}

#[tokio::test]
async fn a_node_gets_tokens_that_its_pods_mount_and_no_others() {
    let api = start().await;
    register(&api, "n1").await;
    register(&api, "n2").await;
    let mine = placed(&api, "mine", "n1").await;
    let other = placed(&api, "other", "n2").await;
    let account = json!({"metadata": {"name": "strong"}});
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    api.post(accounts, account).await.expect(201);
    let ask = async |account: &str, pod: Option<&Value>, audiences: Value, seconds: i64| {
        let bound = pod.map(|p| json!({"kind": "Pod", "apiVersion": "v1", "name": p["metadata"]["name"], "uid": p["metadata"]["uid"]}));
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"audiences": audiences, "expirationSeconds": seconds, "boundObjectRef": bound}});
        let path = format!("{accounts}/{account}/token");
        node(&api, "n1", "POST", &path, Some(body)).await.code
    };
    let mut reborn = mine.clone();
    reborn["metadata"]["uid"] = json!("another");
    assert_eq!(ask("default", Some(&mine), json!([]), 3600).await, 201);
    assert_eq!(ask("default", None, json!([]), 3600).await, 403);
    assert_eq!(ask("default", Some(&other), json!([]), 3600).await, 403);
    assert_eq!(ask("default", Some(&reborn), json!([]), 3600).await, 403);
    assert_eq!(ask("default", Some(&mine), json!([]), 86_400).await, 403);
    assert_eq!(
        ask("default", Some(&mine), json!(["vault"]), 3600).await,
        403
    );
    assert_eq!(
        ask("default", Some(&mine), json!(["api", "vault"]), 3600).await,
        403
    );
    assert_eq!(ask("strong", Some(&mine), json!([]), 3600).await, 403);
}

#[tokio::test]
async fn a_node_reads_secrets_one_by_one_and_only_its_pods() {
    let api = start().await;
    let n1 = register(&api, "n1").await;
    for name in ["mine", "other"] {
        api.post(SECRETS, json!({"metadata": {"name": name}}))
            .await
            .expect(201);
        api.config_map(name, json!({})).await;
    }
    let mut mounting = pod("p");
    mounting["spec"]["nodeName"] = json!("n1");
    mounting["spec"]["volumes"] = json!([{"name": "s", "secret": {"secretName": "mine"}}, {"name": "c", "configMap": {"name": "mine"}}]);
    api.post(PODS, mounting).await.expect(201);
    for at in [SECRETS, CONFIG_MAPS] {
        for (path, code) in [
            (format!("{at}/mine"), 200),
            (format!("{at}?fieldSelector=metadata.name=mine"), 200),
            (format!("{at}/other"), 403),
            (format!("{at}?fieldSelector=metadata.name=other"), 403),
            (at.to_owned(), 403),
            (format!("{at}?watch=true"), 403),
        ] {
            assert_eq!(
                node(&api, "n1", "GET", &path, None).await.code,
                code,
                "{path}"
            );
            assert_eq!(
                node(&api, "n2", "GET", &path, None).await.code,
                403,
                "{path}"
            );
        }
        assert_eq!(
            patch(&api, "n1", &format!("{at}/mine"), json!({"data": null})).await,
            403
        );
    }
    // a mirror pod in the store that refers to something, however it came there, gives nothing
    let mut forged = mirror(&n1);
    forged["spec"]["volumes"] = json!([{"name": "s", "secret": {"secretName": "other"}}]);
    let forged = api.post(PODS, forged).await;
    assert!(matches!(forged.code, 201 | 403 | 422), "{}", forged.text);
    let path = format!("{SECRETS}/other");
    assert_eq!(node(&api, "n1", "GET", &path, None).await.code, 403);
}
