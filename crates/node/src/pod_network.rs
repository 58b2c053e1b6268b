//! A pod's network before its containers start: its NetworkPolicies are in force, and what its RuntimeClass denies is denied.
//!
//! Where nothing on this node enforces them NetworkPolicies are left to the network plugin, as with a stock kubelet. What a class denies
//! is known to berth only: pods of such a class don't start there.

pub(crate) mod asked;

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_net::policy::Closed;
use berth_rules::network_floor;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::Api;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use asked::{Asked, REASON};

/// Asks whether a sandbox's network is as it has to be, beside whatever else the pod's start does.
pub(crate) fn ask(agent: &Arc<Agent>, pod: &Arc<Pod>, sandbox: &str) -> Asked {
    let (told, answer) = watch::channel(None);
    let (asking, pod) = (Arc::clone(agent), Arc::clone(pod));
    let shutdown = agent.tasks.stop_token();
    agent.tasks.spawn("pod network", async move {
        let asked = shutdown.run_until_cancelled(in_force(&asking, &pod));
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

async fn in_force(agent: &Agent, pod: &Pod) -> Result<(), String> {
    if !has_own(pod) {
        return no_floor(agent, pod, "on the node's own network").await;
    }
    match &agent.config.network_policies {
        Some(policies) => policies.in_force(pod).await.map_err(|e| e.to_string()),
        None => {
            let place = format!("on node {:?}", agent.config.node_name);
            no_floor(agent, pod, &place).await
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
                let message = format!("The pod is cut off from the network: {reason}");
                agent.events.warn(&handle.current(), REASON, message);
            }
        }
        told.clone_from(&now);
    }
    shutdown.cancelled().await;
}
