//! Leases and CSINodes: a node has one of each, under its own name.

use super::{LEASE_NAMESPACE, Violation};

/// A write of a Lease by a node; at creation, the name is that of the object.
///
/// # Errors
/// Unless it is the node's own.
pub fn lease(node: &str, namespace: &str, name: &str) -> Result<(), Violation> {
    if namespace != LEASE_NAMESPACE {
        return Err(Violation::LeaseNamespace);
    }
    if name != node {
        return Err(Violation::OtherLease);
    }
    Ok(())
}

/// A write of a CSINode by a node; at creation, the name is that of the object.
///
/// # Errors
/// Unless it is the node's own.
pub fn csi_node(node: &str, name: &str) -> Result<(), Violation> {
    if name == node {
        Ok(())
    } else {
        Err(Violation::OtherCsiNode)
    }
}
