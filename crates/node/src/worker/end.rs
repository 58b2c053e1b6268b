//! The end of a pod: everything stopped, the last status written, everything removed, and the
//! object deleted where its deletion was asked for.

use std::collections::BTreeMap;

use berth_cri_api::v1::{RemoveContainerRequest, RemovePodSandboxRequest};
use berth_lifecycle::{Observed, ObservedContainer, RunState};
use berth_supervise::unblock;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use tracing::{debug, info, warn};

use super::{Next, RETRY, Worker};
use crate::cri::rpc_message;
use crate::orphans;
use crate::sandbox_config::log_directory;
use crate::volumes;

impl Worker {
    /// The pod's deletion was asked for, or the API no longer has it.
    pub(super) async fn terminate(&mut self) -> Next {
        debug!(pod = %self.name(), "ending the pod");
        self.prober.stop_ending();
        if self.observed.anything_running() {
            self.kill_all(None).await;
            if self.observe().await.is_err() || self.observed.anything_running() {
                return self.later(RETRY / 5);
            }
        }
        self.prober.stop();
        self.tell_end();
        // Before anybody reads that the pod is over, and sends the next one that wants them.
        self.agent.devices.release(&self.handle.uid);
        if !self.handle.is_gone() {
            self.write_status(true);
            self.status.flush().await;
        }
        if !self.remove_all(true).await {
            return self.later(RETRY / 5);
        }
        if self.handle.is_gone() {
            return Next::Done;
        }
        match self.delete_object().await {
            Ok(()) => Next::Done,
            Err(error) => {
                warn!(pod = %self.name(), %error, "the pod's object is not deleted yet");
                self.later(RETRY / 5)
            }
        }
    }

    /// The pod is over but its object stays: nothing of it runs, its logs can be read.
    pub(super) async fn end(&mut self) -> Next {
        self.prober.stop();
        if self.observed.anything_running() {
            self.write_status(false);
            // What an evicted pod holds is needed now.
            let evicted = self.handle.evicted.lock().is_some();
            self.kill_all(evicted.then_some(1)).await;
            if self.observe().await.is_err() || self.observed.anything_running() {
                return self.later(RETRY / 5);
            }
        }
        self.problems.clear();
        self.tell_end();
        self.agent.devices.release(&self.handle.uid);
        self.write_status(true);
        if let Err(error) = volumes::remove_all(self.agent.pod_dir(&self.pod).join("volumes")).await
        {
            debug!(pod = %self.name(), %error, "volumes not removed yet");
            return self.later(RETRY);
        }
        self.volumes = None;
        let systemd = self.agent.runtime.borrow().systemd_cgroups;
        // What of it stays is tried again when the pod is deleted.
        let _ = self.agent.cgroups.remove(&self.pod, systemd).await;
        Next::Idle
    }

    /// One line for the end of the pod, when nothing of it runs any more.
    fn tell_end(&mut self) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        let spec = self.pod.spec.as_ref();
        let class = spec.and_then(|spec| spec.runtime_class_name.as_deref());
        let (reason, message) = match &self.failed {
            Some(problem) => (problem.reason.as_str(), problem.message.as_str()),
            None if self.handle.is_gone() => ("Deleted", ""),
            None if self.pod.metadata.deletion_timestamp.is_some() => ("Deleted", ""),
            None => (self.previous.phase.as_deref().unwrap_or_default(), ""),
        };
        let begun = self.previous.start_time.as_ref();
        let lived = begun.map_or(0, |at| Timestamp::now().duration_since(at.0).as_secs());
        info!(
            pod = %self.name(),
            class = class.unwrap_or_default(),
            handler = self.handler.as_deref().unwrap_or_default(),
            reason,
            message,
            containers = exits(&self.observed),
            lived = %format!("{lived} s"),
            "pod ended"
        );
    }

    /// Removes containers, sandboxes, volumes, cgroup and (at the very end) logs.
    async fn remove_all(&mut self, logs: bool) -> bool {
        for c in &self.observed.containers {
            let request = RemoveContainerRequest {
                container_id: c.id.clone(),
            };
            if let Err(e) = self.agent.cri.runtime().remove_container(request).await {
                warn!(pod = %self.name(), error = %rpc_message(&e), "RemoveContainer");
                return false;
            }
        }
        for s in &self.observed.sandboxes {
            let request = RemovePodSandboxRequest {
                pod_sandbox_id: s.id.clone(),
            };
            if let Err(e) = self.agent.cri.runtime().remove_pod_sandbox(request).await {
                warn!(pod = %self.name(), error = %rpc_message(&e), "RemovePodSandbox");
                return false;
            }
        }
        let systemd = self.agent.runtime.borrow().systemd_cgroups;
        let has_cgroup = !self.agent.cgroups.remove(&self.pod, systemd).await;
        if logs {
            let dir = log_directory(&self.agent, &self.pod);
            let place = dir.clone();
            if let Err(error) = unblock(move || berth_tree::remove(&place)).await {
                debug!(%error, dir = %dir.display(), "logs not removed");
            }
        }
        // Last: of a pod whose object is gone it is all that the next agent knows it by.
        if let Err(error) = volumes::remove_all(self.agent.pod_dir(&self.pod)).await {
            warn!(pod = %self.name(), %error, "the pod's directory is not removed yet");
            return false;
        }
        if has_cgroup {
            // A process is still ending, or a sandbox that an agent before this one has asked for comes only now.
            orphans::remember(&self.agent, &self.handle.uid);
        }
        true
    }

    async fn delete_object(&self) -> Result<(), kube::Error> {
        let meta = &self.pod.metadata;
        let ns = meta.namespace.clone().unwrap_or_default();
        let name = meta.name.clone().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(self.agent.config.client.clone(), &ns);
        let params = DeleteParams::default()
            .grace_period(0)
            .preconditions(Preconditions {
                uid: meta.uid.clone(),
                resource_version: None,
            });
        match api.delete(&name, &params).await {
            Ok(_) => Ok(()),
            // Somebody was faster, or another pod has the name now.
            Err(kube::Error::Api(s)) if s.code == 404 || s.code == 409 => Ok(()),
            Err(e) => Err(e),
        }
    }
}

/// How the containers have ended, the last try of each: `main 0 (Completed), side 137 (OOMKilled)`.
fn exits(observed: &Observed) -> String {
    let mut last: BTreeMap<&str, &ObservedContainer> = BTreeMap::new();
    for container in &observed.containers {
        let newest = last.entry(&container.name).or_insert(container);
        if container.attempt > newest.attempt {
            *newest = container;
        }
    }
    let line = |(name, container): (&&str, &&ObservedContainer)| {
        exit(
            name,
            container.state,
            container.exit_code,
            &container.reason,
        )
    };
    last.iter().map(line).collect::<Vec<_>>().join(", ")
}

fn exit(name: &str, state: RunState, code: i32, reason: &str) -> String {
    match state {
        RunState::Exited if reason.is_empty() => format!("{name} {code}"),
        RunState::Exited => format!("{name} {code} ({reason})"),
        RunState::Created => format!("{name} not started"),
        RunState::Running | RunState::Unknown => format!("{name} not ended"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_has_its_code_and_reason() {
        for (state, code, reason, want) in [
            (RunState::Exited, 137, "OOMKilled", "main 137 (OOMKilled)"),
            (RunState::Exited, 0, "", "main 0"),
            (RunState::Created, 0, "", "main not started"),
            (RunState::Unknown, 0, "", "main not ended"),
        ] {
            assert_eq!(exit("main", state, code, reason), want);
        }
        assert_eq!(exits(&Observed::default()), "");
    }
}
