//! Pods: a node creates mirror pods of its own, and writes the status of, deletes and evicts what is bound to it.

use k8s_openapi::api::core::v1::{Node, Pod};

use super::node::equal;
use super::{Violation, references};

/// The annotation of pods that stand for a node's static pods.
pub const MIRROR_POD: &str = "kubernetes.io/config.mirror";

fn runs_on(pod: &Pod, node: &str) -> bool {
    pod.spec.as_ref().and_then(|s| s.node_name.as_deref()) == Some(node)
}

/// The creation of a pod; `registered` is the node's Node.
///
/// # Errors
/// Unless it is a mirror pod, bound to the node, owned by its Node, that refers to no other object.
pub fn create_pod(node: &str, pod: &Pod, registered: Option<&Node>) -> Result<(), Violation> {
    let me = || node.to_owned();
    let annotations = pod.metadata.annotations.as_ref();
    if !annotations.is_some_and(|a| a.contains_key(MIRROR_POD)) {
        return Err(Violation::NotMirror(me()));
    }
    if !runs_on(pod, node) {
        return Err(Violation::PodForOther(me()));
    }
    let owner = match pod.metadata.owner_references.as_deref() {
        Some([owner]) => owner,
        None | Some([]) => return Err(Violation::OtherOwner(me())),
        Some(_) => return Err(Violation::ManyOwners(me())),
    };
    if owner.api_version != "v1" || owner.kind != "Node" || owner.name != node {
        return Err(Violation::OtherOwner(me()));
    }
    if owner.controller != Some(true) {
        return Err(Violation::NoController(me()));
    }
    if owner.block_owner_deletion == Some(true) {
        return Err(Violation::BlocksDeletion(me()));
    }
    let uid = registered
        .and_then(|n| n.metadata.uid.as_deref())
        .ok_or_else(|| Violation::NotRegistered(me()))?;
    if owner.uid != uid {
        return Err(Violation::OwnerUid {
            node: me(),
            given: owner.uid.clone(),
            registered: uid.to_owned(),
        });
    }
    match referenced(pod) {
        Some(what) => Err(Violation::References { node: me(), what }),
        None => Ok(()),
    }
}

/// What the pod would give its node a right to read.
fn referenced(pod: &Pod) -> Option<&'static str> {
    let spec = pod.spec.as_ref()?;
    let account = [&spec.service_account_name, &spec.service_account];
    let found = references(pod);
    let projected = || {
        let volumes = spec.volumes.iter().flatten();
        volumes
            .filter_map(|v| v.projected.as_ref())
            .flat_map(|p| p.sources.iter().flatten())
    };
    let ephemeral = spec.volumes.iter().flatten().any(|v| v.ephemeral.is_some());
    [
        (
            account
                .iter()
                .any(|a| a.as_deref().is_some_and(|a| !a.is_empty())),
            "a service account",
        ),
        (
            projected().any(|s| s.service_account_token.is_some()),
            "service account tokens",
        ),
        (!found.secrets.is_empty(), "secrets"),
        (!found.config_maps.is_empty(), "configmaps"),
        (
            projected().any(|s| s.cluster_trust_bundle.is_some()),
            "clustertrustbundles",
        ),
        (
            !found.claims.is_empty() || ephemeral,
            "persistentvolumeclaims",
        ),
        (
            spec.resource_claims.as_ref().is_some_and(|c| !c.is_empty()),
            "resourceclaims",
        ),
    ]
    .into_iter()
    .find_map(|(refers, what)| refers.then_some(what))
}

/// The deletion of a pod.
///
/// # Errors
/// Unless it is bound to the node.
pub fn delete_pod(node: &str, pod: &Pod) -> Result<(), Violation> {
    if runs_on(pod, node) {
        Ok(())
    } else {
        Err(Violation::DeletesOther(node.to_owned()))
    }
}

/// The eviction of a pod.
///
/// # Errors
/// Unless it is bound to the node.
pub fn evict_pod(node: &str, pod: &Pod) -> Result<(), Violation> {
    if runs_on(pod, node) {
        Ok(())
    } else {
        Err(Violation::EvictsOther(node.to_owned()))
    }
}

/// A change of a pod's status.
///
/// # Errors
/// For another node's pod, and for changes of what is not for nodes.
pub fn update_pod_status(node: &str, old: &Pod, new: &Pod) -> Result<(), Violation> {
    if !runs_on(old, node) {
        return Err(Violation::StatusOfOther(node.to_owned()));
    }
    let labels = |pod: &Pod| pod.metadata.labels.clone().unwrap_or_default();
    let claims = |pod: &Pod| {
        pod.status
            .as_ref()
            .and_then(|s| s.resource_claim_statuses.clone())
            .unwrap_or_default()
    };
    let (before, after) = (&old.metadata, &new.metadata);
    for (what, same) in [
        ("labels", labels(old) == labels(new)),
        ("resource claim statuses", claims(old) == claims(new)),
        (
            "owner references",
            equal(&before.owner_references, &after.owner_references),
        ),
        ("finalizers", equal(&before.finalizers, &after.finalizers)),
    ] {
        if !same {
            return Err(Violation::PodStatus {
                node: node.to_owned(),
                what,
            });
        }
    }
    Ok(())
}

/// A write to a subresource of pods, or an update of a pod itself, for which there is no other rule.
#[must_use]
pub fn pod_subresource(node: &str, subresource: &str) -> Violation {
    if subresource.is_empty() {
        Violation::PodOperation {
            node: node.to_owned(),
            operation: "UPDATE",
        }
    } else {
        Violation::PodSubresource(subresource.to_owned())
    }
}
