//! The pod of a DaemonSet for a node.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec};
use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod,
    Toleration,
};

use crate::owner::controller_reference;
use crate::revision::REVISION_HASH;
use crate::template::pod_of;

/// What all daemon pods tolerate: the node's own troubles don't drive them away.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
/// And those in the node's network, which start before the pods' network is there.
const NETWORK: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");
const NAME_FIELD: &str = "metadata.name";
const TEMPLATE_GENERATION: &str = "pod-template-generation";
const GENERATION_ANNOTATION: &str = "deprecated.daemonset.template.generation";

/// A pod as it would be on any node.
pub(super) fn model(set: &DaemonSet, spec: &DaemonSetSpec) -> Pod {
    let owner = controller_reference::<DaemonSet>(&set.metadata);
    let mut pod = pod_of(&spec.template, owner);
    let spec = pod.spec.get_or_insert_default();
    let in_host_network = spec.host_network == Some(true);
    let tolerations = spec.tolerations.get_or_insert_default();
    let network = in_host_network.then_some(NETWORK);
    for (key, effect) in TOLERATED.into_iter().chain(network) {
        let toleration = Toleration {
            key: Some(key.to_owned()),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
    pod
}

/// The pod for one node: the scheduler puts it there by its node affinity.
pub(super) fn new(set: &DaemonSet, spec: &DaemonSetSpec, hash: &str, node: &str) -> Pod {
    let mut pod = model(set, spec);
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(REVISION_HASH.to_owned(), hash.to_owned());
    let annotations = set.metadata.annotations.as_ref();
    if let Some(generation) = annotations.and_then(|a| a.get(GENERATION_ANNOTATION)) {
        labels.insert(TEMPLATE_GENERATION.to_owned(), generation.clone());
    }
    let by_name = NodeSelectorRequirement {
        key: NAME_FIELD.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let spec = pod.spec.get_or_insert_default();
    let affinity: &mut Affinity = spec.affinity.get_or_insert_default();
    let affinity: &mut NodeAffinity = affinity.node_affinity.get_or_insert_default();
    let selector: &mut NodeSelector = affinity
        .required_during_scheduling_ignored_during_execution
        .get_or_insert_default();
    // The terms of the template have chosen the node already.
    selector.node_selector_terms = vec![NodeSelectorTerm {
        match_fields: Some(vec![by_name]),
        match_expressions: None,
    }];
    pod
}

/// The node that a pod is on, or is meant for.
pub(super) fn target(pod: &Pod) -> Option<&str> {
    let spec = pod.spec.as_ref()?;
    if let Some(name) = spec.node_name.as_deref().filter(|name| !name.is_empty()) {
        return Some(name);
    }
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity
        .required_during_scheduling_ignored_during_execution
        .as_ref()?;
    let mut fields = required
        .node_selector_terms
        .iter()
        .flat_map(|term| term.match_fields.iter().flatten());
    let by_name = fields.find(|field| field.key == NAME_FIELD && field.operator == "In")?;
    match by_name.values.as_deref()? {
        [name] => Some(name),
        _ => None,
    }
}

/// Those that run come first, and of them the oldest.
pub(super) fn age(pod: &Pod) -> (bool, Option<Timestamp>, Option<String>) {
    let has_node = pod.spec.as_ref().is_some_and(|s| s.node_name.is_some());
    let created = pod.metadata.creation_timestamp.as_ref().map(|t| t.0);
    (!has_node, created, pod.metadata.name.clone())
}
