//! The objects as they are to be written, each one nothing when it is as it should be.

use berth_placement::claims::{belongs_to, is_claimed, volume_name};
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};

use super::{BIND_COMPLETED, BOUND_BY_CONTROLLER, STORAGE_PROVISIONER, annotate, has};

/// The volume with the claim in its `claimRef`. None also when it is somebody else's, which the caller has ruled out.
#[must_use]
pub fn volume_side(
    volume: &PersistentVolume,
    claim: &PersistentVolumeClaim,
) -> Option<PersistentVolume> {
    let there = volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref());
    if there.is_some_and(|there| there.uid.is_some() && there.uid == claim.metadata.uid) {
        return None;
    }
    if is_claimed(volume) && !belongs_to(volume, claim) {
        return None;
    }
    let mut changed = volume.clone();
    if there.is_none() {
        annotate(&mut changed.metadata, BOUND_BY_CONTROLLER, "yes");
    }
    changed.spec.get_or_insert_default().claim_ref = Some(reference(claim));
    Some(changed)
}

/// A reference to the claim, as volumes have it.
#[must_use]
pub fn reference(claim: &PersistentVolumeClaim) -> ObjectReference {
    let meta = &claim.metadata;
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("PersistentVolumeClaim".to_owned()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        ..ObjectReference::default()
    }
}

/// The volume in this phase.
#[must_use]
pub fn volume_phase(
    volume: &PersistentVolume,
    phase: &str,
    message: &str,
) -> Option<PersistentVolume> {
    let status = volume.status.clone().unwrap_or_default();
    let same = status.phase.as_deref() == Some(phase)
        && status.message.as_deref().unwrap_or_default() == message;
    if same {
        return None;
    }
    let mut changed = volume.clone();
    let status = changed.status.get_or_insert_default();
    status.phase = Some(phase.to_owned());
    status.message = Some(message.to_owned()).filter(|text| !text.is_empty());
    Some(changed)
}

/// The claim with the volume's name.
#[must_use]
pub fn claim_side(
    claim: &PersistentVolumeClaim,
    volume: &PersistentVolume,
) -> Option<PersistentVolumeClaim> {
    let named = volume_name(claim);
    if named.is_some() && has(&claim.metadata, BIND_COMPLETED) {
        return None;
    }
    let mut changed = claim.clone();
    if named.is_none() {
        annotate(&mut changed.metadata, BOUND_BY_CONTROLLER, "yes");
        let spec = changed.spec.get_or_insert_default();
        spec.volume_name.clone_from(&volume.metadata.name);
    }
    annotate(&mut changed.metadata, BIND_COMPLETED, "yes");
    Some(changed)
}

/// The claim with a status that says what the volume is.
#[must_use]
pub fn claim_status(
    claim: &PersistentVolumeClaim,
    volume: &PersistentVolume,
) -> Option<PersistentVolumeClaim> {
    let spec = volume.spec.as_ref();
    let mut changed = claim.clone();
    let status = changed.status.get_or_insert_default();
    let was_bound = status.phase.as_deref() == Some("Bound");
    status.phase = Some("Bound".to_owned());
    status.access_modes = spec.and_then(|spec| spec.access_modes.clone());
    // A bound claim's size changes by an expansion alone.
    if !was_bound || status.capacity.is_none() {
        status.capacity = spec.and_then(|spec| spec.capacity.clone());
    }
    let attributes = spec.and_then(|spec| spec.volume_attributes_class_name.clone());
    status.current_volume_attributes_class_name = attributes;
    (changed.status != claim.status).then_some(changed)
}

/// The claim in the phase `Pending` or `Lost`, without what a volume gave it.
#[must_use]
pub fn claim_phase(claim: &PersistentVolumeClaim, phase: &str) -> Option<PersistentVolumeClaim> {
    let mut changed = claim.clone();
    let status = changed.status.get_or_insert_default();
    status.phase = Some(phase.to_owned());
    status.access_modes = None;
    status.capacity = None;
    (changed.status != claim.status).then_some(changed)
}

/// The claim with the name of who is to make its volume.
#[must_use]
pub fn announced(
    claim: &PersistentVolumeClaim,
    provisioner: &str,
) -> Option<PersistentVolumeClaim> {
    let annotations = claim.metadata.annotations.as_ref();
    let says = |key: &&str| {
        annotations
            .and_then(|all| all.get(*key))
            .map(String::as_str)
    };
    if STORAGE_PROVISIONER
        .iter()
        .all(|key| says(key) == Some(provisioner))
    {
        return None;
    }
    let mut changed = claim.clone();
    for key in STORAGE_PROVISIONER {
        annotate(&mut changed.metadata, key, provisioner);
    }
    Some(changed)
}

/// The volume that its claim did not take, as it was before.
#[must_use]
pub fn released_from(volume: &PersistentVolume) -> PersistentVolume {
    let mut changed = volume.clone();
    let spec = changed.spec.get_or_insert_default();
    if has(&volume.metadata, BOUND_BY_CONTROLLER) {
        spec.claim_ref = None;
        if let Some(annotations) = &mut changed.metadata.annotations {
            annotations.remove(BOUND_BY_CONTROLLER);
        }
    } else if let Some(reference) = &mut spec.claim_ref {
        // Who made the volume wants a claim of this name to have it.
        reference.uid = None;
    }
    changed
}
