//! What can be seen of waiting sandboxes: in the verbose Status, and as metrics.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::pool::Stage;
use crate::engine::Shared;
use crate::record::SandboxRecord;
use crate::sandbox;

/// What one uses, in bytes: what its cgroup is charged with, and its shim's resident memory.
fn memory(engine: &Shared, record: &SandboxRecord) -> u64 {
    let own = match record.pause_pid {
        0 => None,
        pid => sandbox::memory_used(&engine.host, pid),
    };
    own.unwrap_or(0) + shim_memory(engine, &record.id).unwrap_or(0)
}

fn shim_memory(engine: &Shared, id: &str) -> Option<u64> {
    let pid = std::fs::read_to_string(engine.layout.bundle(id).join("shim.pid")).ok()?;
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", pid.trim())).ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages.saturating_mul(u64::try_from(rustix::param::page_size()).ok()?))
}

/// For `crictl info`, by handler; null where none ever waited.
pub(crate) fn report(engine: &Shared) -> Value {
    let entries = engine.warm.entries();
    let handlers = engine.warm.counts();
    if handlers.is_empty() {
        return Value::Null;
    }
    let of_handler = |(name, counts): (String, super::pool::Counts)| {
        let sandboxes: Vec<Value> = entries
            .iter()
            .filter(|(_, entry)| entry.handler == name)
            .map(|(id, entry)| {
                let record = entry.sandbox.record();
                json!({
                    "id": id,
                    "state": entry.stage.name(),
                    "seconds": entry.since.elapsed().as_secs(),
                    "ips": record.ips,
                    "memoryBytes": memory(engine, &record),
                    "memoryLimitBytes": entry.size.memory,
                })
            })
            .collect();
        let value = json!({
            "wanted": counts.wanted,
            "refused": counts.refused,
            "lastError": counts.failed,
            "made": counts.made,
            "taken": counts.taken,
            "cold": counts.cold,
            "discarded": counts.discarded,
            "sandboxes": sandboxes,
        });
        (name, value)
    };
    Value::Object(handlers.into_iter().map(of_handler).collect())
}

/// In the text format of Prometheus.
pub(crate) fn text(engine: &Shared) -> String {
    let mut states: BTreeMap<(String, &str), u64> = BTreeMap::new();
    let mut bytes: BTreeMap<String, u64> = BTreeMap::new();
    let counts = engine.warm.counts();
    for (handler, counts) in &counts {
        let wanted = u64::try_from(counts.wanted).unwrap_or(0);
        states.insert((handler.clone(), "wanted"), wanted);
        for stage in [
            Stage::Making,
            Stage::Waiting,
            Stage::Taking,
            Stage::Discarding,
        ] {
            states.insert((handler.clone(), stage.name()), 0);
        }
        bytes.insert(handler.clone(), 0);
    }
    for (_, entry) in engine.warm.entries() {
        *states
            .entry((entry.handler.clone(), entry.stage.name()))
            .or_default() += 1;
        *bytes.entry(entry.handler).or_default() += memory(engine, &entry.sandbox.record());
    }
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, lines: Vec<(String, u64)>| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in lines {
            let _ = writeln!(text, "{name}{{{labels}}} {value}");
        }
    };
    let handler = |name: &str| format!("handler={}", quoted(name));
    family(
        "berth_cri_warm_sandboxes",
        "gauge",
        "Sandboxes that wait for a pod, by handler and state; wanted is how many the configuration asks for.",
        states
            .iter()
            .map(|((name, state), count)| (format!("{},state=\"{state}\"", handler(name)), *count))
            .collect(),
    );
    family(
        "berth_cri_warm_memory_bytes",
        "gauge",
        "Memory of sandboxes that wait for a pod: their cgroups' and their shims'.",
        bytes
            .iter()
            .map(|(name, bytes)| (handler(name), *bytes))
            .collect(),
    );
    family(
        "berth_cri_warm_taken_total",
        "counter",
        "Pods that got a sandbox that waited.",
        counts
            .iter()
            .map(|(name, counts)| (handler(name), counts.taken))
            .collect(),
    );
    for (name, help, of) in [
        (
            "berth_cri_warm_cold_starts_total",
            "Pods of a handler with waiting sandboxes that got none of them, by reason.",
            (|counts| &counts.cold) as fn(&super::pool::Counts) -> &BTreeMap<&'static str, u64>,
        ),
        (
            "berth_cri_warm_discarded_total",
            "Waiting sandboxes that were removed without a pod, by reason.",
            |counts| &counts.discarded,
        ),
    ] {
        let lines = counts.iter().flat_map(|(name, counts)| {
            of(counts)
                .iter()
                .map(|(reason, count)| (format!("{},reason=\"{reason}\"", handler(name)), *count))
        });
        family(name, "counter", help, lines.collect());
    }
    text
}

/// A label's value.
fn quoted(value: &str) -> String {
    let value = value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    format!("\"{value}\"")
}
