//! `/stats/overhead`: what sandboxes of each class cost on this node.

use http::Response;

use super::exposition::{Exposition, Kind};
use super::reply::{Body, json};
use crate::agent::Agent;

/// The report, as JSON.
pub(super) fn report(agent: &Agent) -> Response<Body> {
    let config = &agent.config;
    json(
        &agent
            .costs
            .report(&config.node_name, config.overhead_period),
    )
}

/// The same by class, for `/metrics`. Of single pods there is nothing: there are as many as users like.
pub(super) fn metrics(agent: &Agent, out: &mut Exposition) {
    let config = &agent.config;
    let report = agent
        .costs
        .report(&config.node_name, config.overhead_period);
    for class in &report.classes {
        for (state, found) in [("idle", &class.idle), ("load", &class.load)] {
            let labels = [
                ("handler", class.handler.as_str()),
                ("runtime_class", class.runtime_class.as_str()),
                ("state", state),
            ];
            let samples = out.family(
                "berth_class_overhead_samples",
                "Measurements of sandboxes of a class that the quantiles are of.",
                Kind::Gauge,
            );
            samples.add(&labels, found.samples.to_string());
            if found.samples == 0 {
                continue;
            }
            let (memory, cpu) = (&found.memory_bytes, &found.cpu_micro_cores);
            for (quantile, bytes, micro) in [
                ("0.5", memory.p50, cpu.p50),
                ("0.99", memory.p99, cpu.p99),
                ("1", memory.max, cpu.max),
            ] {
                let [handler, class, state] = labels;
                let labels = [handler, ("quantile", quantile), class, state];
                let memory = out.family(
                    "berth_class_overhead_memory_bytes",
                    "Memory of a class' sandboxes beyond that of their containers.",
                    Kind::Gauge,
                );
                memory.add(&labels, bytes.to_string());
                let cpu = out.family(
                    "berth_class_overhead_cpu_cores",
                    "Processor that a class' sandboxes use beyond their containers, in cores.",
                    Kind::Gauge,
                );
                cpu.add(
                    &labels,
                    format!("{}.{:06}", micro / 1_000_000, micro % 1_000_000),
                );
            }
        }
    }
}
