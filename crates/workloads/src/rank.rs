//! Which pods go first when there are too many (the stock `ActivePodsWithRanks`).

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::pod::{condition, is_ready, phase};

/// Pods with a lower cost go first (KEP-2255).
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Puts those first that cost least to lose: without a node, not running, not ready, cheap by their annotation, beside others of
/// the same workload on a node, ready for a shorter time, restarted more often, younger.
///
/// `related` are the pods of the workload as a whole (all ReplicaSets of a Deployment): those on one node are doubled up.
/// Ages are compared by the power of two in which their seconds lie, so that of pods of nearly the same age any may go
/// (KEP-2185); UIDs, which are random, decide then.
pub fn sort_for_deletion<'a>(
    pods: &mut [Arc<Pod>],
    related: impl IntoIterator<Item = &'a Pod>,
    now: Timestamp,
) {
    let mut on_node: HashMap<&str, usize> = HashMap::new();
    for node in related.into_iter().filter_map(node_of) {
        *on_node.entry(node).or_default() += 1;
    }
    pods.sort_by_cached_key(|pod| Key::of(pod, &on_node, now));
}

fn node_of(pod: &Pod) -> Option<&str> {
    let node = pod.spec.as_ref()?.node_name.as_deref()?;
    (!node.is_empty()).then_some(node)
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    has_node: bool,
    phase: u8,
    is_ready: bool,
    cost: i32,
    doubled: Reverse<usize>,
    ready_since: Age,
    restarts: Reverse<i32>,
    created: Age,
    uid: Option<String>,
}

impl Key {
    fn of(pod: &Pod, on_node: &HashMap<&str, usize>, now: Timestamp) -> Self {
        let node = node_of(pod);
        let is_ready = is_ready(pod);
        let since = condition(pod, "Ready").and_then(|c| c.last_transition_time.as_ref());
        let annotations = pod.metadata.annotations.as_ref();
        let cost = annotations.and_then(|a| a.get(DELETION_COST));
        let statuses = pod.status.iter().flat_map(|s| &s.container_statuses);
        Self {
            has_node: node.is_some(),
            phase: match phase(pod) {
                "Pending" => 0,
                "Running" => 2,
                _ => 1,
            },
            is_ready,
            cost: cost.and_then(|c| c.parse().ok()).unwrap_or(0),
            doubled: Reverse(node.and_then(|n| on_node.get(n)).copied().unwrap_or(0)),
            ready_since: Age(since.filter(|_| is_ready).map(|t| logarithm(t.0, now))),
            restarts: Reverse(
                statuses
                    .flatten()
                    .map(|s| s.restart_count)
                    .max()
                    .unwrap_or(0),
            ),
            created: Age(pod
                .metadata
                .creation_timestamp
                .as_ref()
                .map(|t| logarithm(t.0, now))),
            uid: pod.metadata.uid.clone(),
        }
    }
}

/// The younger comes first; what has no time is the youngest.
#[derive(PartialEq, Eq)]
struct Age(Option<u32>);

impl PartialOrd for Age {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Age {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

fn logarithm(since: Timestamp, now: Timestamp) -> u32 {
    let seconds = u64::try_from(now.duration_since(since).as_secs()).unwrap_or(0);
    seconds.checked_ilog2().map_or(0, |log| log + 1)
}
