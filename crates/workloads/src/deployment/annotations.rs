//! What a Deployment writes into the annotations of its ReplicaSets.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX: &str = "deployment.kubernetes.io/max-replicas";
/// Annotations of a Deployment that its ReplicaSets don't get.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];
/// The longest list of earlier revisions, in bytes.
const HISTORY_LIMIT: usize = 2000;

pub(super) fn of(meta: &ObjectMeta) -> BTreeMap<String, String> {
    meta.annotations.clone().unwrap_or_default()
}

/// The revision of an object; 0 for one that has none.
pub(super) fn revision(meta: &ObjectMeta) -> i64 {
    let annotations = meta.annotations.as_ref();
    let revision = annotations.and_then(|a| a.get(REVISION));
    revision.and_then(|r| r.parse().ok()).unwrap_or(0)
}

/// A number that the Deployment wrote when it scaled the ReplicaSet last.
pub(super) fn number(set: &ReplicaSet, name: &str) -> Option<i32> {
    set.metadata.annotations.as_ref()?.get(name)?.parse().ok()
}

/// Those of the ReplicaSet with what the Deployment has, and with this revision where it is a newer one.
pub(super) fn of_new_set(
    deployment: &Deployment,
    mut annotations: BTreeMap<String, String>,
    revision: i64,
) -> BTreeMap<String, String> {
    for (key, value) in deployment.metadata.annotations.iter().flatten() {
        if !NOT_COPIED.contains(&key.as_str()) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    let old = annotations.get(REVISION).cloned();
    let old_number: Option<i64> = old.as_deref().and_then(|r| r.parse().ok());
    if old_number.is_none_or(|old| old < revision) {
        annotations.insert(REVISION.to_owned(), revision.to_string());
        if let Some(old) = old.filter(|_| old_number.is_some()) {
            let history = annotations.get(REVISION_HISTORY).map(String::as_str);
            let history = with_revision(history.unwrap_or_default(), &old);
            annotations.insert(REVISION_HISTORY.to_owned(), history);
        }
    }
    annotations
}

/// A list of revisions with one more; the oldest go when it becomes too long.
fn with_revision(history: &str, old: &str) -> String {
    let mut all: Vec<&str> = history.split(',').filter(|r| !r.is_empty()).collect();
    all.push(old);
    let mut text = all.join(",");
    while text.len() > HISTORY_LIMIT && all.len() > 1 {
        all.remove(0);
        text = all.join(",");
    }
    text
}
