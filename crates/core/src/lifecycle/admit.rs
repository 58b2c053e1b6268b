//! May this pod run on this node at all? Reasons and messages as the stock kubelet gives them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

use super::status::Problem;

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

/// Refuses a pod that does not fit, does not belong on this node or is for another OS.
pub fn admit(pod: &Pod, labels: &BTreeMap<String, String>, room: &[Room]) -> Result<(), Problem> {
    let spec = pod.spec.as_ref();
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
