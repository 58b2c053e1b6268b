//! For people.

use std::fmt::Write as _;

use berth_controllers::class_overhead::{cores, declared, mebibytes};
use berth_cost::{ClassReport, Parts, StateReport, judge};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::ResourceExt as _;

use super::Evidence;
use super::proposed::{proposed, time};
use crate::cli::columns::aligned;

const COLUMNS: [&str; 10] = [
    "NODE",
    "STATE",
    "SAMPLES",
    "MEMORY-P50",
    "P99",
    "MAX",
    "CPU-P50",
    "P99",
    "MAX",
    "MEAN MEMORY BY PARTS",
];

pub(super) fn render(class: &RuntimeClass, all: &[Evidence]) -> anyhow::Result<String> {
    let declared = declared(class).map_err(anyhow::Error::msg)?;
    let mut out = String::new();
    writeln!(
        out,
        "RuntimeClass {} (handler {})",
        class.name_any(),
        class.handler
    )?;
    writeln!(
        out,
        "declared  cpu {}, memory {}",
        cores(declared.cpu),
        mebibytes(declared.memory)
    )?;
    match proposed(all) {
        None => writeln!(
            out,
            "proposed  nothing: no sandbox of this class was measured"
        )?,
        Some(found) => {
            let (cpu, memory) = (found.proposal.cpu(), found.proposal.memory());
            let from = if found.cpu_node == found.memory_node {
                format!("by node {}", found.memory_node)
            } else {
                format!(
                    "cpu by node {}, memory by node {}",
                    found.cpu_node, found.memory_node
                )
            };
            writeln!(out, "proposed  cpu {cpu}, memory {memory}   (p99, {from})")?;
        }
    }
    let measured: Vec<(&str, &ClassReport)> = all
        .iter()
        .filter_map(|e| Some((e.node.as_str(), e.report.as_ref().ok()?)))
        .collect();
    if !measured.is_empty() {
        out.push('\n');
        out.push_str(&lines(&measured));
        out.push('\n');
    }
    for (node, report) in &measured {
        let far = if judge(declared, report, false).differ() {
            "; differs from what is declared by more than a factor of two"
        } else {
            ""
        };
        let (since, until) = (time(report.since_seconds), time(report.until_seconds));
        writeln!(
            out,
            "{node}: {} sandboxes, {since} to {until}{far}",
            report.sandboxes
        )?;
    }
    for evidence in all {
        if let Err(reason) = &evidence.report {
            let reason = reason.replace(char::is_control, " ");
            writeln!(out, "{}: {reason}", evidence.node)?;
        }
    }
    Ok(out)
}

fn lines(measured: &[(&str, &ClassReport)]) -> String {
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    for (node, report) in measured {
        for (name, state) in [("idle", &report.idle), ("load", &report.load)] {
            if state.samples > 0 {
                rows.push(row(node, name, state));
            }
        }
    }
    aligned(&rows, "  ")
}

fn row(node: &str, name: &str, state: &StateReport) -> [String; 10] {
    let (memory, cpu) = (&state.memory_bytes, &state.cpu_micro_cores);
    [
        node.to_owned(),
        name.to_owned(),
        state.samples.to_string(),
        mebibytes(memory.p50),
        mebibytes(memory.p99),
        mebibytes(memory.max),
        cores(cpu.p50),
        cores(cpu.p99),
        cores(cpu.max),
        parts(&state.memory_parts),
    ]
}

fn parts(parts: &Parts) -> String {
    let shown = [
        ("shim", parts.shim),
        ("pause", parts.pause),
        ("sandbox", parts.sandbox),
        ("kernel", parts.kernel),
    ];
    let shown = shown.iter().filter(|(_, bytes)| *bytes > 0);
    let shown: Vec<String> = shown
        .map(|(name, bytes)| format!("{name} {}", mebibytes(*bytes)))
        .collect();
    shown.join(", ")
}
