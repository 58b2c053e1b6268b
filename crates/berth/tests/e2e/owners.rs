//! Owner references: what goes with its owner, what stays, and in which order.

use berth_testkit::wait_for;
use serde_json::{Value, json};

use crate::cluster::{Cluster, LIMIT};

/// Creates a ConfigMap with these owners.
fn create(cluster: &Cluster, namespace: &str, name: &str, owners: &Value) {
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "ownerReferences": owners},
    });
    cluster.apply(&object.to_string());
}

/// Creates a ConfigMap that is to stay for now, and gives its uid.
fn config_map(cluster: &Cluster, namespace: &str, name: &str, owners: &Value) -> String {
    create(cluster, namespace, name, owners);
    let found = cluster.json(&["configmap", name, "-n", namespace]);
    found["metadata"]["uid"].as_str().expect("its uid").into()
}

fn owner(name: &str, uid: &str, blocks: bool) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid, "blockOwnerDeletion": blocks})
}

fn exists(cluster: &Cluster, namespace: &str, name: &str) -> bool {
    let found = cluster.try_kubectl(&["get", "configmap", name, "-n", namespace]);
    found.status.success()
}

fn wait_gone(cluster: &Cluster, namespace: &str, name: &str) {
    wait_for(&format!("{name} to be gone"), LIMIT, || {
        match exists(cluster, namespace, name) {
            true => Err("it is still there"),
            false => Ok(()),
        }
    });
}

/// What the collector has done by now it has done about everything created before: a marker that it must remove is gone.
fn wait_for_the_collector(cluster: &Cluster, marker: &str) {
    let nobody = json!([owner(
        "nobody",
        "11111111-1111-1111-1111-111111111111",
        false
    )]);
    create(cluster, "default", marker, &nobody);
    wait_gone(cluster, "default", marker);
}

#[test]
fn children_go_with_their_owner_and_only_they() {
    let cluster = Cluster::start();
    cluster.kube(&["create", "namespace", "other"]);
    let parent = config_map(&cluster, "default", "parent", &json!([]));
    let second = config_map(&cluster, "default", "second", &json!([]));
    let of_parent = json!([owner("parent", &parent, true)]);
    let child = config_map(&cluster, "default", "child", &of_parent);
    let of_child = json!([owner("child", &child, true)]);
    config_map(&cluster, "default", "grandchild", &of_child);
    let of_both = json!([
        owner("parent", &parent, true),
        owner("second", &second, true)
    ]);
    config_map(&cluster, "default", "shared", &of_both);
    config_map(&cluster, "default", "unowned", &json!([]));

    // An owner in another namespace is none: the reference means one of the same name there.
    create(&cluster, "other", "foreign", &of_parent);
    wait_gone(&cluster, "other", "foreign");
    // A reference to a kind that nobody has keeps the object, until the kind can be asked for.
    let unknown = json!([{"apiVersion": "example.com/v1", "kind": "Widget", "name": "w",
        "uid": "22222222-2222-2222-2222-222222222222"}]);
    config_map(&cluster, "default", "unclear", &unknown);

    cluster.kube(&["delete", "configmap", "parent"]);
    wait_gone(&cluster, "default", "child");
    wait_gone(&cluster, "default", "grandchild");
    wait_for("the owner that is gone to be taken off", LIMIT, || {
        let shared = cluster.json(&["configmap", "shared"]);
        match shared["metadata"]["ownerReferences"].as_array() {
            Some(left) if left.len() == 1 && left[0]["name"] == "second" => Ok(()),
            left => Err(format!("{left:?}")),
        }
    });
    wait_for_the_collector(&cluster, "marker");
    assert!(exists(&cluster, "default", "unowned"));
    assert!(exists(&cluster, "default", "unclear"));
    cluster.kube(&["delete", "configmap", "second"]);
    wait_gone(&cluster, "default", "shared");
}

#[test]
fn a_foreground_deletion_ends_after_the_dependents_and_an_orphaning_one_leaves_them() {
    let cluster = Cluster::start();
    let parent = config_map(&cluster, "default", "parent", &json!([]));
    let held = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "child", "finalizers": ["example.com/held"],
            "ownerReferences": [owner("parent", &parent, true)]},
    });
    cluster.apply(&held.to_string());
    cluster.kube(&[
        "delete",
        "configmap",
        "parent",
        "--cascade=foreground",
        "--wait=false",
    ]);
    wait_for("the child's deletion", LIMIT, || {
        let child = cluster.json(&["configmap", "child"]);
        match child["metadata"]["deletionTimestamp"].is_string() {
            true => Ok(()),
            false => Err("it is not deleted"),
        }
    });
    wait_for_the_collector(&cluster, "marker");
    let parent = cluster.json(&["configmap", "parent"]);
    assert_eq!(
        parent["metadata"]["finalizers"],
        json!(["foregroundDeletion"])
    );
    cluster.kube(&[
        "patch",
        "configmap",
        "child",
        "--type=merge",
        "-p",
        r#"{"metadata":{"finalizers":null}}"#,
    ]);
    wait_gone(&cluster, "default", "parent");

    let parent = config_map(&cluster, "default", "parent", &json!([]));
    let of_parent = json!([owner("parent", &parent, true)]);
    config_map(&cluster, "default", "child", &of_parent);
    cluster.kube(&["delete", "configmap", "parent", "--cascade=orphan"]);
    wait_gone(&cluster, "default", "parent");
    wait_for_the_collector(&cluster, "marker");
    let child = cluster.json(&["configmap", "child"]);
    assert!(child["metadata"]["ownerReferences"].is_null(), "{child}");
}

const WIDGETS: &str = r#"{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
  "metadata": {"name": "widgets.example.com"},
  "spec": {"group": "example.com", "scope": "Namespaced",
    "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
    "versions": [{"name": "v1", "served": true, "storage": true,
      "schema": {"openAPIV3Schema": {"type": "object"}}}]}}"#;

#[test]
fn custom_objects_own_and_are_owned() {
    let cluster = Cluster::start();
    cluster.apply(WIDGETS);
    cluster.kube(&[
        "wait",
        "--for=condition=Established",
        "crd/widgets.example.com",
        "--timeout=60s",
    ]);
    let widget =
        json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}});
    cluster.apply(&widget.to_string());
    let found = cluster.json(&["widget", "w"]);
    let uid = found["metadata"]["uid"].as_str().expect("its uid");
    let of_widget =
        json!([{"apiVersion": "example.com/v1", "kind": "Widget", "name": "w", "uid": uid}]);
    let child = config_map(&cluster, "default", "child", &of_widget);
    let owned = json!({"apiVersion": "example.com/v1", "kind": "Widget",
        "metadata": {"name": "owned", "ownerReferences": [owner("child", &child, false)]}});
    cluster.apply(&owned.to_string());
    cluster.kube(&["delete", "widget", "w"]);
    wait_gone(&cluster, "default", "child");
    wait_for("the owned widget to be gone", LIMIT, || {
        match cluster
            .try_kubectl(&["get", "widget", "owned"])
            .status
            .success()
        {
            true => Err("it is still there"),
            false => Ok(()),
        }
    });
}

#[test]
fn a_finished_job_goes_when_its_time_is_over_and_after_its_dependents() {
    let cluster = Cluster::start();
    let job = |name: &str, ttl: Value| {
        let object = json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": "default"},
            // No controller has it, so that its status is the test's own.
            "spec": {"ttlSecondsAfterFinished": ttl, "managedBy": "example.com/test", "template": {"spec": {
                "restartPolicy": "Never", "containers": [{"name": "c", "image": "busybox"}]}}},
        });
        cluster.apply(&object.to_string());
        let made = cluster.json(&["job", name]);
        made["metadata"]["uid"]
            .as_str()
            .expect("its uid")
            .to_owned()
    };
    let finish = |name: &str| {
        let now = jiff::Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string();
        let condition =
            |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now});
        let status = json!({"status": {"startTime": now, "completionTime": now,
            "conditions": [condition("SuccessCriteriaMet"), condition("Complete")]}});
        let patch = status.to_string();
        cluster.kube(&[
            "patch",
            "job",
            name,
            "--subresource=status",
            "--type=merge",
            "-p",
            &patch,
        ]);
    };
    let gone = job("gone", json!(0));
    job("endless", Value::Null);
    job("long", json!(3600));
    job("unfinished", json!(0));
    let of_gone = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "gone", "uid": gone,
        "blockOwnerDeletion": true}]);
    config_map(&cluster, "default", "dependent", &of_gone);
    for name in ["endless", "long", "gone"] {
        finish(name);
    }
    wait_gone(&cluster, "default", "dependent");
    wait_for("the finished job to be gone", LIMIT, || {
        match cluster
            .try_kubectl(&["get", "job", "gone"])
            .status
            .success()
        {
            true => Err("it is still there"),
            false => Ok(()),
        }
    });
    for name in ["endless", "long", "unfinished"] {
        let kept = cluster.json(&["job", name]);
        assert!(kept["metadata"]["deletionTimestamp"].is_null(), "{kept}");
    }
}
