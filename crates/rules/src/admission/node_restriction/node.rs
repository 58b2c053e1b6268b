//! Nodes: a node writes its own, without what administrators steer pods by.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Node;

use super::Violation;

/// Labels of Kubernetes' own domains that a node may set on itself.
const KUBELET_LABELS: [&str; 11] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];
/// Domains whose labels a node may set on itself.
const KUBELET_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];
/// Domain of the labels that nodes must not set, so that pods can be kept to nodes that somebody else has chosen.
const RESTRICTED_DOMAIN: &str = "node-restriction.kubernetes.io";
const KUBERNETES_DOMAINS: [&str; 2] = ["kubernetes.io", "k8s.io"];

/// Any write of a Node (or of a subresource of one) by a node.
///
/// # Errors
/// For a Node of another name.
pub fn modify_node(node: &str, name: &str) -> Result<(), Violation> {
    if name == node {
        return Ok(());
    }
    Err(Violation::OtherNode {
        node: node.to_owned(),
        other: name.to_owned(),
    })
}

/// The addresses of a node's pods: who gives them out must not find them taken by a node's own word.
fn cidrs(node: &Node) -> (Option<&str>, &[String]) {
    let spec = node.spec.as_ref();
    let one = spec.and_then(|spec| spec.pod_cidr.as_deref());
    let all = spec.and_then(|spec| spec.pod_cidrs.as_deref());
    (one, all.unwrap_or_default())
}

/// The registration of a node.
///
/// # Errors
/// For another name, and for what administrators set.
pub fn create_node(node: &str, new: &Node) -> Result<(), Violation> {
    modify_node(node, new.metadata.name.as_deref().unwrap_or_default())?;
    if new.spec.as_ref().is_some_and(|s| s.config_source.is_some()) {
        return Err(Violation::ConfigSource(node.to_owned()));
    }
    for (what, set) in [
        (
            "metadata.ownerReferences",
            has(new.metadata.owner_references.as_ref()),
        ),
        ("metadata.finalizers", has(new.metadata.finalizers.as_ref())),
        ("spec.podCIDRs", cidrs(new) != (None, &[])),
    ] {
        if set {
            return Err(Violation::ModifiesNode {
                node: node.to_owned(),
                what,
            });
        }
    }
    let forbidden = forbidden_labels(new.metadata.labels.as_ref(), None);
    if forbidden.is_empty() {
        return Ok(());
    }
    Err(Violation::RegistersLabels {
        node: node.to_owned(),
        labels: forbidden,
    })
}

/// A change of a Node or of its status.
///
/// # Errors
/// For another name, and for a change of what administrators set.
pub fn update_node(node: &str, old: &Node, new: &Node) -> Result<(), Violation> {
    modify_node(node, old.metadata.name.as_deref().unwrap_or_default())?;
    let source = |n: &Node| n.spec.as_ref().and_then(|s| s.config_source.clone());
    if source(new).is_some() && source(new) != source(old) {
        return Err(Violation::ConfigSource(node.to_owned()));
    }
    let taints = |n: &Node| {
        n.spec
            .as_ref()
            .and_then(|s| s.taints.clone())
            .unwrap_or_default()
    };
    let (before, after) = (&old.metadata, &new.metadata);
    for (what, same) in [
        ("taints", taints(old) == taints(new)),
        ("spec.podCIDRs", cidrs(old) == cidrs(new)),
        (
            "metadata.ownerReferences",
            equal(&before.owner_references, &after.owner_references),
        ),
        (
            "metadata.finalizers",
            equal(&before.finalizers, &after.finalizers),
        ),
    ] {
        if !same {
            return Err(Violation::ModifiesNode {
                node: node.to_owned(),
                what,
            });
        }
    }
    let forbidden = forbidden_labels(after.labels.as_ref(), before.labels.as_ref());
    if forbidden.is_empty() {
        return Ok(());
    }
    Err(Violation::ModifiesLabels(forbidden))
}

fn has<T>(list: Option<&Vec<T>>) -> bool {
    list.is_some_and(|list| !list.is_empty())
}

/// Whether two lists are equal, an absent one counting as empty.
pub(super) fn equal<T: PartialEq>(left: &Option<Vec<T>>, right: &Option<Vec<T>>) -> bool {
    left.as_deref().unwrap_or_default() == right.as_deref().unwrap_or_default()
}

/// The keys of labels that differ and that a node must leave alone, sorted and joined.
fn forbidden_labels(
    new: Option<&BTreeMap<String, String>>,
    old: Option<&BTreeMap<String, String>>,
) -> String {
    let empty = BTreeMap::new();
    let (new, old) = (new.unwrap_or(&empty), old.unwrap_or(&empty));
    let keys: BTreeSet<&str> = new.keys().chain(old.keys()).map(String::as_str).collect();
    keys.into_iter()
        .filter(|key| new.get(*key) != old.get(*key) && is_forbidden(key))
        .collect::<Vec<_>>()
        .join(", ")
}

fn is_forbidden(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let within = |of: &str| {
        domain == of
            || domain
                .strip_suffix(of)
                .is_some_and(|rest| rest.ends_with('.'))
    };
    if within(RESTRICTED_DOMAIN) {
        return true;
    }
    let known = KUBELET_LABELS.contains(&key) || KUBELET_DOMAINS.into_iter().any(within);
    KUBERNETES_DOMAINS.into_iter().any(within) && !known
}
