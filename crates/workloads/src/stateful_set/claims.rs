//! The claims of a StatefulSet's pods, and how long they are kept (KEP-1847).

use std::sync::Arc;

use k8s_openapi::Resource;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// A change to a claim.
#[derive(Clone, Debug, PartialEq)]
pub enum Claim {
    /// It is to be created; one that is there already is as good.
    Create(Box<PersistentVolumeClaim>),
    /// It goes with the pod that is being removed, or with the StatefulSet: these owner references are to be written.
    Own(Arc<PersistentVolumeClaim>, Vec<OwnerReference>),
}

pub(super) fn claim_name(set: &ObjectMeta, volume: &str, ordinal: i32) -> String {
    let set = set.name.as_deref().unwrap_or_default();
    format!("{volume}-{set}-{ordinal}")
}

/// Whether claims are deleted with the StatefulSet, and when their pod is scaled away.
fn is_deleted_with(spec: &StatefulSetSpec) -> (bool, bool) {
    let policy = spec.persistent_volume_claim_retention_policy.as_ref();
    let is = |when: Option<&String>| when.is_some_and(|when| when == "Delete");
    (
        is(policy.and_then(|p| p.when_deleted.as_ref())),
        is(policy.and_then(|p| p.when_scaled.as_ref())),
    )
}

fn reference<K: Resource>(owner: &ObjectMeta) -> OwnerReference {
    OwnerReference {
        api_version: K::API_VERSION.to_owned(),
        kind: K::KIND.to_owned(),
        name: owner.name.clone().unwrap_or_default(),
        uid: owner.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    }
}

fn named<'a>(
    claims: &'a [Arc<PersistentVolumeClaim>],
    name: &str,
) -> Option<&'a Arc<PersistentVolumeClaim>> {
    claims
        .iter()
        .find(|claim| claim.metadata.name.as_deref() == Some(name))
}

/// The claims that the pod of a number needs and that aren't there, and those that belong to the wrong owner.
pub(super) fn missing(
    set: &StatefulSet,
    spec: &StatefulSetSpec,
    ordinal: i32,
    claims: &[Arc<PersistentVolumeClaim>],
) -> Vec<Claim> {
    let (with_set, _) = is_deleted_with(spec);
    let owners = with_set.then(|| vec![reference::<StatefulSet>(&set.metadata)]);
    let templates = spec.volume_claim_templates.iter().flatten();
    let changes = templates.filter_map(|template| {
        let volume = template.metadata.name.as_deref().unwrap_or_default();
        let name = claim_name(&set.metadata, volume, ordinal);
        if let Some(there) = named(claims, &name) {
            return with_owners(there, set, owners.as_deref());
        }
        let mut claim = template.clone();
        claim.status = None;
        claim.metadata.name = Some(name);
        claim.metadata.namespace.clone_from(&set.metadata.namespace);
        claim.metadata.owner_references.clone_from(&owners);
        let labels = claim.metadata.labels.get_or_insert_default();
        labels.extend(spec.selector.match_labels.clone().unwrap_or_default());
        Some(Claim::Create(Box::new(claim)))
    });
    changes.collect()
}

/// A claim that is kept for a pod is owned by the StatefulSet or by nobody, no longer by a pod that was scaled away.
fn with_owners(
    claim: &Arc<PersistentVolumeClaim>,
    set: &StatefulSet,
    wanted: Option<&[OwnerReference]>,
) -> Option<Claim> {
    let set_uid = set.metadata.uid.as_deref();
    let pod_prefix = set.metadata.name.as_deref().unwrap_or_default();
    let is_ours = |owner: &OwnerReference| {
        let is_pod = owner.kind == "Pod"
            && owner
                .name
                .strip_prefix(pod_prefix)
                .is_some_and(|rest| rest.starts_with('-'));
        Some(owner.uid.as_str()) == set_uid || is_pod
    };
    let there = claim.metadata.owner_references.clone().unwrap_or_default();
    let mut owners: Vec<_> = there.iter().filter(|o| !is_ours(o)).cloned().collect();
    owners.extend_from_slice(wanted.unwrap_or_default());
    let is_same = owners.len() == there.len()
        && owners
            .iter()
            .all(|owner| there.iter().any(|other| other.uid == owner.uid));
    (!is_same).then(|| Claim::Own(Arc::clone(claim), owners))
}

/// The claims of a pod that is being scaled away go with it, where the policy says so.
pub(super) fn of_condemned(
    spec: &StatefulSetSpec,
    set: &StatefulSet,
    pod: &Pod,
    ordinal: i32,
    claims: &[Arc<PersistentVolumeClaim>],
) -> Vec<Claim> {
    let (_, when_scaled) = is_deleted_with(spec);
    if !when_scaled {
        return Vec::new();
    }
    let owner = reference::<Pod>(&pod.metadata);
    let templates = spec.volume_claim_templates.iter().flatten();
    let names = templates.map(|template| {
        let volume = template.metadata.name.as_deref().unwrap_or_default();
        claim_name(&set.metadata, volume, ordinal)
    });
    names
        .filter_map(|name| named(claims, &name))
        .filter(|claim| {
            let owners = claim.metadata.owner_references.iter().flatten();
            !owners.into_iter().any(|other| other.uid == owner.uid)
        })
        .map(|claim| Claim::Own(Arc::clone(claim), vec![owner.clone()]))
        .collect()
}
