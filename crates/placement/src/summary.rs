//! The reasons over all nodes in one sentence.

use std::collections::BTreeMap;

use super::filter::Reason;

/// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`, given each node's reasons.
#[must_use]
pub fn summarize<'a>(by_node: impl IntoIterator<Item = &'a [Reason]>) -> String {
    let mut nodes = 0;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for reasons in by_node {
        nodes += 1;
        for reason in reasons {
            *counts.entry(reason.to_string()).or_default() += 1;
        }
    }
    if nodes == 0 {
        return "no nodes available to schedule pods".to_owned();
    }
    let mut parts: Vec<String> = counts
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    parts.sort();
    format!("0/{nodes} nodes are available: {}.", parts.join(", "))
}
