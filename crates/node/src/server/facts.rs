//! `/pods`, `/runningpods` and `/metrics`.

use berth_lifecycle::RunState;
use http::Response;
use serde_json::json;

use super::exposition::{Exposition, Kind};
use super::overhead;
use super::reply::{Body, json as json_reply};
use crate::agent::Agent;

const CONTAINERS: &str = "Number of containers by state.";

pub(super) fn pods(agent: &Agent, running: bool) -> Response<Body> {
    let items: Vec<_> = agent
        .handles()
        .iter()
        .filter(|h| !running || h.observed.read().anything_running())
        .map(|h| h.current())
        .collect();
    json_reply(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items}))
}

pub(super) fn metrics(agent: &Agent) -> Response<Body> {
    let handles = agent.handles();
    let mut pods = 0;
    let (mut running, mut exited, mut created) = (0, 0, 0);
    for handle in &handles {
        let seen = handle.observed.read();
        pods += usize::from(seen.sandboxes.iter().any(|s| s.ready));
        for c in &seen.containers {
            match c.state {
                RunState::Running => running += 1,
                RunState::Exited => exited += 1,
                RunState::Created => created += 1,
                RunState::Unknown => {}
            }
        }
    }
    let mut out = Exposition::default();
    let name = [("node", agent.config.node_name.as_str())];
    for (metric, help, labels, value) in [
        (
            "kubelet_node_name",
            "The node's name. The count is always 1.",
            &name[..],
            1,
        ),
        (
            "kubelet_desired_pods",
            "Number of pods bound to this node.",
            &[],
            handles.len(),
        ),
        (
            "kubelet_running_pods",
            "Number of pods that have a running pod sandbox.",
            &[],
            pods,
        ),
        (
            "kubelet_running_containers",
            CONTAINERS,
            &[("container_state", "running")],
            running,
        ),
        (
            "kubelet_running_containers",
            CONTAINERS,
            &[("container_state", "exited")],
            exited,
        ),
        (
            "kubelet_running_containers",
            CONTAINERS,
            &[("container_state", "created")],
            created,
        ),
    ] {
        out.family(metric, help, Kind::Gauge).add(labels, value);
    }
    if agent.config.tracer.is_on() {
        let (name, help) = (
            "berth_trace_spans_dropped_total",
            "Spans that the collector did not take in time.",
        );
        out.family(name, help, Kind::Counter)
            .add(&[], agent.config.tracer.dropped());
    }
    overhead::metrics(agent, &mut out);
    out.reply()
}
