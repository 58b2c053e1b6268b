//! Which of the nodes that can run a pod suits it best.

use std::collections::BTreeSet;

use super::affinity::matches_term;
use super::info::{NodeInfo, PodInfo};
use berth_core::toleration::tolerates;

/// The most that one view gives.
const MAX: i64 = 100;
const WEIGHT_TAINTS: i64 = 3;
const WEIGHT_AFFINITY: i64 = 2;
const MIB: i64 = 1024 * 1024;
const SMALLEST_IMAGE: i64 = 23 * MIB;
const LARGEST_IMAGE: i64 = 1000 * MIB;

/// A number for each node, in their order; more is better. The views and weights are the stock scheduler's:
/// room left, balance of CPU and memory, tolerated PreferNoSchedule taints, preferred affinity, images present.
#[must_use]
pub fn score(pod: &PodInfo, nodes: &[&NodeInfo]) -> Vec<i64> {
    let affinity = normalize(nodes.iter().map(|node| preferred(pod, node)).collect());
    let taints: Vec<i64> = normalize(nodes.iter().map(|node| disliked(pod, node)).collect())
        .into_iter()
        .map(|share| MAX - share)
        .collect();
    nodes
        .iter()
        .zip(affinity.iter().zip(&taints))
        .map(|(node, (affinity, taints))| {
            room_left(pod, node)
                + balance(pod, node)
                + images(pod, node)
                + WEIGHT_AFFINITY * affinity
                + WEIGHT_TAINTS * taints
        })
        .collect()
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
    let there = |name: &str| node.allocatable.get(name).copied().unwrap_or(0);
    [
        (node.compared.0.saturating_add(pod.compared.0), there("cpu")),
        (
            node.compared.1.saturating_add(pod.compared.1),
            there("memory"),
        ),
    ]
}

fn room_left(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let shares = usage(pod, node).map(|(taken, there)| {
        if there <= 0 || taken > there {
            0
        } else {
            (there - taken).saturating_mul(MAX) / there
        }
    });
    shares.iter().sum::<i64>() / 2
}

fn balance(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let [cpu, memory] = usage(pod, node).map(|(taken, there)| {
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

fn images(pod: &PodInfo, node: &NodeInfo) -> i64 {
    let wanted: BTreeSet<&str> = pod
        .pod
        .spec
        .iter()
        .flat_map(|spec| &spec.containers)
        .filter_map(|container| container.image.as_deref())
        .collect();
    let there = node
        .node
        .status
        .as_ref()
        .and_then(|status| status.images.as_deref());
    let bytes: i64 = there
        .unwrap_or_default()
        .iter()
        .filter(|image| {
            image
                .names
                .iter()
                .flatten()
                .any(|name| wanted.contains(name.as_str()))
        })
        .filter_map(|image| image.size_bytes)
        .sum();
    let bytes = bytes.clamp(SMALLEST_IMAGE, LARGEST_IMAGE);
    MAX * (bytes - SMALLEST_IMAGE) / (LARGEST_IMAGE - SMALLEST_IMAGE)
}
