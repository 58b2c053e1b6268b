//! What is to be done about a claim.

use std::sync::Arc;

use berth_placement::claims::{belongs_to, class_name, is_claimed, selected_node, volume_name};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;

use super::matching::{best_match, mismatch};
use super::protect::uses;
use super::{BIND_COMPLETED, NO_PROVISIONER, has};
use crate::Event;

/// Marks a class as the default one; the older name counts as well.
pub(super) const DEFAULT_CLASS: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];
const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// What there is besides the claim.
#[derive(Clone, Copy, Debug)]
pub struct Known<'k> {
    /// All volumes.
    pub volumes: &'k [Arc<PersistentVolume>],
    /// All classes.
    pub classes: &'k [Arc<StorageClass>],
    /// The pods of the claim's namespace.
    pub pods: &'k [Arc<Pod>],
}

/// The next thing for a claim.
#[derive(Clone, Debug, PartialEq)]
pub enum ClaimStep {
    /// Both sides are to be written, as far as they are not ([`super::bind`]).
    Bind(Arc<PersistentVolume>),
    /// It gets the default class, which it was too early for.
    UseClass(String),
    /// The class' provisioner is to make a volume; that is said on the claim.
    Provision(Arc<StorageClass>),
    /// Nothing can be done by now.
    Wait(Event),
    /// Its volume is gone, and what was on it.
    Lost(Event),
}

/// Decides about a claim that is not being deleted.
#[must_use]
pub fn step(claim: &PersistentVolumeClaim, known: Known<'_>) -> ClaimStep {
    let find = |name: &str| {
        let mut volumes = known.volumes.iter();
        volumes.find(|volume| volume.metadata.name.as_deref() == Some(name))
    };
    match (has(&claim.metadata, BIND_COMPLETED), volume_name(claim)) {
        (true, None) => lost(
            "ClaimLost",
            "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!",
        ),
        (true, Some(name)) => match find(name) {
            None => lost(
                "ClaimLost",
                "Bound claim has lost its PersistentVolume. Data on the volume is lost!",
            ),
            Some(volume) if belongs_to(volume, claim) => ClaimStep::Bind(Arc::clone(volume)),
            // Anybody writes the annotation onto his claim: a volume that is nobody's still has to be what it asks for.
            Some(volume) if !is_claimed(volume) && mismatch(volume, claim).is_none() => {
                ClaimStep::Bind(Arc::clone(volume))
            }
            Some(_) => lost(
                "ClaimMisbound",
                "Two claims are bound to the same volume, this one is bound incorrectly",
            ),
        },
        (false, Some(name)) => by_name(claim, name, find(name)),
        (false, None) => by_class(claim, known),
    }
}

fn lost(reason: &'static str, message: &str) -> ClaimStep {
    ClaimStep::Lost(Event::warning(reason, message.to_owned()))
}

/// The claim's creator wants this volume.
fn by_name(
    claim: &PersistentVolumeClaim,
    name: &str,
    volume: Option<&Arc<PersistentVolume>>,
) -> ClaimStep {
    let wait = |reason, message| ClaimStep::Wait(Event::warning(reason, message));
    let Some(volume) = volume else {
        return wait("FailedBinding", format!("volume {name:?} not found"));
    };
    if volume.metadata.deletion_timestamp.is_some() {
        return wait(
            "FailedBinding",
            format!("volume {name:?} is being deleted."),
        );
    }
    if belongs_to(volume, claim) {
        return ClaimStep::Bind(Arc::clone(volume));
    }
    if is_claimed(volume) {
        let message = format!("volume {name:?} already bound to a different claim.");
        return wait("FailedBinding", message);
    }
    match mismatch(volume, claim) {
        None => ClaimStep::Bind(Arc::clone(volume)),
        Some(why) => {
            let message = format!("Cannot bind to requested volume {name:?}: {why}");
            wait("VolumeMismatch", message)
        }
    }
}

fn by_class(claim: &PersistentVolumeClaim, known: Known<'_>) -> ClaimStep {
    let name = class_name(claim);
    let is_named = |class: &&Arc<StorageClass>| class.metadata.name.as_deref() == Some(name);
    let class = known.classes.iter().find(is_named);
    let waits = class
        .is_some_and(|class| class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"));
    if let Some(volume) = best_match(claim, known.volumes, waits) {
        return ClaimStep::Bind(Arc::clone(volume));
    }
    let unset = claim
        .spec
        .as_ref()
        .is_none_or(|spec| spec.storage_class_name.is_none());
    if unset
        && !has(&claim.metadata, OLD_CLASS)
        && let Some(default) = default_class(known.classes)
    {
        return ClaimStep::UseClass(default);
    }
    if name.is_empty() {
        let message = "no persistent volumes available for this claim and no storage class is set";
        return ClaimStep::Wait(Event::normal("FailedBinding", message.to_owned()));
    }
    let Some(class) = class else {
        let message = format!("storageclass.storage.k8s.io {name:?} not found");
        return ClaimStep::Wait(Event::warning("ProvisioningFailed", message));
    };
    if waits && selected_node(claim).is_none() {
        return ClaimStep::Wait(first_consumer(claim, known.pods));
    }
    if class.provisioner == NO_PROVISIONER {
        let message = format!(
            "no volume plugin matched name: {NO_PROVISIONER}: volumes of class {name:?} are made by the administrator, and none \
             that is there fits this claim"
        );
        return ClaimStep::Wait(Event::warning("ProvisioningFailed", message));
    }
    ClaimStep::Provision(Arc::clone(class))
}

/// The newest of the default classes, of several the first by name.
fn default_class(classes: &[Arc<StorageClass>]) -> Option<String> {
    let is_default = |class: &&Arc<StorageClass>| {
        let annotations = class.metadata.annotations.as_ref();
        let is = |key: &&str| {
            annotations
                .and_then(|all| all.get(*key))
                .map(String::as_str)
        };
        DEFAULT_CLASS.iter().any(|key| is(key) == Some("true"))
    };
    let newest = classes.iter().filter(is_default).min_by_key(|class| {
        let created = class.metadata.creation_timestamp.as_ref();
        let created = created.map_or(0, |at| at.0.as_second());
        (std::cmp::Reverse(created), class.metadata.name.clone())
    });
    newest?.metadata.name.clone()
}

/// At most this many pods are named in the event.
const PODS_TOLD: usize = 10;

/// What a claim waits for whose volume is bound with its first pod.
fn first_consumer(claim: &PersistentVolumeClaim, pods: &[Arc<Pod>]) -> Event {
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let waiting = pods.iter().filter(|pod| {
        let node = pod.spec.as_ref().and_then(|s| s.node_name.as_deref());
        node.is_none_or(str::is_empty) && uses(pod, name)
    });
    let mut names: Vec<&str> = waiting
        .filter_map(|pod| pod.metadata.name.as_deref())
        .take(PODS_TOLD)
        .collect();
    names.sort_unstable();
    let (reason, message) = match names.as_slice() {
        [] => (
            "WaitForFirstConsumer",
            "waiting for first consumer to be created before binding".to_owned(),
        ),
        [one] => (
            "WaitForPodScheduled",
            format!("waiting for pod {one} to be scheduled"),
        ),
        all => (
            "WaitForPodScheduled",
            format!("waiting for pods {} to be scheduled", all.join(",")),
        ),
    };
    Event::normal(reason, message)
}

/// What a claim waits for whose provisioner is no part of this program.
#[must_use]
pub fn external(provisioner: &str) -> Event {
    let message = format!(
        "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the system \
         administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
    );
    Event::normal("ExternalProvisioning", message)
}
