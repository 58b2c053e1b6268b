//! Removes what is no longer needed: old instances of containers, old sandboxes, and unused images
//! when the disk is nearly full (above 85%, down to 80%).

mod images;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use berth_cri_api::v1::{RemoveContainerRequest, RemovePodSandboxRequest};
use berth_lifecycle::{Observed, RunState};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::agent::Agent;
use crate::cri::rpc_message;

const EVERY: Duration = Duration::from_secs(60);
/// Instances kept of each container besides the newest, so that `logs --previous` has one.
const KEEP: usize = 1;

/// Looks every minute until `shutdown`.
pub(crate) async fn keep(agent: Arc<Agent>, shutdown: CancellationToken) {
    let mut collector = images::Collector::default();
    loop {
        // A disk that is short of space or inodes needs everything that nobody uses.
        let urgent = tokio::select! {
            () = shutdown.cancelled() => return,
            () = agent.garbage_poke.notified() => true,
            () = tokio::time::sleep(EVERY) => false,
        };
        for handle in agent.handles() {
            let seen = handle.observed.read().clone();
            containers(&agent, &seen).await;
            sandboxes(&agent, &seen).await;
        }
        collector.collect(&agent, urgent).await;
    }
}

/// Ids of exited instances beyond the ones to keep.
fn surplus(seen: &Observed) -> Vec<&str> {
    let mut count: HashMap<&str, usize> = HashMap::new();
    let mut ids = Vec::new();
    for c in &seen.containers {
        let n = count.entry(&c.name).or_default();
        *n += 1;
        if *n > KEEP + 1 && c.state == RunState::Exited {
            ids.push(c.id.as_str());
        }
    }
    ids
}

async fn containers(agent: &Agent, seen: &Observed) {
    for id in surplus(seen) {
        let request = RemoveContainerRequest {
            container_id: id.to_owned(),
        };
        if let Err(e) = agent.cri.runtime().remove_container(request).await {
            debug!(id, error = %rpc_message(&e), "old container not removed");
        }
    }
}

async fn sandboxes(agent: &Agent, seen: &Observed) {
    for old in seen.sandboxes.iter().skip(1).filter(|s| !s.ready) {
        if seen.containers.iter().any(|c| c.sandbox_id == old.id) {
            continue;
        }
        let request = RemovePodSandboxRequest {
            pod_sandbox_id: old.id.clone(),
        };
        if let Err(e) = agent.cri.runtime().remove_pod_sandbox(request).await {
            debug!(id = %old.id, error = %rpc_message(&e), "old sandbox not removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_lifecycle::ObservedContainer;

    #[test]
    fn the_newest_two_stay() {
        let one = |attempt: u32, state| ObservedContainer {
            id: format!("c{attempt}"),
            name: "c".into(),
            sandbox_id: "s".into(),
            attempt,
            state,
            created_at: None,
            started_at: None,
            finished_at: None,
            exit_code: 1,
            reason: String::new(),
            message: String::new(),
            image: String::new(),
            image_ref: String::new(),
            user: None,
            stop_signal: None,
        };
        let mut seen = Observed {
            sandboxes: Vec::new(),
            containers: (0..4).map(|n| one(n, RunState::Exited)).collect(),
        };
        seen.sort();
        assert_eq!(surplus(&seen), ["c1", "c0"]);
    }
}
