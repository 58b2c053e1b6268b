//! The finalizers of what is used: a claim that a pod mounts, a volume that a claim is bound to.

use berth_core::pod::is_finished;
use berth_placement::claims::names;
use k8s_openapi::api::core::v1::{PersistentVolume, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// On claims.
pub const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
/// On volumes.
pub const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";

/// Whether the object has the finalizer.
#[must_use]
pub fn has_finalizer(meta: &ObjectMeta, finalizer: &str) -> bool {
    meta.finalizers
        .iter()
        .flatten()
        .any(|there| there == finalizer)
}

/// The object's finalizers with this one, or without it.
#[must_use]
pub fn with_finalizer(meta: &ObjectMeta, finalizer: &str, wanted: bool) -> Vec<String> {
    let all = meta.finalizers.iter().flatten();
    let mut all: Vec<String> = all.filter(|there| *there != finalizer).cloned().collect();
    if wanted {
        all.push(finalizer.to_owned());
    }
    all
}

/// Whether the pod names the claim.
#[must_use]
pub fn uses(pod: &Pod, claim: &str) -> bool {
    names(pod).any(|(name, _)| name == claim)
}

/// Whether the pod keeps the claim from going: it is on a node, and not over. One that no node has yet will not start there: a node
/// takes no claim that is being deleted.
#[must_use]
pub fn holds(pod: &Pod, claim: &str) -> bool {
    let node = pod.spec.as_ref().and_then(|s| s.node_name.as_deref());
    node.is_some_and(|node| !node.is_empty()) && !is_finished(pod) && uses(pod, claim)
}

/// Whether a claim has the volume.
#[must_use]
pub fn is_bound(volume: &PersistentVolume) -> bool {
    let phase = volume.status.as_ref().and_then(|s| s.phase.as_deref());
    phase == Some("Bound")
}
