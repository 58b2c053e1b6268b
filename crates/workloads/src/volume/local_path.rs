//! Volumes that are directories of a node ([`berth_core::local_path`]): their class, and what is asked of whom.

use std::collections::BTreeMap;

use berth_core::local_path::{FINALIZER, NODE, PROVISIONED_BY, PROVISIONER, volume_name};
use berth_placement::claims::{class_name, mode_of};
use k8s_openapi::api::core::v1::{
    LocalVolumeSource, Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm,
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec, VolumeNodeAffinity,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::bind::reference;
use super::claim::DEFAULT_CLASS;
use super::protect::VOLUME_FINALIZER;

const HOSTNAME: &str = "kubernetes.io/hostname";
const MODES: [&str; 2] = ["ReadWriteOnce", "ReadWriteOncePod"];

/// The class that a cluster begins with.
#[must_use]
pub fn class() -> StorageClass {
    let default = DEFAULT_CLASS[0].to_owned();
    StorageClass {
        metadata: ObjectMeta {
            name: Some("local-path".to_owned()),
            annotations: Some(BTreeMap::from([(default, "true".to_owned())])),
            ..ObjectMeta::default()
        },
        provisioner: PROVISIONER.to_owned(),
        reclaim_policy: Some("Delete".to_owned()),
        volume_binding_mode: Some("WaitForFirstConsumer".to_owned()),
        ..StorageClass::default()
    }
}

/// What no directory can be for the claim, whichever node.
#[must_use]
pub fn refusal(claim: &PersistentVolumeClaim, class: &StorageClass) -> Option<String> {
    if class.volume_binding_mode.as_deref() != Some("WaitForFirstConsumer") {
        return Some(format!(
            "a class of {PROVISIONER} needs volumeBindingMode WaitForFirstConsumer: the volume is a directory of the node where the \
             claim's first pod runs"
        ));
    }
    let parameters = class.parameters.iter().flatten();
    if let Some((name, _)) = parameters.into_iter().next() {
        return Some(format!("{PROVISIONER} knows no parameter {name:?}"));
    }
    if class.mount_options.iter().flatten().next().is_some() {
        return Some(format!("volumes of {PROVISIONER} have no mount options"));
    }
    let spec = claim.spec.as_ref()?;
    if mode_of(spec.volume_mode.as_deref()) != "Filesystem" {
        return Some(format!(
            "volumes of {PROVISIONER} are directories: volumeMode must be Filesystem"
        ));
    }
    let mut modes = spec.access_modes.iter().flatten();
    if let Some(mode) = modes.find(|mode| !MODES.contains(&mode.as_str())) {
        return Some(format!(
            "volumes of {PROVISIONER} are of one node: access mode {mode} can't be had, only {}",
            MODES.join(" and ")
        ));
    }
    if spec.selector.is_some() {
        return Some("claim.Spec.Selector is not supported".to_owned());
    }
    if spec.data_source.is_some() || spec.data_source_ref.is_some() {
        return Some("claim.Spec.DataSource is not supported".to_owned());
    }
    None
}

/// The volume of a claim, whose directory on the node is there. Nothing for a claim that nobody has stored.
#[must_use]
pub fn volume(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    node: &Node,
    path: &str,
) -> Option<PersistentVolume> {
    let name = volume_name(claim.metadata.uid.as_deref()?)?;
    let node_name = node.metadata.name.clone()?;
    let spec = claim.spec.as_ref()?;
    let requests = spec.resources.as_ref()?.requests.as_ref()?;
    let storage = requests.get("storage")?.clone();
    let hostname = node.metadata.labels.as_ref().and_then(|l| l.get(HOSTNAME));
    let affinity = NodeSelectorRequirement {
        key: HOSTNAME.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![hostname.unwrap_or(&node_name).clone()]),
    };
    let term = NodeSelectorTerm {
        match_expressions: Some(vec![affinity]),
        ..NodeSelectorTerm::default()
    };
    let annotations = [(PROVISIONED_BY, PROVISIONER), (NODE, node_name.as_str())];
    let annotations = annotations.map(|(key, value)| (key.to_owned(), value.to_owned()));
    Some(PersistentVolume {
        metadata: ObjectMeta {
            name: Some(name),
            annotations: Some(annotations.into()),
            finalizers: Some(vec![VOLUME_FINALIZER.to_owned(), FINALIZER.to_owned()]),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            access_modes: spec.access_modes.clone(),
            capacity: Some(BTreeMap::from([("storage".to_owned(), storage)])),
            claim_ref: Some(reference(claim)),
            local: Some(LocalVolumeSource {
                path: path.to_owned(),
                fs_type: None,
            }),
            node_affinity: Some(VolumeNodeAffinity {
                required: Some(NodeSelector {
                    node_selector_terms: vec![term],
                }),
            }),
            persistent_volume_reclaim_policy: class.reclaim_policy.clone(),
            storage_class_name: Some(class_name(claim).to_owned()),
            volume_mode: Some("Filesystem".to_owned()),
            ..PersistentVolumeSpec::default()
        }),
        status: None,
    })
}
