//! `/pods`, `/runningpods` and `/metrics`.

use std::fmt::Write;

use berth_lifecycle::RunState;
use http::{Response, StatusCode};
use serde_json::json;

use super::reply::{Body, json as json_reply, text};
use crate::agent::Agent;

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
    let mut out = String::new();
    let _ = write!(
        out,
        "# HELP kubelet_node_name The node's name. The count is always 1.\n\
         # TYPE kubelet_node_name gauge\n\
         kubelet_node_name{{node=\"{}\"}} 1\n\
         # HELP kubelet_desired_pods Number of pods bound to this node.\n\
         # TYPE kubelet_desired_pods gauge\n\
         kubelet_desired_pods {}\n\
         # HELP kubelet_running_pods Number of pods that have a running pod sandbox.\n\
         # TYPE kubelet_running_pods gauge\n\
         kubelet_running_pods {pods}\n\
         # HELP kubelet_running_containers Number of containers by state.\n\
         # TYPE kubelet_running_containers gauge\n\
         kubelet_running_containers{{container_state=\"running\"}} {running}\n\
         kubelet_running_containers{{container_state=\"exited\"}} {exited}\n\
         kubelet_running_containers{{container_state=\"created\"}} {created}\n",
        agent.config.node_name,
        handles.len(),
    );
    text(StatusCode::OK, out)
}
