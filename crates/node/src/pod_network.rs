//! A pod's network before its containers start: its NetworkPolicies are in force, and what its RuntimeClass denies is denied.
//!
//! Where nothing on this node enforces them NetworkPolicies are left to the network plugin, as with a stock kubelet. What a class denies
//! is known to berth only: pods of such a class don't start there.

pub(crate) mod asked;
mod port;

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_net::policy::{Closed, PolicyHandle};
use berth_rules::network_floor;
use berth_supervise::Chain;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::Api;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::runtime::Facts;
use asked::{Asked, REASON};

/// Asks whether a sandbox's network is as it has to be, beside whatever else the pod's start does. `has_run`: something of the pod
/// has, in this sandbox.
pub(crate) fn ask(agent: &Arc<Agent>, pod: &Arc<Pod>, sandbox: &str, has_run: bool) -> Asked {
    let (told, answer) = watch::channel(None);
    let (asking, pod, at) = (Arc::clone(agent), Arc::clone(pod), sandbox.to_owned());
    let shutdown = agent.tasks.stop_token();
    agent.tasks.spawn("pod network", async move {
        let asked = shutdown.run_until_cancelled(in_force(&asking, &pod, &at, has_run));
        if let Some(answer) = asked.await {
            told.send_replace(Some(answer));
        }
    });
    Asked {
        sandbox: sandbox.to_owned(),
        answer,
    }
}

/// Whether the pod has a network of its own.
pub(crate) fn has_own(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network) != Some(true)
}

async fn in_force(agent: &Agent, pod: &Pod, sandbox: &str, has_run: bool) -> Result<(), String> {
    if !has_own(pod) {
        return no_floor(agent, pod, "on the node's own network").await;
    }
    match &agent.config.network_policies {
        Some(policies) => {
            if policies.marks_ports() && has_run {
                check_port(agent, policies, pod).await?;
            } else if policies.marks_ports() {
                mark_port(agent, policies, pod, sandbox).await?;
            }
            policies.in_force(pod).await.map_err(|e| e.to_string())
        }
        None => {
            let place = format!("on node {:?}", agent.config.node_name);
            no_floor(agent, pod, &place).await
        }
    }
}

/// Finds the pod's port, and marks it where the runtime has not.
async fn mark_port(
    agent: &Agent,
    policies: &PolicyHandle,
    pod: &Pod,
    sandbox: &str,
) -> Result<(), String> {
    let port::Joined { netns, addresses } = port::joined(&agent.cri, sandbox).await?;
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let marked = policies.mark_port(uid, netns, addresses).await;
    marked.map_err(|error| Chain(&error).to_string())
}

/// Says that a pod is cut off whose port was not marked before something of it ran: it could have changed what that would say.
async fn check_port(agent: &Agent, policies: &PolicyHandle, pod: &Pod) -> Result<(), String> {
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    if policies.has_port(uid).await != Some(false) {
        return Ok(());
    }
    let reason = "it was started while nothing on this node enforced NetworkPolicies; delete it, so that it is made anew";
    tell_cut_off(agent, pod, reason);
    Err(reason.to_owned())
}

fn tell_cut_off(agent: &Agent, pod: &Pod, reason: &str) {
    let message = format!("The pod is cut off from the network: {reason}");
    agent.events.warn(pod, REASON, message);
}

/// Says on which bridge the runtime puts pods, until `shutdown`.
pub(crate) async fn tell_bridge(
    policies: PolicyHandle,
    mut runtime: watch::Receiver<Facts>,
    shutdown: CancellationToken,
) {
    loop {
        let bridge = runtime.borrow_and_update().bridge.clone();
        if let Some(bridge) = bridge {
            policies.pods_are_on(bridge);
        }
        match shutdown.run_until_cancelled(runtime.changed()).await {
            Some(Ok(())) => {}
            // What keeps the facts has ended, and with it soon the agent.
            Some(Err(_)) => return shutdown.cancelled().await,
            None => return,
        }
    }
}

/// Refuses what nothing on this node enforces.
async fn no_floor(agent: &Agent, pod: &Pod, place: &str) -> Result<(), String> {
    let class = pod.spec.as_ref();
    let class = class.and_then(|spec| spec.runtime_class_name.as_deref());
    let Some(class) = class.filter(|c| !c.is_empty() && agent.config.gates.runtime_class) else {
        return Ok(());
    };
    let api: Api<RuntimeClass> = Api::all(agent.config.client.clone());
    let found = api.get_opt(class).await;
    let found = found.map_err(|error| format!("cannot read RuntimeClass {class:?}: {error}"))?;
    let annotations = found.and_then(|class| class.metadata.annotations);
    let name = network_floor::DEFAULT_NETWORK_POLICY;
    match network_floor::parse(annotations.as_ref()) {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err(format!(
            "RuntimeClass {class:?} has the annotation {name}, and nothing enforces it {place}"
        )),
        Err(error) => Err(format!("RuntimeClass {class:?}: {error}")),
    }
}

/// Writes events about pods that are closed, until `shutdown`.
pub(crate) async fn keep(
    agent: Arc<Agent>,
    mut closed: watch::Receiver<Closed>,
    shutdown: CancellationToken,
) {
    let mut told = BTreeMap::new();
    while let Some(Ok(())) = shutdown.run_until_cancelled(closed.changed()).await {
        let now = Arc::clone(&closed.borrow_and_update());
        for (uid, reason) in &*now {
            let handle = agent.pods.lock().get(uid).cloned();
            if let Some(handle) = handle.filter(|_| told.get(uid) != Some(reason)) {
                tell_cut_off(&agent, &handle.current(), reason);
            }
        }
        told.clone_from(&now);
    }
    shutdown.cancelled().await;
}
