//! The reasons over all nodes in one sentence.

use std::collections::BTreeMap;

use super::reason::Reason;

/// `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`, given each node's reasons.
#[must_use]
pub fn summarize<'a>(by_node: impl IntoIterator<Item = &'a [Reason]>) -> String {
    let by_node: Vec<Vec<String>> = by_node
        .into_iter()
        .map(|reasons| reasons.iter().map(ToString::to_string).collect())
        .collect();
    summarize_text(by_node.len(), by_node.into_iter().flatten())
}

/// The same of what is said already, over so many nodes.
#[must_use]
pub fn summarize_text(nodes: usize, reasons: impl IntoIterator<Item = String>) -> String {
    if nodes == 0 {
        return "no nodes available to schedule pods".to_owned();
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for reason in reasons {
        *counts.entry(reason).or_default() += 1;
    }
    let mut parts: Vec<String> = counts
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    parts.sort();
    format!("0/{nodes} nodes are available: {}.", parts.join(", "))
}
