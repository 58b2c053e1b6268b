//! Affinity and anti-affinity between pods.
//!
//! For one pod it is counted once, over all nodes, how many pods of each place (a label and its value) matter to it; each node
//! is then judged by its labels. Anti-affinity is symmetric: a pod that is there keeps those away that its terms mean.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::Pod;

use super::info::{NodeInfo, PodInfo};
use super::reason::Reason;
use super::term::{Namespaces, Terms};

/// What a pod that is there and requires this one near weighs, as in the stock scheduler (`hardPodAffinityWeight`).
const REQUIRED_WEIGHT: i64 = 1;

/// A place: a label of nodes and its value.
type Place<'c> = (&'c str, &'c str);
type Counts<'c> = HashMap<Place<'c>, i64>;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Between<'c> {
    pod: &'c Pod,
    own: Option<&'c Terms>,
    namespaces: &'c Namespaces,
    /// The pod's own terms mean itself: the first of a group may go anywhere.
    means_itself: bool,
    /// Pods whose anti-affinity means this one.
    repelling: Counts<'c>,
    /// Pods that all terms of the own affinity mean, for each term.
    near: Counts<'c>,
    /// Pods that the own anti-affinity means.
    apart: Counts<'c>,
}

impl<'c> Between<'c> {
    /// Counts over all nodes.
    pub(super) fn of(pod: &'c PodInfo, nodes: &[&'c NodeInfo], namespaces: &'c Namespaces) -> Self {
        let own = pod.terms.as_deref();
        let means_itself = own.is_some_and(|terms| {
            let mut terms = terms.affinity.iter();
            terms.all(|term| term.selects(&pod.pod, namespaces))
        });
        let mut all = Self {
            pod: &pod.pod,
            own: own.filter(|terms| !(terms.affinity.is_empty() && terms.anti.is_empty())),
            namespaces,
            means_itself,
            repelling: Counts::new(),
            near: Counts::new(),
            apart: Counts::new(),
        };
        for node in nodes {
            if all.own.is_some() || node.repelling > 0 {
                for other in &node.placed {
                    all.count(other, node, 1);
                }
            }
        }
        all
    }

    /// A pod comes to the node (1) or leaves it (-1).
    pub(super) fn count(&mut self, other: &'c PodInfo, node: &'c NodeInfo, sign: i64) {
        for term in other.terms.iter().flat_map(|terms| &terms.anti) {
            if let Some(value) = node.label(&term.key)
                && term.selects(self.pod, self.namespaces)
            {
                bump(&mut self.repelling, (&term.key, value), sign);
            }
        }
        let Some(own) = self.own else { return };
        let mut affinity = own.affinity.iter();
        if affinity.all(|term| term.selects(&other.pod, self.namespaces)) {
            for term in &own.affinity {
                if let Some(value) = node.label(&term.key) {
                    bump(&mut self.near, (&term.key, value), sign);
                }
            }
        }
        for term in &own.anti {
            if let Some(value) = node.label(&term.key)
                && term.selects(&other.pod, self.namespaces)
            {
                bump(&mut self.apart, (&term.key, value), sign);
            }
        }
    }

    /// Why the node will not do.
    pub(super) fn refusal(&self, node: &NodeInfo) -> Option<Reason> {
        let has = |counts: &Counts<'_>, key: &str, value: &str| {
            counts.get(&(key, value)).is_some_and(|count| *count > 0)
        };
        if let Some(own) = self.own {
            let mut is_near = true;
            for term in &own.affinity {
                match node.label(&term.key) {
                    Some(value) => is_near &= has(&self.near, &term.key, value),
                    None => return Some(Reason::Affinity),
                }
            }
            let is_first = self.near.is_empty() && self.means_itself;
            if !(is_near || is_first) {
                return Some(Reason::Affinity);
            }
            let is_apart = own.anti.iter().all(|term| {
                let value = node.label(&term.key);
                value.is_none_or(|value| !has(&self.apart, &term.key, value))
            });
            if !is_apart {
                return Some(Reason::AntiAffinity);
            }
        }
        let is_repelled = self
            .repelling
            .keys()
            .any(|(key, value)| node.label(key) == Some(value));
        is_repelled.then_some(Reason::ExistingAntiAffinity)
    }
}

fn bump<'c>(counts: &mut Counts<'c>, place: Place<'c>, sign: i64) {
    let count = counts.entry(place).or_default();
    *count += sign;
    if *count == 0 {
        counts.remove(&place);
    }
}

/// How much the pods of its place speak for each of the nodes, from 0 to `most`.
pub(super) fn score(
    pod: &PodInfo,
    candidates: &[&NodeInfo],
    nodes: &[&NodeInfo],
    namespaces: &Namespaces,
    most: i64,
) -> Option<Vec<i64>> {
    let own = pod.terms.as_deref();
    let wants = own.is_some_and(|terms| !terms.preferred.is_empty());
    let mut weights: Counts<'_> = Counts::new();
    for node in nodes.iter().filter(|node| wants || node.with_terms > 0) {
        for other in &node.placed {
            if let Some(own) = own {
                for term in &own.preferred {
                    if let Some(value) = node.label(&term.key)
                        && term.selects(&other.pod, namespaces)
                    {
                        bump(&mut weights, (&term.key, value), term.weight);
                    }
                }
            }
            let Some(theirs) = other.terms.as_deref() else {
                continue;
            };
            let required = theirs.affinity.iter().map(|term| (term, REQUIRED_WEIGHT));
            let preferred = theirs.preferred.iter().map(|term| (term, term.weight));
            for (term, weight) in required.chain(preferred) {
                if let Some(value) = node.label(&term.key)
                    && term.selects(&pod.pod, namespaces)
                {
                    bump(&mut weights, (&term.key, value), weight);
                }
            }
        }
    }
    if weights.is_empty() {
        return None;
    }
    let sums: Vec<i64> = candidates
        .iter()
        .map(|node| {
            let here = weights
                .iter()
                .filter(|((key, value), _)| node.label(key) == Some(value));
            here.map(|(_, weight)| *weight).sum()
        })
        .collect();
    let (least, largest) = (sums.iter().min()?, sums.iter().max()?);
    let span = largest - least;
    Some(
        sums.iter()
            .map(|sum| {
                if span == 0 {
                    0
                } else {
                    (sum - least).saturating_mul(most) / span
                }
            })
            .collect(),
    )
}
