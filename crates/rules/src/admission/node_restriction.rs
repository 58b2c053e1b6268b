//! The NodeRestriction plugin: what a node may write of what its role allows, which is itself and its own pods.
//!
//! The rules are those of the stock plugin in 1.36, over decoded objects. They are asked on every write by a node, with
//! the objects as they will be stored; a write that no rule here knows is refused by [`pod_subresource`].
//!
//! Stricter than stock, because no node agent needs it: a node does not change the owner references or finalizers of
//! its Node and its pods, and asks for tokens that live at most as long as the pod asks for.

mod node;
mod objects;
mod pod;
mod references;
#[cfg(test)]
mod tests;
mod token;

use thiserror::Error;

pub use node::{create_node, modify_node, update_node};
pub use objects::{csi_node, lease};
pub use pod::{MIRROR_POD, create_pod, delete_pod, evict_pod, pod_subresource, update_pod_status};
pub use references::{References, references};
pub use token::{TokenQuestion, create_token};

/// The group of nodes.
pub const NODES_GROUP: &str = "system:nodes";
/// What the user names of nodes begin with.
pub const NODE_USER_PREFIX: &str = "system:node:";
/// The namespace of the nodes' leases.
pub const LEASE_NAMESPACE: &str = "kube-node-lease";

/// Which node a user is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity<'a> {
    /// None. The group alone makes nobody a node: it takes the name `system:node:NAME` as well.
    Other,
    /// One that can't be told: the user is named `system:node:`.
    Unnamed,
    /// This one.
    Node(&'a str),
}

/// Which node the user with this name and these groups is.
#[must_use]
pub fn identity<'a>(user: &'a str, groups: &[String]) -> Identity<'a> {
    match user.strip_prefix(NODE_USER_PREFIX) {
        Some(name) if groups.iter().any(|group| group == NODES_GROUP) => {
            if name.is_empty() {
                Identity::Unnamed
            } else {
                Identity::Node(name)
            }
        }
        Some(_) | None => Identity::Other,
    }
}

/// Why a node's write is refused; each is a 403 whose message is `pods "name" is forbidden: ` and this.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Violation {
    /// The user is a node without a name.
    #[error("could not determine node from user {0:?}")]
    Unnamed(String),
    /// Not a mirror pod.
    #[error("pod does not have {MIRROR_POD:?} annotation, node {0:?} can only create mirror pods")]
    NotMirror(String),
    /// A pod for another node.
    #[error("node {0:?} can only create pods with spec.nodeName set to itself")]
    PodForOther(String),
    /// Two owners or more.
    #[error("node {0:?} can only create pods with a single owner reference set to itself")]
    ManyOwners(String),
    /// No owner, or another one.
    #[error("node {0:?} can only create pods with an owner reference set to itself")]
    OtherOwner(String),
    /// The owner is not the controller.
    #[error("node {0:?} can only create pods with a controller owner reference set to itself")]
    NoController(String),
    /// The pod would keep its Node from being deleted.
    #[error("node {0:?} must not set blockOwnerDeletion on an owner reference")]
    BlocksDeletion(String),
    /// The Node is not registered.
    #[error("error looking up node {0} to verify uid: node {0:?} not found")]
    NotRegistered(String),
    /// The owner is an older Node of the same name.
    #[error("node {node} UID mismatch: expected {given} got {registered}")]
    OwnerUid {
        /// The node.
        node: String,
        /// The uid of the owner reference.
        given: String,
        /// The uid of the Node.
        registered: String,
    },
    /// A mirror pod that would give the node a right to read something.
    #[error("node {node:?} can not create pods that reference {what}")]
    References {
        /// The node.
        node: String,
        /// What is referenced.
        what: &'static str,
    },
    /// A change of a pod other than by its status.
    #[error(
        "unexpected operation {operation:?}, node {node:?} can only create and delete mirror pods"
    )]
    PodOperation {
        /// The node.
        node: String,
        /// The operation.
        operation: &'static str,
    },
    /// A subresource of pods that nodes have no business with.
    #[error("unexpected pod subresource {0:?}, only 'status' and 'eviction' are allowed")]
    PodSubresource(String),
    /// The deletion of another node's pod.
    #[error("node {0:?} can only delete pods with spec.nodeName set to itself")]
    DeletesOther(String),
    /// The status of another node's pod.
    #[error("node {0:?} can only update pod status for pods with spec.nodeName set to itself")]
    StatusOfOther(String),
    /// The eviction of another node's pod.
    #[error("node {0} can only evict pods with spec.nodeName set to itself")]
    EvictsOther(String),
    /// Metadata that goes with the status.
    #[error("node {node:?} cannot update {what} through pod status")]
    PodStatus {
        /// The node.
        node: String,
        /// What changed.
        what: &'static str,
    },
    /// Another Node.
    #[error("node {node:?} is not allowed to modify node {other:?}")]
    OtherNode {
        /// The node.
        node: String,
        /// The Node.
        other: String,
    },
    /// Labels that steer pods, at registration.
    #[error("node {node:?} is not allowed to set the following labels: {labels}")]
    RegistersLabels {
        /// The node.
        node: String,
        /// Their keys.
        labels: String,
    },
    /// Labels that steer pods.
    #[error("is not allowed to modify labels: {0}")]
    ModifiesLabels(String),
    /// The rest of the Node that is for administrators.
    #[error("node {node:?} is not allowed to modify {what}")]
    ModifiesNode {
        /// The node.
        node: String,
        /// The field.
        what: &'static str,
    },
    /// A configuration that would widen what the node reads.
    #[error("node {0:?} is not allowed to set a non-nil configSource")]
    ConfigSource(String),
    /// A token that nothing limits.
    #[error("node requested token not bound to a pod")]
    Unbound,
    /// A token for whatever pod has the name.
    #[error("node requested token with a pod binding without a uid")]
    BoundWithoutUid,
    /// A token for a pod that is not there.
    #[error("node requested token bound to pod {0:?}, which does not exist")]
    BoundToNothing(String),
    /// A token for an older pod of the name.
    #[error(
        "the UID in the bound object reference ({0}) does not match the UID in record. The object might have been deleted and then recreated"
    )]
    BoundUid(String),
    /// A token for another node's pod.
    #[error("node requested token bound to a pod scheduled on a different node")]
    BoundElsewhere,
    /// A token of an account that the pod does not run as.
    #[error(
        "node requested token of serviceaccount {account:?} bound to a pod that runs as {runs_as:?}"
    )]
    OtherAccount {
        /// The account that is asked for.
        account: String,
        /// The pod's.
        runs_as: String,
    },
    /// A token for several audiences.
    #[error("node may only request 0 or 1 audiences")]
    ManyAudiences,
    /// A token for an audience that the pod does not name.
    #[error(
        "audience {audience:?} not found in pod spec volume, {user} is not authorized to request tokens for this audience"
    )]
    Audience {
        /// The audience.
        audience: String,
        /// The node's user name.
        user: String,
    },
    /// A token that lives longer than the pod asks for.
    #[error(
        "node requested token that is valid for {asked} seconds, the pod asks for at most {most}"
    )]
    Outlives {
        /// Seconds that the node asks for.
        asked: i64,
        /// Seconds that the pod asks for.
        most: i64,
    },
    /// A lease elsewhere.
    #[error("can only access leases in the {LEASE_NAMESPACE:?} system namespace")]
    LeaseNamespace,
    /// Another node's lease.
    #[error("can only access node lease with the same name as the requesting node")]
    OtherLease,
    /// Another node's CSINode.
    #[error("can only access CSINode with the same name as the requesting node")]
    OtherCsiNode,
}
