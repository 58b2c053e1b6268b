//! Ends what the runtime runs for pods that neither the API nor a file has, after both were read once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use berth_cri_api::v1::{ContainerFilter, ListContainersRequest};
use berth_cri_api::v1::{
    ListPodSandboxRequest, RemovePodSandboxRequest, StopContainerRequest, StopPodSandboxRequest,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::agent::Agent;
use crate::cri::{Limit, labels, rpc_message, within};
use crate::volumes;

const EVERY: Duration = Duration::from_secs(30);
/// A pod without a worker is an orphan only when it is seen twice.
const GRACE: i64 = 2;

/// Looks every now and then until `shutdown`.
pub(crate) async fn keep(
    agent: Arc<Agent>,
    (mut listed, mut files): (watch::Receiver<bool>, watch::Receiver<bool>),
    shutdown: CancellationToken,
) {
    let both = async {
        listed.wait_for(|l| *l).await.is_ok() && files.wait_for(|read| *read).await.is_ok()
    };
    tokio::select! {
        () = shutdown.cancelled() => return,
        ready = both => if !ready { return },
    }
    let mut suspects: HashMap<String, ()> = HashMap::new();
    loop {
        suspects = look(&agent, &suspects).await;
        let pause = if suspects.is_empty() {
            EVERY
        } else {
            Duration::from_secs(2)
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn look(agent: &Agent, before: &HashMap<String, ()>) -> HashMap<String, ()> {
    let mut suspects = HashMap::new();
    let sandboxes = match agent
        .cri
        .runtime()
        .list_pod_sandbox(ListPodSandboxRequest { filter: None })
        .await
    {
        Ok(answer) => answer.into_inner().items,
        Err(_) => return suspects,
    };
    let known: HashSet<String> = agent.handles().iter().map(|h| h.uid.clone()).collect();
    for s in sandboxes {
        // Only what carries a kubelet's labels is ours to end.
        let Some(uid) = s.labels.get(labels::POD_UID).cloned() else {
            continue;
        };
        if known.contains(&uid) {
            continue;
        }
        if !before.contains_key(&s.id) {
            suspects.insert(s.id, ());
            continue;
        }
        info!(sandbox = %s.id, %uid, "ending a sandbox whose pod is gone");
        if let Err(e) = end(agent, &s.id).await {
            warn!(sandbox = %s.id, error = %rpc_message(&e), "orphan not ended");
            suspects.insert(s.id, ());
        }
    }
    directories(agent, &known, &suspects).await;
    agent.devices.retain(&known);
    suspects
}

async fn end(agent: &Agent, id: &str) -> Result<(), tonic::Status> {
    let mut runtime = agent.cri.runtime();
    let filter = ContainerFilter {
        pod_sandbox_id: id.to_owned(),
        ..ContainerFilter::default()
    };
    let request = ListContainersRequest {
        filter: Some(filter),
    };
    for c in runtime
        .list_containers(request)
        .await?
        .into_inner()
        .containers
    {
        let request = StopContainerRequest {
            container_id: c.id,
            timeout: GRACE,
        };
        runtime
            .stop_container(within(Limit::after(GRACE), request))
            .await?;
    }
    let pod_sandbox_id = id.to_owned();
    runtime
        .stop_pod_sandbox(StopPodSandboxRequest {
            pod_sandbox_id: pod_sandbox_id.clone(),
        })
        .await?;
    runtime
        .remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id })
        .await?;
    Ok(())
}

/// Removes directories of pods that nobody knows any more.
async fn directories(agent: &Agent, known: &HashSet<String>, suspects: &HashMap<String, ()>) {
    if !suspects.is_empty() {
        return;
    }
    let root = agent.config.root_dir.join("pods");
    for entry in std::fs::read_dir(&root).into_iter().flatten().flatten() {
        let uid = entry.file_name().to_string_lossy().into_owned();
        if !known.contains(&uid) && agent.pods.lock().get(&uid).is_none() {
            info!(%uid, "removing the directory of a pod that is gone");
            if let Err(error) = volumes::remove_all(entry.path()).await {
                warn!(%uid, %error, "directory not removed");
            }
        }
    }
}
