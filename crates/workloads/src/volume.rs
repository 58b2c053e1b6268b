//! PersistentVolumes and PersistentVolumeClaims: which claim gets which volume, and what becomes of a volume when its claim is gone.
//!
//! ```text
//!   claim    Pending ----- a volume fits, or one is made -----> Bound ----- the volume is gone -----> Lost
//!   volume   Available --- a claim takes it ------------------> Bound ----- the claim is gone ------> Released (-> Delete)
//! ```
//!
//! Binding has two sides: the volume's `claimRef` and the claim's `volumeName`. They are written in this order, each only if the
//! object is still as it was read, so that of two claims for one volume one comes too late, and a controller that ends in between
//! goes on where it was.
//!
//! - [`matching`]: whether a volume is what a claim asks for.
//! - [`claim`], [`persistent`]: what is to be done about a claim, and about a volume.
//! - [`bind`]: the objects as they are to be written.
//! - [`protect`]: the finalizers that keep what is used.
//! - [`local_path`]: volumes that are directories of a node.
//! - [`ephemeral`]: claims that are made for a pod.

pub mod bind;
pub mod claim;
pub mod ephemeral;
pub mod local_path;
pub mod matching;
pub mod persistent;
pub mod protect;
#[cfg(test)]
mod tests;

pub use berth_placement::claims::{
    SELECTED_NODE, class_name, names, requested, selected_node, volume_name,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// Says on a claim that both sides of its binding are written.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// Says that a controller chose the other side, and not a user.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// Who has to make the claim's volume; the older name is written as well.
pub const STORAGE_PROVISIONER: [&str; 2] = [
    "volume.kubernetes.io/storage-provisioner",
    "volume.beta.kubernetes.io/storage-provisioner",
];
/// A class without a provisioner: its volumes are there, or are not.
pub const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

pub(crate) fn has(meta: &ObjectMeta, annotation: &str) -> bool {
    let annotations = meta.annotations.as_ref();
    annotations.is_some_and(|all| all.contains_key(annotation))
}

pub(crate) fn annotate(meta: &mut ObjectMeta, key: &str, value: &str) {
    let annotations = meta.annotations.get_or_insert_default();
    annotations.insert(key.to_owned(), value.to_owned());
}
