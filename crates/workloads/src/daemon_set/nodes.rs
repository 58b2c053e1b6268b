//! Which nodes a DaemonSet's pod belongs on.

use berth_core::toleration::first_untolerated;
use berth_placement::matches_node_selector;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};

/// What a node is to a DaemonSet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placement {
    /// It should have a pod.
    Runs,
    /// It gets none, but one that is there may stay: a taint keeps new pods away.
    Stays,
    /// It should have none.
    Never,
}

/// Judges a node for the pod that would be made for it.
pub(super) fn placement(model: &Pod, node: &Node) -> Placement {
    let spec = model.spec.as_ref();
    let asked = spec
        .and_then(|s| s.node_name.as_deref())
        .filter(|n| !n.is_empty());
    let is_other = asked.is_some_and(|name| node.metadata.name.as_deref() != Some(name));
    if is_other || !matches_node_selector(model, node) {
        return Placement::Never;
    }
    let tolerations = spec
        .and_then(|s| s.tolerations.as_deref())
        .unwrap_or_default();
    let taints = node
        .spec
        .as_ref()
        .and_then(|s| s.taints.as_deref())
        .unwrap_or_default();
    let is_hard = |taint: &Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
    if first_untolerated(taints, tolerations, is_hard).is_none() {
        return Placement::Runs;
    }
    match first_untolerated(taints, tolerations, |taint| taint.effect == "NoExecute") {
        Some(_) => Placement::Never,
        None => Placement::Stays,
    }
}
