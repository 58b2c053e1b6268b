//! Volumes, attachments and claims for devices: a node reads those that its pods use.

use berth_core::local_path;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::VolumeAttachment;

use super::{Asked, MIRROR_POD, pods_of, references, refuse, unrelated};
use crate::storage::Storage;

const CLAIMS: &str = "core/persistentvolumeclaims";

/// One object by its name and nothing else.
fn get_one(asked: &Asked<'_>) -> Result<(), String> {
    if asked.verb != "get" {
        return refuse("can only get individual resources of this type");
    }
    if !asked.subresource.is_empty() {
        return refuse("cannot get subresource");
    }
    if asked.name.is_empty() {
        return refuse("No Object name found");
    }
    Ok(())
}

/// A volume that a claim is bound to which a pod of the node mounts, or that is a directory of the node.
pub(super) fn volume(node: &str, asked: &Asked<'_>, storage: &Storage) -> Result<(), String> {
    get_one(asked)?;
    // Both sides of the binding: a claim alone names any volume that its creator likes.
    let volume: Option<k8s_openapi::api::core::v1::PersistentVolume> = storage
        .read("core/persistentvolumes", "", asked.name)
        .map_err(|error| error.to_string())?;
    // A directory of the node, which it removes when the volume says so: nobody else can.
    if volume.as_ref().and_then(local_path::node_of) == Some(node) {
        return Ok(());
    }
    let claim = volume.and_then(|v| v.spec).and_then(|s| s.claim_ref);
    let Some(claim) = claim else {
        return refuse(unrelated(node));
    };
    let namespace = claim.namespace.as_deref().unwrap_or_default();
    let name = claim.name.as_deref().unwrap_or_default();
    let bound: Option<PersistentVolumeClaim> = storage
        .read(CLAIMS, namespace, name)
        .map_err(|error| error.to_string())?;
    let volume_name = bound.and_then(|c| c.spec).and_then(|s| s.volume_name);
    let is_bound = !namespace.is_empty() && volume_name.as_deref() == Some(asked.name);
    let mut pods = pods_of(node, namespace, storage).filter(|pod| !is_mirror(pod));
    if is_bound && pods.any(|pod| references(&pod).claims.contains(name)) {
        Ok(())
    } else {
        refuse(unrelated(node))
    }
}

/// The attachment of a volume to the node.
pub(super) fn attachment(node: &str, asked: &Asked<'_>, storage: &Storage) -> Result<(), String> {
    get_one(asked)?;
    let attachment: Option<VolumeAttachment> = storage
        .read("storage.k8s.io/volumeattachments", "", asked.name)
        .map_err(|error| error.to_string())?;
    if attachment.is_some_and(|attachment| attachment.spec.node_name == node) {
        Ok(())
    } else {
        refuse(unrelated(node))
    }
}

/// A claim for devices that a pod of the node has.
pub(super) fn resource_claim(
    node: &str,
    asked: &Asked<'_>,
    storage: &Storage,
) -> Result<(), String> {
    get_one(asked)?;
    let mut pods = pods_of(node, asked.namespace, storage).filter(|pod| !is_mirror(pod));
    if pods.any(|pod| claims_devices(&pod, asked.name)) {
        Ok(())
    } else {
        refuse(unrelated(node))
    }
}

/// What the node's drivers say of its own devices.
pub(super) fn resource_slice(node: &str, asked: &Asked<'_>) -> Result<(), String> {
    match asked.verb {
        "deletecollection" | "list" | "watch" if asked.selected_node == Some(node) => Ok(()),
        "deletecollection" | "list" | "watch" => refuse(
            "can only list/watch/deletecollection resourceslices with nodeName field selector",
        ),
        _ => refuse("can only list, watch or deletecollection resourceslices of the node"),
    }
}

fn is_mirror(pod: &Pod) -> bool {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.is_some_and(|a| a.contains_key(MIRROR_POD))
}

/// Whether a pod names the claim, or has one made from a template.
fn claims_devices(pod: &Pod, name: &str) -> bool {
    let spec = pod
        .spec
        .iter()
        .flat_map(|s| s.resource_claims.iter().flatten());
    let mut named = spec.filter_map(|claim| claim.resource_claim_name.as_deref());
    let status = pod
        .status
        .iter()
        .flat_map(|s| s.resource_claim_statuses.iter().flatten());
    let mut made = status.filter_map(|claim| claim.resource_claim_name.as_deref());
    named.any(|n| n == name) || made.any(|n| n == name)
}
