use super::*;
use crate::patch::schema;
use proptest::prelude::*;
use serde_json::json;

fn writer<'a>(manager: &'a str, api_version: &'a str, time: &'a str) -> Writer<'a> {
    Writer {
        manager,
        api_version,
        versions: &[],
        subresource: "",
        time,
        ignored: &["status"],
    }
}

fn rc(
    live: Option<&Value>,
    labels: Value,
    manager: &str,
    force: bool,
) -> Result<Value, ApplyError> {
    let config = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "x", "labels": labels}, "handler": "runc"});
    apply(
        known("node.v1.RuntimeClass"),
        live,
        &config,
        &writer(manager, "node.k8s.io/v1", "t"),
        force,
    )
}

fn known(name: &str) -> Known<'static> {
    schema::lookup(name).map_or(Known::Nothing, Known::Type)
}

fn entry<'a>(object: &'a Value, manager: &str) -> Option<&'a Value> {
    object["metadata"]["managedFields"]
        .as_array()?
        .iter()
        .find(|e| e["manager"] == manager)
}

#[test]
fn applying_creates_updates_and_removes_what_is_no_longer_named() {
    let first = rc(None, json!({"a": "1", "b": "2"}), "one", false).expect("applies");
    assert_eq!(
        entry(&first, "one").expect("an entry")["fieldsV1"],
        json!({"f:handler": {}, "f:metadata": {"f:labels": {"f:a": {}, "f:b": {}}}})
    );
    let second = rc(Some(&first), json!({"a": "1"}), "one", false).expect("applies");
    assert_eq!(second["metadata"]["labels"], json!({"a": "1"}));
}

#[test]
fn a_foreign_field_conflicts_unless_forced() {
    let first = rc(None, json!({"a": "1"}), "one", false).expect("applies");
    let conflict = rc(Some(&first), json!({"a": "9"}), "two", false).expect_err("conflicts");
    assert_eq!(
        conflict.to_string(),
        "Apply failed with 1 conflict: conflict with \"one\": .metadata.labels.a"
    );
    let forced = rc(Some(&first), json!({"a": "9"}), "two", true).expect("forces");
    assert_eq!(forced["metadata"]["labels"]["a"], "9");
    assert_eq!(
        entry(&forced, "one").expect("an entry")["fieldsV1"],
        json!({"f:handler": {}})
    );
    let both =
        rc(Some(&first), json!({"a": "1"}), "two", false).expect("same value, shared owners");
    assert_eq!(
        rc(Some(&both), json!({}), "two", false).expect("applies")["metadata"]["labels"]["a"],
        "1"
    );
}

#[test]
fn applying_again_changes_nothing_and_keeps_the_time() {
    let first = rc(None, json!({"a": "1"}), "one", false).expect("applies");
    let config = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "x", "labels": {"a": "1"}}, "handler": "runc"});
    let later = writer("one", "node.k8s.io/v1", "later");
    assert_eq!(
        apply(
            known("node.v1.RuntimeClass"),
            Some(&first),
            &config,
            &later,
            false
        ),
        Ok(first)
    );
}

#[test]
fn versions_of_runtimeclass_share_their_owners() {
    let first = rc(None, json!({}), "one", false).expect("applies");
    let mut live = json!({"apiVersion": "node.k8s.io/v1alpha1", "kind": "RuntimeClass", "metadata": first["metadata"], "spec": {"runtimeHandler": "runc"}});
    live["metadata"]["managedFields"] = first["metadata"]["managedFields"].clone();
    let config = json!({"apiVersion": "node.k8s.io/v1alpha1", "kind": "RuntimeClass", "metadata": {"name": "x"}, "spec": {"runtimeHandler": "runsc"}});
    let writer = writer("two", "node.k8s.io/v1alpha1", "t");
    let ty = known("node.v1alpha1.RuntimeClass");
    let conflict = apply(ty, Some(&live), &config, &writer, false).expect_err("conflicts");
    assert_eq!(
        conflict.to_string(),
        "Apply failed with 1 conflict: conflict with \"one\": .spec.runtimeHandler"
    );
}

#[test]
fn lists_by_key_have_owners_item_by_item() {
    let ty = known("core.v1.Pod");
    let pod = |containers: Value| json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": containers}});
    let mut live = apply(
        ty,
        None,
        &pod(json!([{"name": "a", "image": "1", "ports": [{"containerPort": 80}]}])),
        &writer("one", "v1", "t"),
        false,
    )
    .expect("applies");
    live["spec"]["containers"][0]["imagePullPolicy"] = json!("Always");
    let both = apply(
        ty,
        Some(&live),
        &pod(json!([{"name": "b", "image": "2"}])),
        &writer("two", "v1", "t"),
        false,
    )
    .expect("applies");
    assert_eq!(both["spec"]["containers"].as_array().map(Vec::len), Some(2));
    let fields = &entry(&both, "one").expect("an entry")["fieldsV1"]["f:spec"]["f:containers"];
    assert_eq!(
        fields["k:{\"name\":\"a\"}"]["f:ports"],
        json!({"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}})
    );
    // giving the item up removes it with its defaults
    let gone = apply(
        ty,
        Some(&both),
        &pod(json!([])),
        &writer("one", "v1", "t"),
        false,
    )
    .expect("applies");
    assert_eq!(
        gone["spec"]["containers"],
        json!([{"name": "b", "image": "2"}])
    );
}

#[test]
fn bad_lists_and_managed_fields_are_refused() {
    let ty = known("core.v1.Pod");
    let w = writer("one", "v1", "t");
    let twice = json!({"spec": {"containers": [{"name": "a"}, {"name": "a"}]}});
    assert!(matches!(
        apply(ty, None, &twice, &w, false),
        Err(ApplyError::DuplicateItem { .. })
    ));
    let none = json!({"spec": {"containers": [{"image": "a"}]}});
    assert!(matches!(
        apply(ty, None, &none, &w, false),
        Err(ApplyError::MissingKey { ref key, .. }) if key == "name"
    ));
    let own = json!({"metadata": {"managedFields": []}});
    assert_eq!(
        apply(ty, None, &own, &w, false),
        Err(ApplyError::ManagedFieldsSet)
    );
}

#[test]
fn creates_are_tracked_as_the_stock_server_does() {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "1"}},
        "spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Always", "securityContext": {}}, "status": {"phase": "Pending"}});
    track(
        known("core.v1.Pod"),
        None,
        &mut pod,
        &writer("kubectl-create", "v1", "t"),
    );
    assert_eq!(
        pod["metadata"]["managedFields"],
        json!([{"manager": "kubectl-create", "operation": "Update", "apiVersion": "v1", "time": "t", "fieldsType": "FieldsV1", "fieldsV1": {
            "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:image": {}, "f:name": {}, "f:resources": {}}},
                "f:restartPolicy": {}, "f:securityContext": {}}}}])
    );
}

#[test]
fn updates_take_fields_from_their_owners() {
    let ty = known("node.v1.RuntimeClass");
    let live = rc(None, json!({"a": "1", "b": "2"}), "one", false).expect("applies");
    let mut new = live.clone();
    new["metadata"]["labels"] = json!({"a": "9"});
    track(
        ty,
        Some(&live),
        &mut new,
        &writer("edit", "node.k8s.io/v1", "t2"),
    );
    assert_eq!(
        entry(&new, "edit").expect("an entry")["fieldsV1"],
        json!({"f:metadata": {"f:labels": {"f:a": {}}}})
    );
    assert_eq!(
        entry(&new, "one").expect("an entry")["fieldsV1"],
        json!({"f:handler": {}})
    );
    let conflict = rc(Some(&new), json!({"a": "1"}), "one", false).expect_err("conflicts");
    assert!(
        conflict
            .to_string()
            .contains("conflict with \"edit\" using node.k8s.io/v1 at t2")
    );
}

#[test]
fn a_client_that_drops_or_resets_managed_fields() {
    let ty = known("node.v1.RuntimeClass");
    let live = rc(None, json!({"a": "1"}), "one", false).expect("applies");
    let mut forgot = live.clone();
    strip(&mut forgot);
    track(
        ty,
        Some(&live),
        &mut forgot,
        &writer("two", "node.k8s.io/v1", "t"),
    );
    assert_eq!(
        forgot["metadata"]["managedFields"],
        live["metadata"]["managedFields"]
    );
    let mut reset = live.clone();
    reset["metadata"]["managedFields"] = json!([{}]);
    track(
        ty,
        Some(&live),
        &mut reset,
        &writer("two", "node.k8s.io/v1", "t"),
    );
    assert_eq!(reset["metadata"].get("managedFields"), None);
}

#[test]
fn managers_come_from_user_agents() {
    assert_eq!(
        manager_of_user_agent("kubectl/v1.36.0 (linux/amd64)"),
        "kubectl"
    );
    assert_eq!(manager_of_user_agent(""), "");
    assert_eq!(
        manager_of_user_agent(&"x".repeat(200)).len(),
        MAX_MANAGER_LENGTH
    );
}

proptest! {
    #[test]
    fn an_applied_object_has_what_was_applied(first in prop::collection::btree_map("[a-e]", "[0-9]", 0..5), second in prop::collection::btree_map("[a-e]", "[0-9]", 0..5)) {
        let live = rc(None, json!(first), "one", false).expect("applies");
        let new = rc(Some(&live), json!(second), "one", false).expect("applies");
        let labels = new["metadata"].get("labels").cloned().unwrap_or_else(|| json!({}));
        prop_assert_eq!(labels, json!(second));
        let forced = rc(Some(&live), json!(second), "two", true).expect("forces");
        for (name, value) in &second {
            prop_assert_eq!(&forced["metadata"]["labels"][name], value);
        }
    }
}

/// What is still named stays, though nothing is left in it.
#[test]
fn an_emptied_field_that_is_still_named_stays() {
    let config = |scheduling: Value| json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "x"}, "handler": "runc", "scheduling": scheduling});
    let apply = |live: Option<&Value>, scheduling: Value| {
        let writer = writer("one", "node.k8s.io/v1", "t");
        let known = known("node.v1.RuntimeClass");
        apply(known, live, &config(scheduling), &writer, false).expect("applies")
    };
    let full = json!({"nodeSelector": {"a": "b"}, "tolerations": [{"key": "k"}]});
    let first = apply(None, full);
    let second = apply(Some(&first), json!({}));
    assert_eq!(second["scheduling"], json!({}));
    // What is no longer named goes.
    let none = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "x"}, "handler": "runc"});
    let writer = writer("one", "node.k8s.io/v1", "t");
    let third = super::apply(
        known("node.v1.RuntimeClass"),
        Some(&first),
        &none,
        &writer,
        false,
    )
    .expect("applies");
    assert!(third.get("scheduling").is_none(), "{third}");
}
