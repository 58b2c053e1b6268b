//! Which pods of lower priority make room for a pod that fits nowhere.
//!
//! On a node all pods of lower priority are taken away; where the pod fits then, as many as possible come back, those that a
//! budget protects first, then those of higher priority. Of several nodes that one is taken where least is lost. A pod of the
//! same or of higher priority is never a victim.

use std::cmp::Reverse;

use berth_core::selector::{is_empty, label_selector_matches};
use jiff::Timestamp;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use super::around::Surroundings;
use super::filter::{HandlerRule, filter_beside};
use super::info::{NodeInfo, PodInfo};

/// Of fewer nodes all are tried.
const FEWEST: usize = 100;
/// Of more nodes so many hundredths.
const PERCENT: usize = 10;

/// How many nodes with victims are enough to choose from, of so many that could help.
#[must_use]
pub fn enough_candidates(nodes: usize) -> usize {
    (nodes * PERCENT / 100).max(FEWEST).min(nodes)
}

/// The victims on a node, the most important first.
#[derive(Debug)]
pub struct Victims<'c> {
    /// The pods.
    pub pods: Vec<&'c PodInfo>,
    /// How many of them a budget would have protected.
    pub violations: usize,
}

/// Whether the pod may take the place of others at all.
#[must_use]
pub fn may_preempt(pod: &PodInfo) -> bool {
    let spec = pod.pod.spec.as_ref();
    spec.and_then(|spec| spec.preemption_policy.as_deref()) != Some("Never")
}

/// The pods that have to leave the node so that the pod fits; none where that doesn't help.
#[must_use]
pub fn victims<'c>(
    pod: &PodInfo,
    node: &'c NodeInfo,
    handler: &HandlerRule,
    around: &Surroundings<'c>,
    promised: &[&'c PodInfo],
    budgets: &[&PodDisruptionBudget],
) -> Option<Victims<'c>> {
    let priority = pod.priority();
    let mut lower: Vec<&'c PodInfo> = node
        .placed
        .iter()
        .filter(|other| other.priority() < priority)
        .collect();
    if lower.is_empty() {
        return None;
    }
    lower.sort_by_key(|other| importance(other));
    let mut now = Trial {
        node,
        left: node.clone(),
        around: around.clone(),
    };
    for other in &lower {
        now.take(other);
    }
    let fits = |trial: &Trial<'c>| trial.takes(pod, handler, promised);
    if !fits(&now) {
        return None;
    }
    let (protected, free) = by_budget(&lower, budgets);
    let mut all = Victims {
        pods: Vec::new(),
        violations: 0,
    };
    for (others, violates) in [(protected, true), (free, false)] {
        for other in others {
            now.give_back(other);
            if !fits(&now) {
                now.take(other);
                all.pods.push(other);
                all.violations += usize::from(violates);
            }
        }
    }
    all.pods.sort_by_key(|other| importance(other));
    (!all.pods.is_empty()).then_some(all)
}

/// A node with fewer pods.
struct Trial<'c> {
    node: &'c NodeInfo,
    left: NodeInfo,
    around: Surroundings<'c>,
}

impl<'c> Trial<'c> {
    fn take(&mut self, pod: &'c PodInfo) {
        self.left.remove(pod);
        self.around.count(pod, self.node, -1);
    }

    fn give_back(&mut self, pod: &'c PodInfo) {
        self.left.add(pod);
        self.around.count(pod, self.node, 1);
    }

    fn takes(&self, pod: &PodInfo, handler: &HandlerRule, promised: &[&PodInfo]) -> bool {
        let (left, around) = (&self.left, &self.around);
        filter_beside(pod, left, handler, around, promised).is_empty()
    }
}

/// Higher priority first, then who has run longer.
fn importance(pod: &PodInfo) -> (Reverse<i32>, Timestamp) {
    (Reverse(pod.priority()), started(pod))
}

fn started(pod: &PodInfo) -> Timestamp {
    let status = pod.pod.status.as_ref();
    let start = status.and_then(|status| status.start_time.as_ref());
    start.map_or(Timestamp::MAX, |start| start.0)
}

/// Those that a budget protects, and the others: in order, each budget lets as many go as it allows now.
fn by_budget<'c>(
    pods: &[&'c PodInfo],
    budgets: &[&PodDisruptionBudget],
) -> (Vec<&'c PodInfo>, Vec<&'c PodInfo>) {
    let mut allowed: Vec<i32> = budgets
        .iter()
        .map(|budget| {
            let status = budget.status.as_ref();
            status.and_then(|s| s.disruptions_allowed).unwrap_or(0)
        })
        .collect();
    pods.iter().partition(|pod| {
        let meta = &pod.pod.metadata;
        let mut violates = false;
        for (budget, allowed) in budgets.iter().zip(&mut allowed) {
            let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            let means = budget.metadata.namespace == meta.namespace
                && selector.is_some_and(|selector| {
                    !is_empty(selector) && label_selector_matches(selector, meta.labels.as_ref())
                });
            let status = budget.status.as_ref();
            let disrupted = status.and_then(|status| status.disrupted_pods.as_ref());
            let name = meta.name.as_deref().unwrap_or_default();
            if !means || disrupted.is_some_and(|all| all.contains_key(name)) {
                continue;
            }
            *allowed -= 1;
            violates |= *allowed < 0;
        }
        violates
    })
}

/// The candidate where least is lost: the fewest budgets violated, then the lowest among the highest priorities of victims,
/// then the lowest sum of priorities, then the fewest victims, then those that have run for the shortest time.
#[must_use]
pub fn pick(candidates: &[Victims<'_>]) -> Option<usize> {
    let loss = |victims: &Victims<'_>| {
        let highest = victims.pods.iter().map(|pod| pod.priority()).max();
        // Counted from the lowest there is, so that several of a negative priority are more than one.
        let sum: i64 = victims
            .pods
            .iter()
            .map(|pod| i64::from(pod.priority()) + i64::from(i32::MAX) + 1)
            .sum();
        let most_important = victims
            .pods
            .iter()
            .filter(|pod| Some(pod.priority()) == highest);
        let earliest = most_important.map(|pod| started(pod)).min();
        let lost = (victims.violations, highest, sum, victims.pods.len());
        (lost, Reverse(earliest))
    };
    let all = candidates.iter().enumerate();
    all.min_by_key(|(_, victims)| loss(victims))
        .map(|(at, _)| at)
}
