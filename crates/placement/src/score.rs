//! Which of the nodes that can run a pod suits it best.

use super::affinity::matches_term;
use super::around::Surroundings;
use super::images::{ImageSpread, WantedImages};
use super::info::{NodeInfo, PodInfo};
use berth_core::toleration::tolerates;

/// The most that one view gives.
pub(super) const MAX: i64 = 100;
const WEIGHT_TAINTS: i64 = 3;
const WEIGHT_AFFINITY: i64 = 2;
const WEIGHT_AROUND: i64 = 2;
const MIB: i64 = 1024 * 1024;
const SMALLEST_IMAGE: i64 = 23 * MIB;
const LARGEST_IMAGE: i64 = 1000 * MIB;

/// A number for each node, in their order; more is better. The views and weights are the stock scheduler's:
/// room left, balance of CPU and memory, tolerated PreferNoSchedule taints, preferred affinity, images present (`spread`: by how
/// many nodes), pods preferred near or apart, and spread.
#[must_use]
pub fn score(
    pod: &PodInfo,
    nodes: &[&NodeInfo],
    around: &Surroundings<'_>,
    spread: &ImageSpread,
) -> Vec<i64> {
    let affinity = normalize(nodes.iter().map(|node| preferred(pod, node)).collect());
    let taints = normalize(nodes.iter().map(|node| disliked(pod, node)).collect());
    let wanted = WantedImages::of(&pod.pod);
    let mut scores: Vec<i64> = nodes
        .iter()
        .zip(affinity.iter().zip(&taints))
        .map(|(node, (affinity, taints))| {
            let usage = usage(pod, node);
            room_left(usage)
                + balance(usage)
                + images(&wanted, node, spread)
                + WEIGHT_AFFINITY * affinity
                + WEIGHT_TAINTS * (MAX - taints)
        })
        .collect();
    for view in around.scores(pod, nodes, MAX) {
        for (sum, score) in scores.iter_mut().zip(view) {
            *sum += WEIGHT_AROUND * score;
        }
    }
    scores
}

/// To 0..=100, the largest being 100.
fn normalize(values: Vec<i64>) -> Vec<i64> {
    match values.iter().copied().max() {
        Some(max) if max > 0 => values
            .into_iter()
            .map(|value| value.max(0).saturating_mul(MAX) / max)
            .collect(),
        Some(_) | None => vec![0; values.len()],
    }
}

/// CPU and memory: what would be taken, and what there is.
fn usage(pod: &PodInfo, node: &NodeInfo) -> [(i64, i64); 2] {
    [
        (
            node.compared.0.saturating_add(pod.compared.0),
            node.allocatable.cpu,
        ),
        (
            node.compared.1.saturating_add(pod.compared.1),
            node.allocatable.memory,
        ),
    ]
}

fn room_left(usage: [(i64, i64); 2]) -> i64 {
    let shares = usage.map(|(taken, there)| {
        if there <= 0 || taken > there {
            0
        } else {
            (there - taken).saturating_mul(MAX) / there
        }
    });
    shares.iter().sum::<i64>() / 2
}

fn balance(usage: [(i64, i64); 2]) -> i64 {
    let [cpu, memory] = usage.map(|(taken, there)| {
        if there <= 0 {
            MAX
        } else {
            (taken.saturating_mul(MAX) / there).min(MAX)
        }
    });
    // The standard deviation of two numbers is half their distance.
    MAX - (cpu - memory).abs() / 2
}

fn disliked(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let tolerations = pod
        .pod
        .spec
        .as_ref()
        .and_then(|spec| spec.tolerations.as_deref())
        .unwrap_or_default();
    let taints = node
        .node
        .spec
        .as_ref()
        .and_then(|spec| spec.taints.as_deref())
        .unwrap_or_default();
    let count = taints
        .iter()
        .filter(|taint| taint.effect == "PreferNoSchedule")
        .filter(|taint| {
            !tolerations
                .iter()
                .any(|toleration| tolerates(toleration, taint))
        })
        .count();
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn preferred(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let terms = pod
        .pod
        .spec
        .as_ref()
        .and_then(|spec| spec.affinity.as_ref())
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|node| {
            node.preferred_during_scheduling_ignored_during_execution
                .as_deref()
        })
        .unwrap_or_default();
    terms
        .iter()
        .filter(|term| matches_term(&term.preference, &node.node))
        .map(|term| i64::from(term.weight))
        .sum()
}

fn images(wanted: &WantedImages<'_>, node: &NodeInfo, spread: &ImageSpread) -> i64 {
    let status = node.node.status.as_ref();
    let there = status.and_then(|status| status.images.as_deref());
    let bytes = node.images.bytes(wanted, there, spread);
    let largest = LARGEST_IMAGE.saturating_mul(wanted.containers().max(1));
    let bytes = bytes.clamp(SMALLEST_IMAGE, largest);
    MAX.saturating_mul(bytes - SMALLEST_IMAGE) / (largest - SMALLEST_IMAGE)
}
