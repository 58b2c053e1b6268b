//! The history of a template: ControllerRevisions, each with a number and the template as a patch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::Resource;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use serde_json::{Value, json};

use crate::owner::controller_reference;
use crate::template::{hash, is_same};

/// The label of a StatefulSet's revision with its hash; a DaemonSet's has [`REVISION_HASH`], as its pods have.
const HASH: &str = "controller.kubernetes.io/hash";
/// The label of pods with the revision that they are of.
pub const REVISION_HASH: &str = "controller-revision-hash";

/// What is to be done so that the present template has the newest revision.
#[derive(Clone, Debug, PartialEq)]
pub enum Newest {
    /// It has.
    Present(Arc<ControllerRevision>),
    /// An earlier revision of the same template gets this number.
    Raise(Arc<ControllerRevision>, i64),
    /// It is to be created; where the name is taken, with one collision more.
    Create(Box<ControllerRevision>),
}

/// Compares the template with its history. `labels` are those of the pods.
#[must_use]
pub fn newest<K: Resource>(
    owner: &ObjectMeta,
    template: &PodTemplateSpec,
    collisions: Option<i32>,
    history: &[Arc<ControllerRevision>],
) -> Newest {
    let last = history.iter().map(|r| r.revision).max().unwrap_or(0);
    let same = history
        .iter()
        .filter(|r| template_of(r).is_some_and(|t| is_same(&t, template)))
        .max_by_key(|r| r.revision);
    match same {
        Some(same) if same.revision == last => Newest::Present(Arc::clone(same)),
        Some(same) => Newest::Raise(Arc::clone(same), last + 1),
        None => {
            let hash = hash(template, collisions);
            let mut labels = BTreeMap::new();
            let meta = template.metadata.as_ref();
            labels.extend(meta.and_then(|m| m.labels.clone()).unwrap_or_default());
            labels.insert(hash_label::<K>().to_owned(), hash.clone());
            let name = owner.name.as_deref().unwrap_or_default();
            Newest::Create(Box::new(ControllerRevision {
                metadata: ObjectMeta {
                    name: Some(format!("{name}-{hash}")),
                    namespace: owner.namespace.clone(),
                    labels: Some(labels),
                    annotations: owner.annotations.clone(),
                    owner_references: Some(vec![controller_reference::<K>(owner)]),
                    ..ObjectMeta::default()
                },
                data: Some(RawExtension(data_of(template))),
                revision: last + 1,
            }))
        }
    }
}

/// The stock controllers name it differently.
fn hash_label<K: Resource>() -> &'static str {
    if K::KIND == "DaemonSet" {
        REVISION_HASH
    } else {
        HASH
    }
}

/// The template as the patch that a revision holds.
fn data_of(template: &PodTemplateSpec) -> Value {
    let mut template = serde_json::to_value(template).unwrap_or_default();
    if let Some(template) = template.as_object_mut() {
        template.insert("$patch".to_owned(), json!("replace"));
    }
    json!({"spec": {"template": template}})
}

/// The template that a revision holds.
#[must_use]
pub fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.as_ref()?.0.pointer("/spec/template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

/// The hash in a revision's name, by which pods of a DaemonSet say what they are of.
#[must_use]
pub fn hash_of(revision: &ControllerRevision) -> Option<&str> {
    let labels = revision.metadata.labels.as_ref();
    let labels = labels?;
    // Those of a DaemonSet had the other label here once.
    labels
        .get(HASH)
        .or_else(|| labels.get(REVISION_HASH))
        .map(String::as_str)
}

/// Whether the one that has the name of a new revision is that revision.
#[must_use]
pub fn is_equal(wanted: &ControllerRevision, there: &ControllerRevision) -> bool {
    match (template_of(wanted), template_of(there)) {
        (Some(wanted), Some(there)) => is_same(&wanted, &there),
        _ => false,
    }
}

/// The oldest revisions beyond the limit, of those that no pod is of. `live` are names or hashes.
#[must_use]
pub fn excess(
    history: &[Arc<ControllerRevision>],
    live: &BTreeSet<String>,
    limit: Option<i32>,
) -> Vec<Arc<ControllerRevision>> {
    let is_live = |r: &ControllerRevision| {
        let name = r.metadata.name.as_ref();
        name.is_some_and(|name| live.contains(name)) || hash_of(r).is_some_and(|h| live.contains(h))
    };
    let mut old: Vec<_> = history.iter().filter(|r| !is_live(r)).cloned().collect();
    let excess = old
        .len()
        .saturating_sub(crate::pod::length(limit.unwrap_or(10)));
    old.sort_by_key(|r| r.revision);
    old.truncate(excess);
    old
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::{DaemonSet, StatefulSet};
    use serde_json::from_value;

    use super::*;

    #[test]
    fn a_revision_is_labelled_and_annotated_as_the_stock_controllers_do_it() {
        let owner: ObjectMeta = from_value(json!({"name": "a", "namespace": "n", "uid": "u",
            "annotations": {"kubernetes.io/change-cause": "why"}}))
        .unwrap();
        let template: PodTemplateSpec = from_value(json!({"metadata": {"labels": {"app": "a"}},
            "spec": {"containers": [{"name": "c", "image": "i:1", "resources": {}}]}}))
        .unwrap();
        let daemons = newest::<DaemonSet>(&owner, &template, None, &[]);
        let sets = newest::<StatefulSet>(&owner, &template, None, &[]);
        for (newest, label) in [(daemons, "controller-revision-hash"), (sets, HASH)] {
            let Newest::Create(revision) = newest else {
                panic!("{newest:?}");
            };
            let hash = hash_of(&revision).unwrap().to_owned();
            let labels = revision.metadata.labels.unwrap();
            let wanted = [("app", "a"), (label, hash.as_str())];
            let wanted = wanted.map(|(key, value)| (key.to_owned(), value.to_owned()));
            assert_eq!(labels, BTreeMap::from(wanted));
            let annotations = revision.metadata.annotations.unwrap();
            assert_eq!(annotations["kubernetes.io/change-cause"], "why");
            // Clients compare the patch byte by byte.
            assert_eq!(
                revision.data.unwrap().0.to_string(),
                r#"{"spec":{"template":{"$patch":"replace","metadata":{"labels":{"app":"a"}},"spec":{"containers":[{"image":"i:1","name":"c","resources":{}}]}}}}"#
            );
        }
    }
}
