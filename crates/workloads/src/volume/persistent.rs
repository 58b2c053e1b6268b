//! What is to be done about a volume.

use berth_core::local_path;
use berth_placement::claims::volume_name;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use super::has;
use crate::Event;

/// The next thing for a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeStep {
    /// It is free, or kept for a claim of this name, whichever that will be.
    Available,
    /// Its claim has it.
    Bound,
    /// It is its claim's, and the claim does not say so yet: the claim is to be looked at.
    LookAtClaim,
    /// Its claim is gone, or has another volume although this one was made for it.
    Released,
    /// Its claim took another volume: it is free again.
    Unbind,
}

/// The claim that the volume names: namespace, name, and its UID once it has met that claim.
#[must_use]
pub fn claim_of(volume: &PersistentVolume) -> Option<(&str, &str, Option<&str>)> {
    let reference = volume.spec.as_ref()?.claim_ref.as_ref()?;
    let namespace = reference.namespace.as_deref().unwrap_or_default();
    let name = reference.name.as_deref().unwrap_or_default();
    Some((
        namespace,
        name,
        reference.uid.as_deref().filter(|uid| !uid.is_empty()),
    ))
}

/// Decides about a volume. `claim` is the one of the name in its `claimRef`, if there is one; another claim of this name that was made
/// since counts as none.
#[must_use]
pub fn step(volume: &PersistentVolume, claim: Option<&PersistentVolumeClaim>) -> VolumeStep {
    let Some((_, _, Some(uid))) = claim_of(volume) else {
        return VolumeStep::Available;
    };
    let Some(claim) = claim.filter(|claim| claim.metadata.uid.as_deref() == Some(uid)) else {
        return VolumeStep::Released;
    };
    match volume_name(claim) {
        None => VolumeStep::LookAtClaim,
        Some(name) if volume.metadata.name.as_deref() == Some(name) => VolumeStep::Bound,
        // Nobody else can have use for a volume that was made for this claim.
        Some(_) if is_made(volume) && policy(volume) == "Delete" => VolumeStep::Released,
        Some(_) => VolumeStep::Unbind,
    }
}

fn is_made(volume: &PersistentVolume) -> bool {
    has(&volume.metadata, local_path::PROVISIONED_BY)
}

fn policy(volume: &PersistentVolume) -> &str {
    let spec = volume.spec.as_ref();
    spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref())
        .unwrap_or("Retain")
}

/// What becomes of a released volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reclaim {
    /// It stays, or somebody else deletes it.
    Keep,
    /// It is to be deleted.
    Delete,
    /// Nobody can do what its policy says.
    Fail(Event),
}

/// What the policy of a released volume asks for.
#[must_use]
pub fn reclaim(volume: &PersistentVolume) -> Reclaim {
    match policy(volume) {
        "Retain" => Reclaim::Keep,
        "Delete" if local_path::is_ours(volume) => Reclaim::Delete,
        // The provisioner that made it deletes it.
        "Delete" if is_made(volume) => Reclaim::Keep,
        "Delete" => Reclaim::Fail(Event::warning(
            "VolumeFailedDelete",
            "no deletable volume plugin matched: no provisioner has made this volume, so nobody knows how to delete what is on it. \
             Use the reclaim policy Retain, and delete the volume by hand"
                .to_owned(),
        )),
        other => Reclaim::Fail(Event::warning(
            "VolumeFailedRecycle",
            format!("the reclaim policy {other:?} is not supported: use Retain or Delete"),
        )),
    }
}
