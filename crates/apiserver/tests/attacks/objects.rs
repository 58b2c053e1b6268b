//! Stored objects that cannot be decoded, and decoded ones where they do not belong: nothing passes for them.

use std::path::Path;

use berth_store::sqlite::Sqlite;
use berth_store::{Expect, Store, Write};
use serde_json::{Value, json};

use crate::harness::{Answer, Api, CONFIG_MAPS, PODS, Watch, as_user, bind, names, pod};

const OPTION: &str = "ignoreStoreReadErrorWithClusterBreakingPotential=true";

/// Writes bytes past the server.
async fn plant(dir: &Path, key: &str, value: &str) {
    let store = Sqlite::open(dir).await.unwrap();
    let write = Write {
        key: format!("/registry/{key}"),
        expect: Expect::Any,
        value: Some(value.to_owned().into()),
    };
    store.transact(vec![write]).await.unwrap();
}

/// A server that found this in its store.
async fn with(planted: &[(&str, Value)]) -> (tempfile::TempDir, Api) {
    let dir = tempfile::tempdir().unwrap();
    // The first start makes what every cluster has.
    Api::start_in(dir.path()).await.stop().await;
    for (key, value) in planted {
        plant(dir.path(), key, &value.to_string()).await;
    }
    let api = Api::start_in(dir.path()).await;
    (dir, api)
}

fn named(kind: &str, api_version: &str, name: &str, rest: Value) -> Value {
    let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": "default", "uid": "u"}});
    if let (Some(object), Value::Object(rest)) = (object.as_object_mut(), rest) {
        object.extend(rest);
    }
    object
}

fn without_namespace(mut object: Value) -> Value {
    object["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("namespace");
    object
}

#[track_caller]
fn refused_for(answer: Answer, name: &str) {
    let status = answer.expect(500);
    let message = status["message"].as_str().unwrap();
    assert!(
        message.contains(name) && message.contains("cannot be decoded"),
        "{message}"
    );
    assert!(message.contains(OPTION), "{message}");
}

fn bad_quota() -> (&'static str, Value) {
    let spec = json!({"spec": {"hard": "none"}});
    (
        "core/resourcequotas/default/q",
        named("ResourceQuota", "v1", "q", spec),
    )
}

#[tokio::test]
async fn a_quota_that_cannot_be_decoded_admits_nothing() {
    let (_dir, api) = with(&[bad_quota()]).await;
    refused_for(api.post(PODS, pod("p")).await, "resourcequotas \"q\"");
    let map = json!({"metadata": {"name": "m"}});
    refused_for(api.post(CONFIG_MAPS, map.clone()).await, "resourcequotas");
    // Elsewhere life goes on, and here too once it is gone.
    let elsewhere = "/api/v1/namespaces/kube-system/configmaps";
    api.post(elsewhere, map.clone()).await.expect(201);
    let quota = "/api/v1/namespaces/default/resourcequotas/q";
    refused_for(api.delete(quota).await, "\"q\"");
    api.delete(&format!("{quota}?{OPTION}")).await.expect(200);
    api.get(quota).await.expect(404);
    api.post(CONFIG_MAPS, map).await.expect(201);
}

#[tokio::test]
async fn what_a_pod_depends_on_must_be_decodable() {
    for (key, object) in [
        (
            "core/limitranges/default/l",
            named(
                "LimitRange",
                "v1",
                "l",
                json!({"spec": {"limits": [{"type": 1}]}}),
            ),
        ),
        (
            "core/serviceaccounts/default/default",
            named(
                "ServiceAccount",
                "v1",
                "default",
                json!({"imagePullSecrets": 7}),
            ),
        ),
        (
            "scheduling.k8s.io/priorityclasses/p",
            without_namespace(named(
                "PriorityClass",
                "scheduling.k8s.io/v1",
                "p",
                json!({"value": "high", "globalDefault": true}),
            )),
        ),
        (
            "core/namespaces/default",
            without_namespace(named(
                "Namespace",
                "v1",
                "default",
                json!({"metadata": {"name": "default", "annotations": ["all"]}}),
            )),
        ),
    ] {
        let (_dir, api) = with(&[(key, object)]).await;
        let name = key.rsplit('/').next().unwrap();
        refused_for(api.post(PODS, pod("p")).await, &format!("{name:?}"));
    }
}

#[tokio::test]
async fn a_class_that_cannot_be_decoded_runs_no_pods() {
    let bad = without_namespace(named(
        "RuntimeClass",
        "node.k8s.io/v1",
        "odd",
        json!({"handler": ["runc"], "overhead": {"podFixed": {"cpu": "1"}}}),
    ));
    let (_dir, api) = with(&[("node.k8s.io/runtimeclasses/odd", bad)]).await;
    let mut odd = pod("p");
    odd["spec"]["runtimeClassName"] = json!("odd");
    refused_for(api.post(PODS, odd).await, "runtimeclasses \"odd\"");
    api.post(PODS, pod("q")).await.expect(201);
}

#[tokio::test]
async fn a_pod_that_cannot_be_decoded_leaves_no_room_in_a_quota() {
    let quota = named(
        "ResourceQuota",
        "v1",
        "q",
        json!({"spec": {"hard": {"pods": "5"}}}),
    );
    let bad = named("Pod", "v1", "odd", json!({"spec": {"containers": "many"}}));
    let planted = [
        ("core/resourcequotas/default/q", quota),
        ("core/pods/default/odd", bad),
    ];
    let (_dir, api) = with(&planted).await;
    refused_for(api.post(PODS, pod("p")).await, "pods \"odd\"");
}

#[tokio::test]
async fn a_role_or_binding_that_cannot_be_decoded_gives_nothing() {
    let role = without_namespace(named(
        "ClusterRole",
        "rbac.authorization.k8s.io/v1",
        "odd",
        json!({"rules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}, "and more"]}),
    ));
    let binding = without_namespace(named(
        "ClusterRoleBinding",
        "rbac.authorization.k8s.io/v1",
        "odd",
        json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "User", "name": "eve"}, 7]}),
    ));
    let planted = [
        ("rbac.authorization.k8s.io/clusterroles/odd", role),
        ("rbac.authorization.k8s.io/clusterrolebindings/odd", binding),
    ];
    let (_dir, api) = with(&planted).await;
    bind(&api, "eve-odd", "odd", "eve").await;
    bind(&api, "bob-view", "view", "bob").await;
    let secrets = "/api/v1/namespaces/default/secrets";
    as_user(&api, "eve", &[], "GET", secrets, None)
        .await
        .expect(403);
    // The others hold all the same.
    as_user(&api, "bob", &[], "GET", PODS, None)
        .await
        .expect(200);
}

#[tokio::test]
async fn it_is_shown_raw_and_deleted_by_who_may() {
    let bad = named("Pod", "v1", "odd", json!({"spec": {"containers": "many"}}));
    let (_dir, api) = with(&[("core/pods/default/odd", bad)]).await;
    let path = format!("{PODS}/odd");
    assert_eq!(
        api.get(&path).await.expect(200)["spec"]["containers"],
        "many"
    );
    assert_eq!(names(&api.get(PODS).await.expect(200)), ["odd"]);
    let mut watch: Watch = api.watch(&format!("{PODS}?watch=1")).await;
    assert_eq!(watch.told().await, ("ADDED".to_owned(), "odd".to_owned()));
    // Whatever would have to know what it is fails.
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    refused_for(api.merge(&path, label.clone()).await, "\"odd\"");
    refused_for(api.merge(&format!("{path}/status"), label).await, "\"odd\"");
    refused_for(api.put(&path, &pod("odd")).await, "\"odd\"");
    refused_for(api.delete(&path).await, "\"odd\"");
    let binding = json!({"metadata": {"name": "odd"}, "target": {"kind": "Node", "name": "n"}});
    refused_for(
        api.post(&format!("{path}/binding"), binding).await,
        "\"odd\"",
    );
    refused_for(api.delete(PODS).await, "\"odd\"");

    // To delete it anyway is a right of its own, and takes no other options.
    bind(&api, "eve-edit", "edit", "eve").await;
    let anyway = format!("{path}?{OPTION}");
    let refused = as_user(&api, "eve", &[], "DELETE", &anyway, None).await;
    let message = refused.expect(403)["message"].to_string();
    assert!(
        message.contains("unsafe-delete-ignore-read-errors"),
        "{message}"
    );
    api.delete(&format!("{anyway}&gracePeriodSeconds=0"))
        .await
        .expect(422);
    api.delete(&format!("{PODS}?{OPTION}")).await.expect(400);
    api.delete(&anyway).await.expect(200);
    assert_eq!(watch.told().await, ("DELETED".to_owned(), "odd".to_owned()));
    api.get(&path).await.expect(404);

    // What can be decoded is deleted as always.
    api.post(PODS, pod("good")).await.expect(201);
    api.delete(&format!("{PODS}/good?{OPTION}"))
        .await
        .expect(422);
    api.get(&format!("{PODS}/good")).await.expect(200);
}

#[tokio::test]
async fn what_is_no_object_is_known_by_its_key() {
    let dir = tempfile::tempdir().unwrap();
    Api::start_in(dir.path()).await.stop().await;
    plant(
        dir.path(),
        "core/pods/default/torn",
        "{\"apiVersion\": \"v1\", ",
    )
    .await;
    // Another object's body under this key would take that one's place in every check.
    let other = named("ConfigMap", "v1", "other", json!({})).to_string();
    plant(dir.path(), "core/configmaps/default/mine", &other).await;
    let api = Api::start_in(dir.path()).await;
    api.post(PODS, pod("good")).await.expect(201);
    assert_eq!(names(&api.get(PODS).await.expect(200)), ["good"]);
    for path in [format!("{PODS}/torn"), format!("{CONFIG_MAPS}/mine")] {
        refused_for(api.get(&path).await, "cannot be decoded");
        refused_for(api.delete(&path).await, "cannot be decoded");
        // The name is taken.
        let (collection, name) = path.rsplit_once('/').unwrap();
        let body = if name == "torn" {
            pod(name)
        } else {
            json!({"metadata": {"name": name}})
        };
        api.post(collection, body).await.expect(409);
    }
    // A collection is not said to be gone while it is there.
    refused_for(api.delete(PODS).await, "torn");
    assert_eq!(names(&api.get(PODS).await.expect(200)), [""; 0]);
    for path in [format!("{PODS}/torn"), format!("{CONFIG_MAPS}/mine")] {
        api.delete(&format!("{path}?{OPTION}")).await.expect(200);
        api.get(&path).await.expect(404);
    }
    api.stop().await;
    let api = Api::start_in(dir.path()).await;
    api.get(&format!("{PODS}/torn")).await.expect(404);
}

#[tokio::test]
async fn an_owner_elsewhere_is_no_owner() {
    let api = Api::start().await;
    let owner = api.config_map("owner", json!({})).await;
    let uid = owner["metadata"]["uid"].as_str().unwrap();
    let owned = json!({"metadata": {"name": "owned", "ownerReferences": [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}]}});
    // Somebody with a namespace of their own cannot keep an object of another from going.
    let elsewhere = "/api/v1/namespaces/kube-public/configmaps";
    api.post(elsewhere, owned.clone()).await.expect(201);
    let path = format!("{CONFIG_MAPS}/owner?propagationPolicy=Foreground");
    let gone = api.delete(&path).await.expect(200);
    assert_eq!(gone["kind"], "Status");
    api.get(&format!("{CONFIG_MAPS}/owner")).await.expect(404);
    let owner = api.config_map("owner", json!({})).await;
    let mut owned = owned;
    owned["metadata"]["ownerReferences"][0]["uid"] = owner["metadata"]["uid"].clone();
    // A dependent beside it does, until it is gone or no longer says so.
    api.post(CONFIG_MAPS, owned).await.expect(201);
    let marked = api.delete(&path).await.expect(200);
    assert_eq!(
        marked["metadata"]["finalizers"],
        json!(["foregroundDeletion"])
    );
    api.merge(
        &format!("{CONFIG_MAPS}/owner"),
        json!({"metadata": {"finalizers": null}}),
    )
    .await
    .expect(200);
    api.get(&format!("{CONFIG_MAPS}/owner")).await.expect(404);
}
