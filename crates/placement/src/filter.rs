//! Whether a pod can run on a node, and if not, why.

use std::sync::LazyLock;

use k8s_openapi::api::core::v1::{Pod, Taint};

use super::affinity::matches_node_selector;
use super::around::Surroundings;
use super::info::{HostPort, NodeInfo, PodInfo};
use super::numbers::Numbers;
use super::reason::Reason;
use berth_core::handlers::broken_reason;
use berth_core::isolation::{Isolation, NodeHandlers};
use berth_core::toleration::first_untolerated;

/// What the handler of the pod's class means for the choice of nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandlerRule {
    /// Nothing: no class, the setting is off, or no node in the cluster has the handler.
    Any,
    /// Nodes that report handlers must report this one.
    Need(String),
    /// The pod demands how far it is kept apart, whatever other rules are in force.
    Isolated(IsolationRule),
}

/// How far the handler of a pod's class must keep it apart from its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IsolationRule {
    /// The handler; empty for the node's default one.
    pub handler: String,
    /// What its class declares.
    pub declared: Option<Isolation>,
    /// What is demanded; none: that can't be read, so no node is good enough.
    pub minimum: Option<Isolation>,
}

impl IsolationRule {
    /// Whether a node keeps the pod apart enough.
    fn holds(&self, node: &NodeInfo) -> bool {
        let found = NodeHandlers::of(node.node()).isolation(&self.handler, self.declared);
        self.minimum.is_some_and(|minimum| {
            let declares_less = self.declared.is_some_and(|declared| declared < minimum);
            !declares_less && found.unwrap_or(Isolation::Process) >= minimum
        })
    }
}

impl HandlerRule {
    /// The rule for a handler: it binds while at least one node has it.
    pub fn of(handler: Option<&str>, is_there: impl FnOnce(&str) -> bool) -> Self {
        match handler.filter(|handler| !handler.is_empty()) {
            Some(handler) if is_there(handler) => Self::Need(handler.to_owned()),
            Some(_) | None => Self::Any,
        }
    }
}

/// Why the pod can't run on the node now; empty when it can. As in the stock scheduler, the first check that
/// fails speaks, with all it has to say.
#[must_use]
pub fn filter(
    pod: &PodInfo,
    node: &NodeInfo,
    handler: &HandlerRule,
    around: &Surroundings<'_>,
) -> Vec<Reason> {
    if let Some(reason) = placement(&pod.pod, node) {
        return vec![reason];
    }
    if let Some(handler) = lacking_handler(node, handler) {
        return vec![no_handler(node, handler)];
    }
    if let Some(rule) = too_weak(node, handler) {
        let minimum = rule.minimum.map_or("what can't be read", Isolation::as_str);
        return vec![Reason::WeakIsolation(rule.handler.clone(), minimum)];
    }
    if ports_clash(pod, node) {
        return vec![Reason::Ports];
    }
    let mut reasons = Vec::new();
    if is_full(node) {
        reasons.push(Reason::TooManyPods);
    }
    let nothing = Numbers::default();
    let never: Vec<&str> = pod.requests.lacking(&node.allocatable, &nothing).collect();
    let lacking = pod.requests.lacking(&node.allocatable, &node.taken);
    reasons.extend(lacking.map(|name| {
        let reason = if never.contains(&name) {
            Reason::NeverSufficient
        } else {
            Reason::Insufficient
        };
        reason(name.to_owned())
    }));
    reasons.sort();
    if reasons.is_empty() {
        reasons.extend(around.refusal(node));
    }
    reasons
}

/// Why a node that doesn't report a handler has none: with the reason, where it is configured and can't run.
#[must_use]
pub fn no_handler(node: &NodeInfo, handler: &str) -> Reason {
    match broken_reason(&node.node, handler) {
        Some(reason) => Reason::BrokenHandler(handler.to_owned(), reason),
        None => Reason::NoHandler(handler.to_owned()),
    }
}

/// Whether the pod can run on the node now: whether [`filter`] has nothing to say, without saying it.
#[must_use]
pub fn fits(
    pod: &PodInfo,
    node: &NodeInfo,
    handler: &HandlerRule,
    around: &Surroundings<'_>,
) -> bool {
    let mut lacking = pod.requests.lacking(&node.allocatable, &node.taken);
    !is_full(node)
        && lacking.next().is_none()
        && hindrance(&pod.pod, node).is_none()
        && lacking_handler(node, handler).is_none()
        && too_weak(node, handler).is_none()
        && !ports_clash(pod, node)
        && around.refusal(node).is_none()
}

/// As [`filter`], and also when the pods come that the node is promised to (`status.nominatedNodeName`): whoever they need
/// may not have come yet, so it has to fit without them, too.
#[must_use]
pub fn filter_beside<'c>(
    pod: &PodInfo,
    node: &'c NodeInfo,
    handler: &HandlerRule,
    around: &Surroundings<'c>,
    promised: &[&'c PodInfo],
) -> Vec<Reason> {
    if !promised.is_empty() {
        let (mut then, mut around) = (node.clone(), around.clone());
        for other in promised {
            then.add(other);
            around.count(other, node, 1);
        }
        let reasons = filter(pod, &then, handler, &around);
        if !reasons.is_empty() {
            return reasons;
        }
    }
    filter(pod, node, handler, around)
}

/// Why the pod can't go onto the node whatever runs there: name, cordon, taints, labels.
#[must_use]
pub fn placement(pod: &Pod, node: &NodeInfo) -> Option<Reason> {
    hindrance(pod, node).map(|hindrance| match hindrance {
        Hindrance::Unschedulable => Reason::Unschedulable,
        Hindrance::OtherName => Reason::OtherName,
        Hindrance::Tainted(taint) => {
            Reason::Tainted(taint.key.clone(), taint.value.clone().unwrap_or_default())
        }
        Hindrance::Selector => Reason::Selector,
    })
}

/// What keeps a pod from a node, not yet put into words.
enum Hindrance<'n> {
    Unschedulable,
    OtherName,
    Tainted(&'n Taint),
    Selector,
}

/// A cordoned node has this taint, be it written or not.
static CORDON: LazyLock<Taint> = LazyLock::new(|| Taint {
    key: "node.kubernetes.io/unschedulable".to_owned(),
    effect: "NoSchedule".to_owned(),
    ..Taint::default()
});

fn hindrance<'n>(pod: &Pod, node: &'n NodeInfo) -> Option<Hindrance<'n>> {
    let spec = pod.spec.as_ref();
    let tolerations = spec
        .and_then(|spec| spec.tolerations.as_deref())
        .unwrap_or_default();
    let node_spec = node.node.spec.as_ref();
    let cordon = std::slice::from_ref(&*CORDON);
    if node_spec
        .and_then(|spec| spec.unschedulable)
        .unwrap_or(false)
        && first_untolerated(cordon, tolerations, |_| true).is_some()
    {
        return Some(Hindrance::Unschedulable);
    }
    let asked = spec
        .and_then(|spec| spec.node_name.as_deref())
        .unwrap_or_default();
    if !asked.is_empty() && Some(asked) != node.node.metadata.name.as_deref() {
        return Some(Hindrance::OtherName);
    }
    let taints = node_spec
        .and_then(|spec| spec.taints.as_deref())
        .unwrap_or_default();
    let binding = |taint: &Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
    if let Some(taint) = first_untolerated(taints, tolerations, binding) {
        return Some(Hindrance::Tainted(taint));
    }
    (!matches_node_selector(pod, &node.node)).then_some(Hindrance::Selector)
}

fn lacking_handler<'r>(node: &NodeInfo, rule: &'r HandlerRule) -> Option<&'r str> {
    match rule {
        HandlerRule::Any => None,
        HandlerRule::Need(name) => (node.has_handler(name) == Some(false)).then_some(name),
        HandlerRule::Isolated(IsolationRule { handler, .. }) => {
            let lacks = !handler.is_empty() && node.has_handler(handler) == Some(false);
            lacks.then_some(handler)
        }
    }
}

fn too_weak<'r>(node: &NodeInfo, rule: &'r HandlerRule) -> Option<&'r IsolationRule> {
    match rule {
        HandlerRule::Any | HandlerRule::Need(_) => None,
        HandlerRule::Isolated(rule) => (!rule.holds(node)).then_some(rule),
    }
}

fn ports_clash(pod: &PodInfo, node: &NodeInfo) -> bool {
    pod.host_ports
        .iter()
        .any(|wanted| node.host_ports.keys().any(|port| clash(wanted, port)))
}

fn clash(one: &HostPort, other: &HostPort) -> bool {
    let any = |address: &str| address == "0.0.0.0" || address == "::";
    one.2 == other.2 && one.1 == other.1 && (any(&one.0) || any(&other.0) || one.0 == other.0)
}

fn is_full(node: &NodeInfo) -> bool {
    node.most_pods.is_some_and(|most| node.pods >= most)
}
