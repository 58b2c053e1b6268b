//! Whether a volume is what a claim asks for.

use std::sync::Arc;

use berth_core::selector::label_selector_matches;
use berth_placement::claims::{belongs_to, capacity, class_name, is_claimed, mode_of, requested};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

/// Why the volume is not what the claim asks for, in the stock controller's words; nothing when it is. Where the claim names
/// the volume itself, labels do not count.
#[must_use]
pub fn mismatch(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<&'static str> {
    if !is_large_enough(volume, claim) {
        return Some("requested PV is too small");
    }
    let (has, wants) = (volume.spec.as_ref()?, claim.spec.as_ref()?);
    if has.storage_class_name.as_deref().unwrap_or_default() != class_name(claim) {
        return Some("storageClassName does not match");
    }
    if !has_mode(volume, claim) {
        return Some("incompatible volumeMode");
    }
    if !has_access(volume, claim) {
        return Some("incompatible accessMode");
    }
    let attributes = |class: &Option<String>| class.clone().unwrap_or_default();
    let differ = attributes(&has.volume_attributes_class_name)
        != attributes(&wants.volume_attributes_class_name);
    differ.then_some("volumeAttributesClassName does not match")
}

/// The volume that a claim gets: the one that is its own already, else the smallest free one that fits. A claim that waits for its
/// first pod gets only its own here: the scheduler knows the node, and chooses.
#[must_use]
pub fn best_match<'v>(
    claim: &PersistentVolumeClaim,
    volumes: &'v [Arc<PersistentVolume>],
    waits: bool,
) -> Option<&'v Arc<PersistentVolume>> {
    let usable = || {
        volumes.iter().filter(|volume| {
            volume.metadata.deletion_timestamp.is_none()
                && is_large_enough(volume, claim)
                && has_mode(volume, claim)
                && has_access(volume, claim)
        })
    };
    if let Some(own) = usable().find(|volume| belongs_to(volume, claim)) {
        return Some(own);
    }
    if waits {
        return None;
    }
    let selector = claim.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let fit = usable().filter(|volume| {
        is_free(volume)
            && mismatch(volume, claim).is_none()
            && selector.is_none_or(|s| label_selector_matches(s, volume.metadata.labels.as_ref()))
    });
    fit.min_by_key(|volume| (capacity(volume), volume.metadata.name.clone()))
}

fn is_free(volume: &PersistentVolume) -> bool {
    let phase = volume.status.as_ref().and_then(|s| s.phase.as_deref());
    !is_claimed(volume) && phase == Some("Available")
}

/// What can't be read is not enough.
fn is_large_enough(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    match (capacity(volume), requested(claim)) {
        (Some(has), Some(wants)) => has >= wants,
        (_, _) => false,
    }
}

fn has_mode(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let has = volume.spec.as_ref().and_then(|s| s.volume_mode.as_deref());
    let wants = claim.spec.as_ref().and_then(|s| s.volume_mode.as_deref());
    mode_of(has) == mode_of(wants)
}

fn has_access(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let has = volume.spec.as_ref().and_then(|s| s.access_modes.as_deref());
    let wants = claim.spec.as_ref().and_then(|s| s.access_modes.as_deref());
    let has = has.unwrap_or_default();
    wants
        .unwrap_or_default()
        .iter()
        .all(|mode| has.contains(mode))
}
