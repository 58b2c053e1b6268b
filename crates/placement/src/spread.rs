//! Topology spread constraints (KEP-895, 3022, 3094, 3243).

mod siblings;

pub use siblings::siblings_of;

use std::collections::HashMap;

use berth_core::selector::label_selector_matches;
use berth_core::toleration::first_untolerated;
use k8s_openapi::api::core::v1::{Pod, Taint, TopologySpreadConstraint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use super::affinity::matches_node_selector;
use super::info::{NodeInfo, PodInfo};
use super::reason::Reason;

const HOSTNAME: &str = "kubernetes.io/hostname";
/// What is preferred for a pod without constraints, as the stock scheduler has it: the label, and how many more pods of
/// its kind one place may have than another.
const DEFAULTS: [(&str, i64); 2] = [(HOSTNAME, 3), ("topology.kubernetes.io/zone", 5)];

/// One constraint, and how many pods each of its places has.
#[derive(Clone, Debug)]
struct Constraint<'c> {
    key: &'c str,
    max_skew: i64,
    min_domains: i64,
    selector: Option<LabelSelector>,
    honor_affinity: bool,
    honor_taints: bool,
    /// The pod itself is counted, too.
    counts_itself: bool,
    places: HashMap<&'c str, i64>,
    /// The fewest that a place has.
    fewest: i64,
}

/// The constraints of one pod of one kind.
#[derive(Clone, Debug)]
pub(super) struct Spread<'c> {
    pod: &'c Pod,
    constraints: Vec<Constraint<'c>>,
    /// They are those that hold for every pod: all have the same selector, and a node needs not have all labels.
    default: bool,
}

impl<'c> Constraint<'c> {
    fn of(constraint: &'c TopologySpreadConstraint, pod: &Pod) -> Self {
        let selector = with_label_keys(constraint, pod);
        let counts_itself = selector
            .as_ref()
            .is_some_and(|selector| label_selector_matches(selector, pod.metadata.labels.as_ref()));
        Self {
            key: &constraint.topology_key,
            max_skew: i64::from(constraint.max_skew),
            min_domains: i64::from(constraint.min_domains.unwrap_or(1)),
            selector,
            honor_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honor_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
            counts_itself,
            places: HashMap::new(),
            fewest: 0,
        }
    }

    /// One that holds for every pod.
    fn for_every_pod(key: &'c str, max_skew: i64, siblings: &LabelSelector) -> Self {
        Self {
            key,
            max_skew,
            min_domains: 1,
            selector: Some(siblings.clone()),
            honor_affinity: true,
            honor_taints: false,
            counts_itself: true,
            places: HashMap::new(),
            fewest: 0,
        }
    }

    /// Whether the node's place counts for this pod.
    fn includes(&self, node: &NodeInfo, pod: &Pod) -> bool {
        (!self.honor_affinity || matches_node_selector(pod, &node.node))
            && (!self.honor_taints || tolerates_taints(pod, node))
    }

    fn counts(&self, other: &Pod, pod: &Pod) -> bool {
        other.metadata.deletion_timestamp.is_none()
            && other.metadata.namespace == pod.metadata.namespace
            && self.selector.as_ref().is_some_and(|selector| {
                label_selector_matches(selector, other.metadata.labels.as_ref())
            })
    }

    fn find_fewest(&mut self) {
        let places = i64::try_from(self.places.len()).unwrap_or(i64::MAX);
        self.fewest = if places < self.min_domains {
            0
        } else {
            self.places.values().copied().min().unwrap_or(0)
        };
    }
}

/// The selector, narrowed by what the pod has under `matchLabelKeys`.
fn with_label_keys(constraint: &TopologySpreadConstraint, pod: &Pod) -> Option<LabelSelector> {
    let mut selector = constraint.label_selector.clone()?;
    let labels = pod.metadata.labels.as_ref();
    for key in constraint.match_label_keys.iter().flatten() {
        if let Some(value) = labels.and_then(|labels| labels.get(key)) {
            let expressions = selector.match_expressions.get_or_insert_default();
            expressions.push(LabelSelectorRequirement {
                key: key.clone(),
                operator: "In".to_owned(),
                values: Some(vec![value.clone()]),
            });
        }
    }
    Some(selector)
}

fn tolerates_taints(pod: &Pod, node: &NodeInfo) -> bool {
    let spec = pod.spec.as_ref();
    let tolerations = spec.and_then(|spec| spec.tolerations.as_deref());
    let taints = node
        .node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.as_deref());
    let binding = |taint: &Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
    first_untolerated(
        taints.unwrap_or_default(),
        tolerations.unwrap_or_default(),
        binding,
    )
    .is_none()
}

/// The pod's constraints of a kind (`DoNotSchedule`, `ScheduleAnyway`).
fn constraints<'c>(pod: &'c Pod, kind: &str) -> Vec<Constraint<'c>> {
    let spec = pod.spec.as_ref();
    let all = spec.and_then(|spec| spec.topology_spread_constraints.as_deref());
    all.unwrap_or_default()
        .iter()
        .filter(|one| one.when_unsatisfiable == kind)
        .map(|one| Constraint::of(one, pod))
        .collect()
}

impl<'c> Spread<'c> {
    /// Counts the pods of all nodes; none where the pod has no constraint that must hold.
    pub(super) fn of(pod: &'c PodInfo, nodes: &[&'c NodeInfo]) -> Option<Self> {
        Self::counted(
            &pod.pod,
            nodes,
            constraints(&pod.pod, "DoNotSchedule"),
            false,
        )
    }

    /// The same of what is only preferred: by the pod, or else for every pod.
    fn preferred(pod: &'c PodInfo, nodes: &[&'c NodeInfo]) -> Option<Self> {
        let Some(siblings) = &pod.siblings else {
            let own = constraints(&pod.pod, "ScheduleAnyway");
            return Self::counted(&pod.pod, nodes, own, false);
        };
        let defaults = DEFAULTS.map(|(key, skew)| Constraint::for_every_pod(key, skew, siblings));
        Self::counted(&pod.pod, nodes, defaults.into(), true)
    }

    fn counted(
        pod: &'c Pod,
        nodes: &[&'c NodeInfo],
        constraints: Vec<Constraint<'c>>,
        default: bool,
    ) -> Option<Self> {
        if constraints.is_empty() {
            return None;
        }
        let mut all = Self {
            pod,
            constraints,
            default,
        };
        for node in nodes {
            if !all.has_keys(node) {
                continue;
            }
            // With one selector for all the node's pods are gone through once.
            let mut counted = None;
            for constraint in &mut all.constraints {
                if let Some(value) = node.label(constraint.key)
                    && constraint.includes(node, pod)
                {
                    let count = counted.filter(|_| default).unwrap_or_else(|| {
                        let there = node.placed.iter();
                        let there = there.filter(|other| constraint.counts(&other.pod, pod));
                        i64::try_from(there.count()).unwrap_or(i64::MAX)
                    });
                    counted = Some(count);
                    *constraint.places.entry(value).or_default() += count;
                }
            }
        }
        for constraint in &mut all.constraints {
            constraint.find_fewest();
        }
        Some(all)
    }

    fn has_keys(&self, node: &NodeInfo) -> bool {
        let mut all = self.constraints.iter();
        self.default || all.all(|constraint| node.label(constraint.key).is_some())
    }

    /// A pod comes to the node (1) or leaves it (-1).
    pub(super) fn count(&mut self, other: &PodInfo, node: &'c NodeInfo, sign: i64) {
        if !self.has_keys(node) {
            return;
        }
        for constraint in &mut self.constraints {
            if let Some(value) = node.label(constraint.key)
                && constraint.counts(&other.pod, self.pod)
                && constraint.includes(node, self.pod)
            {
                *constraint.places.entry(value).or_default() += sign;
                constraint.find_fewest();
            }
        }
    }

    /// Why the node will not do.
    pub(super) fn refusal(&self, node: &NodeInfo) -> Option<Reason> {
        for constraint in &self.constraints {
            let Some(value) = node.label(constraint.key) else {
                return Some(Reason::SpreadLabel);
            };
            let there = constraint.places.get(value).copied().unwrap_or(0);
            let skew = there + i64::from(constraint.counts_itself) - constraint.fewest;
            if skew > constraint.max_skew {
                return Some(Reason::Spread);
            }
        }
        None
    }
}

/// How well each of the nodes spreads the pod, from 0 to `most`; a node without the labels that the pod names gets nothing.
pub(super) fn score(
    pod: &PodInfo,
    candidates: &[&NodeInfo],
    nodes: &[&NodeInfo],
    most: i64,
) -> Option<Vec<i64>> {
    let spread = Spread::preferred(pod, nodes)?;
    let with_keys = || candidates.iter().filter(|node| spread.has_keys(node));
    // Few places weigh less: each pod more in one of them tells less. The natural logarithm, in thousandths.
    let weights: Vec<i64> = spread
        .constraints
        .iter()
        .map(|constraint| {
            let places = if constraint.key == HOSTNAME {
                with_keys().count()
            } else {
                let mut values: Vec<_> =
                    with_keys().map(|node| node.label(constraint.key)).collect();
                values.sort_unstable();
                values.dedup();
                values.len()
            };
            thousandths_of_ln(places.saturating_add(2))
        })
        .collect();
    let raw: Vec<Option<i64>> = candidates
        .iter()
        .map(|node| {
            spread.has_keys(node).then(|| {
                let sum: i64 = spread
                    .constraints
                    .iter()
                    .zip(&weights)
                    .filter_map(|(constraint, weight)| {
                        let value = node.label(constraint.key)?;
                        let there = constraint.places.get(value).copied().unwrap_or(0);
                        Some(there * weight + (constraint.max_skew - 1) * 1000)
                    })
                    .sum();
                (sum + 500) / 1000
            })
        })
        .collect();
    let known = || raw.iter().flatten().copied();
    let (least, largest) = (known().min().unwrap_or(0), known().max().unwrap_or(0));
    Some(
        raw.iter()
            .map(|raw| match raw {
                None => 0,
                Some(_) if largest == 0 => most,
                Some(raw) => most.saturating_mul(largest + least - raw) / largest,
            })
            .collect(),
    )
}

/// The natural logarithm of a whole number, by its binary digits and what is left of them.
fn thousandths_of_ln(number: usize) -> i64 {
    const LN_2: i64 = 693;
    let number = i64::try_from(number).unwrap_or(i64::MAX / 2000).max(1);
    let digits = number.ilog2();
    let power = 1_i64 << digits;
    // Between two powers of two the logarithm is taken as a line.
    i64::from(digits) * LN_2 + (number - power) * LN_2 / power
}
