//! A pod of a StatefulSet: its name, its labels, its claims.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaimVolumeSource, Pod, PodSpec, PodTemplateSpec, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::claims::claim_name;
use super::ordinals::pod_name;
use crate::owner::controller_reference;
use crate::revision::REVISION_HASH;
use crate::template::pod_of;

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";

/// The pod of a number, of a revision.
pub(super) fn new(
    set: &StatefulSet,
    spec: &StatefulSetSpec,
    template: &PodTemplateSpec,
    ordinal: i32,
    revision: &str,
) -> Pod {
    let owner = controller_reference::<StatefulSet>(&set.metadata);
    let mut pod = pod_of(template, owner);
    pod.metadata.generate_name = Some(format!(
        "{}-",
        set.metadata.name.as_deref().unwrap_or_default()
    ));
    let name = pod_name(&set.metadata, ordinal);
    pod.metadata.name = Some(name.clone());
    pod.metadata.namespace = set.metadata.namespace.clone();
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(REVISION_HASH.to_owned(), revision.to_owned());
    let pod_spec = pod.spec.get_or_insert_default();
    pod_spec.hostname = Some(name);
    pod_spec.subdomain = spec.service_name.clone().filter(|name| !name.is_empty());
    identify(&mut pod, set, spec, ordinal);
    pod
}

/// Labels and volumes that say which one it is.
fn identify(pod: &mut Pod, set: &StatefulSet, spec: &StatefulSetSpec, ordinal: i32) {
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.extend(identity(&set.metadata, ordinal));
    let pod_spec: &mut PodSpec = pod.spec.get_or_insert_default();
    for template in spec.volume_claim_templates.iter().flatten() {
        let volume = template.metadata.name.clone().unwrap_or_default();
        let claim = Volume {
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim_name(&set.metadata, &volume, ordinal),
                read_only: None,
            }),
            name: volume,
            ..Volume::default()
        };
        let volumes = pod_spec.volumes.get_or_insert_default();
        // A volume of the pod template with that name gives way.
        match volumes.iter_mut().find(|other| other.name == claim.name) {
            Some(there) => {
                let is_same = there
                    .persistent_volume_claim
                    .as_ref()
                    .map(|c| &c.claim_name)
                    == claim
                        .persistent_volume_claim
                        .as_ref()
                        .map(|c| &c.claim_name);
                if !is_same {
                    *there = claim;
                }
            }
            None => volumes.push(claim),
        }
    }
}

/// The labels that a pod should have, if somebody took them away.
pub(super) fn lost_labels(set: &ObjectMeta, ordinal: i32, pod: &Pod) -> BTreeMap<String, String> {
    let labels = pod.metadata.labels.as_ref();
    let mut lost = identity(set, ordinal);
    lost.retain(|key, value| labels.and_then(|l| l.get(key)) != Some(value));
    lost
}

/// The labels that say which one it is.
fn identity(set: &ObjectMeta, ordinal: i32) -> BTreeMap<String, String> {
    BTreeMap::from([
        (POD_NAME.to_owned(), pod_name(set, ordinal)),
        (POD_INDEX.to_owned(), ordinal.to_string()),
    ])
}

/// The revision that a pod is of.
pub(super) fn revision_of(pod: &Pod) -> Option<&String> {
    pod.metadata.labels.as_ref()?.get(REVISION_HASH)
}
