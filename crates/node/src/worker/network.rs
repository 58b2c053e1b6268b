//! No container starts before the pod's network is as its policies say.

use std::sync::Arc;

use berth_lifecycle::RunState;

use super::Worker;
use super::start::wait_for_deletion;
use crate::pod_network::ask;

impl Worker {
    /// Asks about the current sandbox's network, where it was not, or where the answer was no. It is not waited for.
    pub(super) fn ask_network(&mut self) {
        let Some(sandbox) = self.observed.sandbox() else {
            return;
        };
        let (sandbox, is_ready) = (sandbox.id.clone(), sandbox.ready);
        let known = self.network.as_ref();
        let is_asked = known.is_some_and(|asked| asked.sandbox == sandbox && !asked.has_failed());
        let has_run = self.has_run();
        // What has ended has no network any more.
        if !is_asked && (is_ready || !has_run) {
            self.network = Some(ask(&self.agent, &self.pod, &sandbox, has_run));
        }
    }

    /// Whether something of the current sandbox has run.
    fn has_run(&self) -> bool {
        let sandbox = self.observed.sandbox().map(|sandbox| sandbox.id.as_str());
        self.observed.containers.iter().any(|container| {
            let is_here = Some(container.sandbox_id.as_str()) == sandbox;
            let has_run = matches!(container.state, RunState::Running | RunState::Exited);
            is_here && has_run && container.started_at.is_some()
        })
    }

    /// Waits until the network is as it has to be. Where something of the sandbox has run already it was, and what has written the
    /// rules since then has kept them.
    pub(super) async fn network_in_force(&mut self) -> Result<(), String> {
        if self.has_run() {
            return Ok(());
        }
        self.ask_network();
        let deleted = wait_for_deletion(Arc::clone(&self.handle));
        let Some(asked) = &mut self.network else {
            return Ok(());
        };
        tokio::select! {
            answer = asked.answered() => answer,
            () = deleted => Err("the pod is being deleted".to_owned()),
        }
    }
}
