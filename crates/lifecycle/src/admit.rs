//! May this pod run on this node at all? Reasons and messages as the stock kubelet gives them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

use super::problem::Problem;

/// One resource of the node, in its smallest unit (millicores, bytes, pieces).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// The resource's name.
    pub name: String,
    /// What the pod asks for.
    pub requested: i64,
    /// What the other pods ask for.
    pub used: i64,
    /// What the node can give.
    pub capacity: i64,
}

/// What the node and its runtime can do beyond the usual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// `supplementalGroupsPolicy: Strict` has its effect.
    pub strict_groups: bool,
    /// `hostUsers: false` has its effect.
    pub user_namespaces: bool,
}

/// Refuses a pod that does not fit, does not belong on this node, is for another OS, or asks for
/// what would silently have no effect here.
pub fn admit(
    pod: &Pod,
    labels: &BTreeMap<String, String>,
    room: &[Room],
    can: Abilities,
) -> Result<(), Problem> {
    let spec = pod.spec.as_ref();
    let strict = spec
        .and_then(|s| s.security_context.as_ref())
        .and_then(|s| s.supplemental_groups_policy.as_deref())
        == Some("Strict");
    if strict && !can.strict_groups {
        return Err(Problem::new(
            "SupplementalGroupsPolicyNotSupported",
            "SupplementalGroupsPolicy=Strict is not supported in this node",
        ));
    }
    if spec.and_then(|s| s.host_users) == Some(false) && !can.user_namespaces {
        return Err(Problem::new(
            "UserNamespacesNotSupported",
            "hostUsers: false is not supported in this node",
        ));
    }
    if let Some(os) = spec.and_then(|s| s.os.as_ref())
        && os.name != "linux"
    {
        return Err(Problem::new(
            "PodOSNotSupported",
            "Failed to admit pod as the OS field doesn't match node OS",
        ));
    }
    for (key, value) in spec.iter().flat_map(|s| s.node_selector.iter().flatten()) {
        if labels.get(key) != Some(value) {
            return Err(Problem::new(
                "NodeAffinity",
                "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
            ));
        }
    }
    for r in room {
        if r.requested > 0 && r.used + r.requested > r.capacity {
            return Err(Problem::new(
                format!("OutOf{}", r.name),
                format!(
                    "Node didn't have enough resource: {}, requested: {}, used: {}, capacity: {}",
                    r.name, r.requested, r.used, r.capacity
                ),
            ));
        }
    }
    Ok(())
}
