//! The proposal, and the document with its evidence.

use berth_controllers::class_overhead::declared;
use berth_cost::{ClassReport, Parts, Proposal, Quantiles, StateReport, propose};
use jiff::Timestamp;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::ResourceExt as _;
use serde_json::{Map, Value, json};

use super::Evidence;

/// What to declare, and which node's measurements decide it: the largest of all nodes', for memory and the processor each.
pub(super) struct Proposed<'a> {
    pub(super) proposal: Proposal,
    pub(super) memory_node: &'a str,
    pub(super) cpu_node: &'a str,
}

/// None when nothing was measured.
pub(super) fn proposed(all: &[Evidence]) -> Option<Proposed<'_>> {
    let found = all
        .iter()
        .filter_map(|e| Some((e.node.as_str(), propose(e.report.as_ref().ok()?)?)));
    let found: Vec<(&str, Proposal)> = found.collect();
    let (memory_node, memory) = found.iter().max_by_key(|(_, p)| p.memory_bytes)?;
    let (cpu_node, cpu) = found.iter().max_by_key(|(_, p)| p.cpu_milli)?;
    Some(Proposed {
        proposal: Proposal {
            memory_bytes: memory.memory_bytes,
            cpu_milli: cpu.cpu_milli,
        },
        memory_node,
        cpu_node,
    })
}

/// The class with the proposal, as it can be applied, and below `evidence` what it is based on.
pub(super) fn document(class: &RuntimeClass, all: &[Evidence]) -> anyhow::Result<Value> {
    let declared = declared(class).map_err(anyhow::Error::msg)?;
    let mut out = Map::new();
    let name = class.name_any();
    out.insert(
        "runtimeClass".to_owned(),
        json!({"name": name, "handler": class.handler}),
    );
    let shown = json!({"memoryBytes": declared.memory, "cpuMicroCores": declared.cpu});
    out.insert("declared".to_owned(), shown);
    let proposal = proposed(all).map(|found| {
        json!({
            "overhead": {"podFixed": {"cpu": found.proposal.cpu(), "memory": found.proposal.memory()}},
            "cpuFromNode": found.cpu_node,
            "memoryFromNode": found.memory_node,
        })
    });
    out.insert("proposed".to_owned(), proposal.unwrap_or(Value::Null));
    let evidence = all.iter().map(|evidence| match &evidence.report {
        Ok(report) => measured(&evidence.node, report),
        Err(reason) => json!({"node": evidence.node, "reason": reason}),
    });
    out.insert("evidence".to_owned(), Value::Array(evidence.collect()));
    Ok(Value::Object(out))
}

/// Numbers and times only: names in a report are the node's word.
fn measured(node: &str, report: &ClassReport) -> Value {
    json!({
        "node": node,
        "sandboxes": report.sandboxes,
        "since": time(report.since_seconds),
        "until": time(report.until_seconds),
        "idle": state(&report.idle),
        "load": state(&report.load),
    })
}

fn state(state: &StateReport) -> Value {
    let quantiles = |q: &Quantiles| json!({"p50": q.p50, "p99": q.p99, "max": q.max});
    let parts = |p: &Parts| json!({"shim": p.shim, "pause": p.pause, "sandbox": p.sandbox, "kernel": p.kernel});
    json!({
        "samples": state.samples,
        "memoryBytes": quantiles(&state.memory_bytes),
        "cpuMicroCores": quantiles(&state.cpu_micro_cores),
        "meanMemoryBytes": parts(&state.memory_parts),
        "meanCpuMicroCores": parts(&state.cpu_parts),
    })
}

/// A time that can't be is shown as none.
pub(super) fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| "<unknown>".to_owned(), |at| at.to_string())
}
