//! How it is told: `n1: memory 118Mi measured (p99 of 40 sandboxes), 32Mi declared, too little; n2: ...`.
//!
//! Of a report only numbers are told: no word of a node's gets into what others read.

use std::collections::BTreeMap;

use berth_cost::{ClassReport, Direction, Verdict, Verdicts};

/// So many nodes are told of by name.
const MAX_NODES: usize = 8;

/// Bytes as whole mebibytes, rounded up.
#[must_use]
pub fn mebibytes(bytes: u64) -> String {
    match bytes.div_ceil(1 << 20) {
        0 => "0".to_owned(),
        mib => format!("{mib}Mi"),
    }
}

/// Millionths of a core as whole thousandths, rounded up.
#[must_use]
pub fn cores(micro: u64) -> String {
    match micro.div_ceil(1000) {
        0 => "0".to_owned(),
        milli => format!("{milli}m"),
    }
}

/// What of a report differs; none when nothing does.
pub(super) fn verdicts(verdicts: &Verdicts, report: &ClassReport) -> Option<String> {
    let one = |name: &str, verdict: Option<Verdict>, show: fn(u64) -> String| {
        let verdict = verdict?;
        let direction = match verdict.off? {
            Direction::TooLittle => "too little",
            Direction::TooMuch => "too much",
        };
        Some(format!(
            "{name} {} measured (p99 of {} sandboxes), {} declared, {direction}",
            show(verdict.measured),
            report.sandboxes,
            show(verdict.declared),
        ))
    };
    let parts = [
        one("memory", verdicts.memory, mebibytes),
        one("cpu", verdicts.cpu, cores),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// What differs in a text of [`verdicts`], and which way, without the numbers.
pub(super) fn kinds(text: &str) -> Vec<&str> {
    let words = text.split(", ");
    let words = words.filter_map(|part| match part {
        "too little" | "too much" => Some(part),
        _ => part
            .split_once(' ')
            .map(|(first, _)| first)
            .filter(|w| ["memory", "cpu"].contains(w)),
    });
    words.collect()
}

/// All nodes together; none when there are none.
pub(super) fn write(nodes: &BTreeMap<String, String>) -> Option<String> {
    if nodes.is_empty() {
        return None;
    }
    let mut parts: Vec<String> = nodes
        .iter()
        .take(MAX_NODES)
        .map(|(node, text)| format!("{node}: {text}"))
        .collect();
    if nodes.len() > MAX_NODES {
        parts.push(format!("and {} more nodes", nodes.len() - MAX_NODES));
    }
    Some(parts.join("; "))
}

/// The nodes that are named in a text of [`write`].
pub(super) fn read(text: &str) -> BTreeMap<String, String> {
    let parts = text.split("; ").filter_map(|part| part.split_once(": "));
    let parts = parts.filter(|(_, text)| !kinds(text).is_empty());
    parts
        .map(|(node, text)| (node.to_owned(), text.to_owned()))
        .collect()
}
