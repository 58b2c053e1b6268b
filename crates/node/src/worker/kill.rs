//! Ending containers: preStop hook, the stop signal, the grace period, the end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_core::event::EventType::{Normal, Warning};
use berth_cri_api::v1::{StopContainerRequest, StopPodSandboxRequest};
use berth_lifecycle::{Kill, ObservedContainer, RunState, is_sidecar};
use futures::future::join_all;
use k8s_openapi::api::core::v1::{Container, Pod};
use tracing::{debug, warn};

use super::Worker;
use crate::agent::Agent;
use crate::cri::{Limit, rpc_message, within};
use crate::hooks;
use crate::pod_spec::containers;

/// Even after a long preStop hook a process gets this long.
const LEAST: i64 = 2;

impl Worker {
    fn grace(&self) -> i64 {
        self.pod
            .metadata
            .deletion_grace_period_seconds
            .or_else(|| self.pod.spec.as_ref()?.termination_grace_period_seconds)
            .unwrap_or(30)
    }

    /// Ends one container so that another takes its place.
    pub(super) async fn kill_for_restart(&mut self, kill: &Kill) {
        let spec = containers(&self.pod).find(|c| c.name == kill.name).cloned();
        let ip = self.pod_ips().into_iter().next();
        // A probe may ask for a grace period of its own.
        let probe_grace = spec.as_ref().and_then(|c| {
            let probe = c.liveness_probe.as_ref().or(c.startup_probe.as_ref())?;
            probe.termination_grace_period_seconds
        });
        end_one(
            &self.agent,
            &self.pod,
            spec.as_ref(),
            &kill.id,
            &kill.name,
            kill.message.clone(),
            probe_grace.unwrap_or_else(|| self.grace()),
            ip.as_deref(),
        )
        .await;
        self.handle.probes.lock().failed.remove(&kill.id);
    }

    /// Ends every container, sidecars after the others and in reverse order, then the sandboxes.
    /// `grace` overrides the pod's own.
    pub(super) async fn kill_all(&mut self, grace: Option<i64>) {
        let grace = grace.unwrap_or_else(|| self.grace());
        let begun = Instant::now();
        let running: Vec<ObservedContainer> = self
            .observed
            .containers
            .iter()
            .filter(|c| matches!(c.state, RunState::Running | RunState::Unknown))
            .cloned()
            .collect();
        let sidecars: Vec<String> = self
            .pod
            .spec
            .iter()
            .flat_map(|s| s.init_containers.iter().flatten())
            .filter(|c| is_sidecar(c))
            .map(|c| c.name.clone())
            .collect();
        let ip = self.pod_ips().into_iter().next();
        let agent = Arc::clone(&self.agent);
        let pod = Arc::clone(&self.pod);
        let end = |c: ObservedContainer, grace: i64| {
            let spec = containers(&pod).find(|s| s.name == c.name).cloned();
            let (agent, pod, ip) = (Arc::clone(&agent), Arc::clone(&pod), ip.clone());
            async move {
                let message = format!("Stopping container {}", c.name);
                end_one(
                    &agent,
                    &pod,
                    spec.as_ref(),
                    &c.id,
                    &c.name,
                    message,
                    grace,
                    ip.as_deref(),
                )
                .await;
            }
        };
        let (side, main): (Vec<_>, Vec<_>) = running
            .into_iter()
            .partition(|c| sidecars.contains(&c.name));
        join_all(main.into_iter().map(|c| end(c, grace))).await;
        for name in sidecars.iter().rev() {
            let spent = i64::try_from(begun.elapsed().as_secs()).unwrap_or(i64::MAX);
            let left = (grace - spent).max(0);
            join_all(
                side.iter()
                    .filter(|c| &c.name == name)
                    .map(|c| end(c.clone(), left)),
            )
            .await;
        }
        for sandbox in self.observed.sandboxes.clone() {
            let request = StopPodSandboxRequest {
                pod_sandbox_id: sandbox.id.clone(),
            };
            if let Err(e) = self.agent.cri.runtime().stop_pod_sandbox(request).await {
                warn!(pod = %self.name(), error = %rpc_message(&e), "StopPodSandbox");
            }
        }
    }
}

/// Runs the preStop hook and stops one container, all within `grace` seconds.
#[allow(clippy::too_many_arguments)]
async fn end_one(
    agent: &Agent,
    pod: &Pod,
    spec: Option<&Container>,
    id: &str,
    name: &str,
    message: String,
    grace: i64,
    ip: Option<&str>,
) {
    agent
        .events
        .container(pod, name, Normal, "Killing", message);
    let begun = Instant::now();
    let hook = spec.and_then(|c| Some((c, c.lifecycle.as_ref()?.pre_stop.as_ref()?)));
    if let Some((c, hook)) = hook
        && grace > 0
    {
        let limit = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        match tokio::time::timeout(limit, hooks::run(agent, c, hook, id, ip)).await {
            Ok(Ok(())) => {}
            Ok(Err(message)) => agent.events.container(
                pod,
                name,
                Warning,
                "FailedPreStopHook",
                format!("PreStopHook failed: {message}"),
            ),
            Err(_) => debug!(container = name, "preStop hook took the whole grace period"),
        }
    }
    let spent = i64::try_from(begun.elapsed().as_secs()).unwrap_or(i64::MAX);
    let left = if grace > 0 {
        (grace - spent).max(LEAST)
    } else {
        0
    };
    let request = StopContainerRequest {
        container_id: id.to_owned(),
        timeout: left,
    };
    let (mut first, mut second) = (agent.cri.runtime(), agent.cri.runtime());
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let stop = first.stop_container(within(Limit::after(left), request));
    tokio::pin!(stop);
    let result = tokio::select! {
        result = &mut stop => result,
        shorter = shorter_grace(agent, &uid, left) => {
            // `kubectl delete --now` while the pod was ending already.
            let request = StopContainerRequest {
                container_id: id.to_owned(),
                timeout: shorter,
            };
            second
                .stop_container(within(Limit::after(shorter), request))
                .await
        }
    };
    if let Err(e) = result
        && e.code() != tonic::Code::NotFound
    {
        warn!(container = name, error = %rpc_message(&e), "StopContainer");
    }
}

/// Resolves when the pod's deletion is asked for again with a shorter grace period.
async fn shorter_grace(agent: &Agent, uid: &str, grace: i64) -> i64 {
    let handle = agent.pods.lock().get(uid).cloned();
    let Some(handle) = handle else {
        return std::future::pending().await;
    };
    let mut pod = handle.pod.subscribe();
    let asked = |p: &Arc<Pod>| {
        p.metadata.deletion_timestamp.is_some()
            && p.metadata
                .deletion_grace_period_seconds
                .is_some_and(|g| g < grace)
    };
    let shorter = pod
        .wait_for(asked)
        .await
        .ok()
        .map(|p| p.metadata.deletion_grace_period_seconds.unwrap_or(0));
    match shorter {
        Some(grace) => grace,
        None => std::future::pending().await,
    }
}
