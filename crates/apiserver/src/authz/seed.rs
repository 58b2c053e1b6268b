//! What a new cluster begins with: the system namespaces with their default accounts, the system
//! priority classes, the day since when uses of old tokens are noted, and the stock roles and bindings, which
//! are made when they are absent and completed when they are not.
//!
//! Somebody who wants a stock role or binding to stay as it was changed sets its annotation
//! `rbac.authorization.kubernetes.io/autoupdate` to false.

use futures::future::try_join_all;
use serde_json::{Value, json};

use berth_api::status::ApiError;
use berth_rules::admission::node_restriction::NODES_GROUP;
use berth_rules::rbac::stock;
use berth_store::Expect;

use super::{CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES};
use crate::{storage::Storage, tokens};

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
const PRIORITY_CLASSES: [(&str, i64, &str); 2] = [
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
];
const AUTO_UPDATE: &str = "/metadata/annotations/rbac.authorization.kubernetes.io~1autoupdate";

/// Brings the system namespaces and the stock roles and bindings into the store; the storage must be running.
///
/// # Errors
/// When the store cannot be written.
pub async fn reconcile(storage: &Storage) -> Result<(), ApiError> {
    // The caches begin a little in the past. No request may be judged by it: a quota or a policy that was written last
    // would not hold yet.
    storage.wait_for(storage.current_revision().await?).await?;
    let mut wanted: Vec<(&'static str, Value)> = Vec::new();
    for name in NAMESPACES {
        wanted.push(("core/namespaces", namespace(name)));
        wanted.push(("core/serviceaccounts", account(name)));
    }
    wanted.push(("core/configmaps", tracking()));
    wanted.extend(
        PRIORITY_CLASSES.map(|class| ("scheduling.k8s.io/priorityclasses", priority_class(class))),
    );
    let mut add = |kind: &'static str, objects: Vec<Value>| {
        wanted.extend(objects.into_iter().map(|object| (kind, object)))
    };
    add(CLUSTER_ROLES, values(stock::cluster_roles()));
    add(ROLES, values(stock::roles()));
    add(
        CLUSTER_ROLE_BINDINGS,
        values(stock::cluster_role_bindings()),
    );
    add(ROLE_BINDINGS, values(stock::role_bindings()));
    // all at once: the store commits them in a few groups
    try_join_all(
        wanted
            .into_iter()
            .map(|(kind, object)| bring(storage, kind, object)),
    )
    .await
    .map(|_| ())
}

fn values<T: serde::Serialize>(objects: Vec<T>) -> Vec<Value> {
    objects
        .into_iter()
        .filter_map(|object| serde_json::to_value(object).ok())
        .collect()
}

fn namespace(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
        "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
    })
}

fn account(namespace: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": namespace}})
}

/// Since when the uses of tokens in Secrets are noted: since now, if nothing said so before.
fn tracking() -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": tokens::TRACKING, "namespace": "kube-system"},
        "data": {"since": tokens::day(jiff::Timestamp::now())},
    })
}

fn priority_class((name, value, description): (&str, i64, &str)) -> Value {
    json!({
        "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
        "value": value, "description": description, "preemptionPolicy": "PreemptLowerPriority",
    })
}

async fn bring(storage: &Storage, kind: &str, wanted: Value) -> Result<(), ApiError> {
    let text = |pointer: &str| {
        wanted
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
    let (expect, object) = match storage.get(kind, &namespace, &name) {
        None => (Expect::Absent, fresh(wanted)),
        Some(stored) => {
            // What cannot be read is left to an administrator; it gives nobody anything.
            let Ok(have) = stored.value() else {
                return Ok(());
            };
            let node_binding = kind == CLUSTER_ROLE_BINDINGS && name == stock::NODE;
            let changed = if node_binding {
                without_nodes(&have)
            } else {
                completed(&have, &wanted)
            };
            match changed {
                None => return Ok(()),
                Some(object) => (Expect::Revision(stored.revision), object),
            }
        }
    };
    // whoever was faster had the same in mind
    storage
        .put(kind, &namespace, &name, expect, object)
        .await
        .map(|_| ())
}

fn fresh(mut object: Value) -> Value {
    object["metadata"]["uid"] = json!(uuid::Uuid::new_v4().to_string());
    object["metadata"]["creationTimestamp"] = json!(
        jiff::Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%SZ")
            .to_string()
    );
    object
}

/// What is there with the rules and subjects that it lacks; none when it lacks nothing.
fn completed(have: &Value, wanted: &Value) -> Option<Value> {
    if have.pointer(AUTO_UPDATE).and_then(Value::as_str) == Some("false") {
        return None;
    }
    let mut next = have.clone();
    let mut changed = false;
    let aggregated = wanted
        .get("aggregationRule")
        .is_some_and(|rule| !rule.is_null());
    for list in ["rules", "subjects"] {
        let Some(items) = wanted.get(list).and_then(Value::as_array) else {
            continue;
        };
        if aggregated && list == "rules" {
            // computed from the roles that it selects
            continue;
        }
        let mut all = have
            .get(list)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let before = all.len();
        all.extend(
            items
                .iter()
                .filter(|item| {
                    !have
                        .get(list)
                        .and_then(Value::as_array)
                        .is_some_and(|h| h.contains(item))
                })
                .cloned(),
        );
        if all.len() != before {
            next[list] = json!(all);
            changed = true;
        }
    }
    changed.then_some(next)
}

/// The binding `system:node` without the group that berth gave the role to before it had a Node authorizer: any
/// certificate in that group had a node's rights. None when it is not there, or wanted (`autoupdate` is false).
fn without_nodes(have: &Value) -> Option<Value> {
    if have.pointer(AUTO_UPDATE).and_then(Value::as_str) == Some("false") {
        return None;
    }
    let subjects = have.get("subjects")?.as_array()?;
    let kept: Vec<&Value> = subjects
        .iter()
        .filter(|s| !(s["kind"] == "Group" && s["name"] == NODES_GROUP))
        .collect();
    if kept.len() == subjects.len() {
        return None;
    }
    let mut next = have.clone();
    next["subjects"] = json!(kept);
    Some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_rules_come_back_and_added_ones_stay() {
        let wanted =
            json!({"metadata": {"name": "x"}, "rules": [{"verbs": ["get"]}, {"verbs": ["list"]}]});
        let have =
            json!({"metadata": {"name": "x"}, "rules": [{"verbs": ["own"]}, {"verbs": ["get"]}]});
        let next = completed(&have, &wanted).unwrap();
        assert_eq!(
            next["rules"],
            json!([{"verbs": ["own"]}, {"verbs": ["get"]}, {"verbs": ["list"]}])
        );
        assert_eq!(completed(&next, &wanted), None);
    }

    #[test]
    fn the_group_of_nodes_loses_the_role_that_it_was_given() {
        let group = json!({"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "system:nodes"});
        let other = json!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "me"});
        let have = json!({"metadata": {"name": "system:node"}, "subjects": [group, other]});
        let next = without_nodes(&have).unwrap();
        assert_eq!(next["subjects"], json!([other]));
        assert_eq!(without_nodes(&next), None);
        let mut kept = have;
        kept["metadata"]["annotations"] =
            json!({"rbac.authorization.kubernetes.io/autoupdate": "false"});
        assert_eq!(without_nodes(&kept), None);
    }

    #[test]
    fn what_must_not_be_updated_is_left_alone() {
        let wanted = json!({"subjects": [{"name": "a"}]});
        let have = json!({"metadata": {"annotations": {"rbac.authorization.kubernetes.io/autoupdate": "false"}}});
        assert_eq!(completed(&have, &wanted), None);
    }
}
