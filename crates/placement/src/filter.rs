//! Why a pod can't run on a node.

use std::fmt;

use k8s_openapi::api::core::v1::{Pod, Taint};

use super::affinity::matches_node_selector;
use super::info::{HostPort, NodeInfo, PodInfo};
use berth_core::toleration::first_untolerated;

/// One reason, worded as the stock scheduler does where it knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The node is cordoned.
    Unschedulable,
    /// The pod asks for another node by name.
    OtherName,
    /// The node has a taint that the pod doesn't tolerate: its key and value.
    Tainted(String, String),
    /// Labels don't match.
    Selector,
    /// A host port is taken.
    Ports,
    /// The node has as many pods as it takes.
    TooManyPods,
    /// Too little of a resource is left.
    Insufficient(String),
    /// The node's container runtime lacks the class's handler.
    NoHandler(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unschedulable => f.write_str("node(s) were unschedulable"),
            Self::OtherName => f.write_str("node(s) didn't match the requested node name"),
            Self::Tainted(key, value) => {
                write!(f, "node(s) had untolerated taint {{{key}: {value}}}")
            }
            Self::Selector => f.write_str("node(s) didn't match Pod's node affinity/selector"),
            Self::Ports => {
                f.write_str("node(s) didn't have free ports for the requested pod ports")
            }
            Self::TooManyPods => f.write_str("Too many pods"),
            Self::Insufficient(resource) => write!(f, "Insufficient {resource}"),
            Self::NoHandler(handler) => write!(f, "node(s) lack runtime handler {handler:?}"),
        }
    }
}

/// What the handler of the pod's class means for the choice of nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandlerRule {
    /// Nothing: no class, the setting is off, or no node in the cluster has the handler.
    Any,
    /// Nodes that report handlers must report this one.
    Need(String),
}

impl HandlerRule {
    /// The rule for a handler among these nodes: it binds while at least one of them has it.
    pub fn among<'a>(handler: Option<&str>, nodes: impl IntoIterator<Item = &'a NodeInfo>) -> Self {
        match handler.filter(|handler| !handler.is_empty()) {
            Some(handler)
                if nodes
                    .into_iter()
                    .any(|node| node.has_handler(handler) == Some(true)) =>
            {
                Self::Need(handler.to_owned())
            }
            Some(_) | None => Self::Any,
        }
    }
}

/// Why the pod can't run on the node now; empty when it can. As in the stock scheduler, the first check that
/// fails speaks, with all it has to say.
#[must_use]
pub fn filter(pod: &PodInfo, node: &NodeInfo, handler: &HandlerRule) -> Vec<Reason> {
    if let Some(reason) = placement(&pod.pod, node) {
        return vec![reason];
    }
    if let HandlerRule::Need(name) = handler
        && node.has_handler(name) == Some(false)
    {
        return vec![Reason::NoHandler(name.clone())];
    }
    if pod
        .host_ports
        .iter()
        .any(|wanted| node.host_ports.keys().any(|port| clash(wanted, port)))
    {
        return vec![Reason::Ports];
    }
    fit(pod, node)
}

/// Why the pod can't go onto the node whatever runs there: name, cordon, taints, labels.
#[must_use]
pub fn placement(pod: &Pod, node: &NodeInfo) -> Option<Reason> {
    let spec = pod.spec.as_ref();
    let tolerations = spec
        .and_then(|spec| spec.tolerations.as_deref())
        .unwrap_or_default();
    let node_spec = node.node.spec.as_ref();
    let cordon = Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    if node_spec
        .and_then(|spec| spec.unschedulable)
        .unwrap_or(false)
        && first_untolerated(std::slice::from_ref(&cordon), tolerations, |_| true).is_some()
    {
        return Some(Reason::Unschedulable);
    }
    let asked = spec
        .and_then(|spec| spec.node_name.as_deref())
        .unwrap_or_default();
    if !asked.is_empty() && Some(asked) != node.node.metadata.name.as_deref() {
        return Some(Reason::OtherName);
    }
    let taints = node_spec
        .and_then(|spec| spec.taints.as_deref())
        .unwrap_or_default();
    let binding = |taint: &Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
    if let Some(taint) = first_untolerated(taints, tolerations, binding) {
        let value = taint.value.clone().unwrap_or_default();
        return Some(Reason::Tainted(taint.key.clone(), value));
    }
    (!matches_node_selector(pod, &node.node)).then_some(Reason::Selector)
}

fn clash(one: &HostPort, other: &HostPort) -> bool {
    let any = |address: &str| address == "0.0.0.0" || address == "::";
    one.2 == other.2 && one.1 == other.1 && (any(&one.0) || any(&other.0) || one.0 == other.0)
}

fn fit(pod: &PodInfo, node: &NodeInfo) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let room = |name: &str| node.allocatable.get(name).copied().unwrap_or(0);
    if node.allocatable.contains_key("pods") && node.pods >= room("pods") {
        reasons.push(Reason::TooManyPods);
    }
    for (name, wanted) in &pod.requests {
        let taken = node.taken.get(name).copied().unwrap_or(0);
        if *wanted > 0 && wanted.saturating_add(taken) > room(name) {
            reasons.push(Reason::Insufficient(name.clone()));
        }
    }
    reasons
}
