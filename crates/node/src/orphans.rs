//! Ends what the runtime runs for pods that neither the API nor a file has, after both were read once.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use berth_cri_api::v1::{ContainerFilter, ListContainersRequest};
use berth_cri_api::v1::{
    ListPodSandboxRequest, RemovePodSandboxRequest, StopContainerRequest, StopPodSandboxRequest,
};
use berth_net::policy::is_pod_uid;
use berth_supervise::unblock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::agent::Agent;
use crate::cri::{Limit, labels, rpc_message, within};
use crate::own_dirs;
use crate::volumes;

const EVERY: Duration = Duration::from_secs(30);
/// Until the second look at what may be an orphan, or after one that was in vain.
const SOON: Duration = Duration::from_secs(2);
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
        let looked = look(&agent, &suspects).await;
        let pause = match &looked {
            Some(found) if found.is_empty() => EVERY,
            // A runtime that is away may be back soon.
            Some(_) | None => SOON,
        };
        suspects = looked.unwrap_or(suspects);
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Ends what was seen `before`, and gives what is to be looked at again; `None` when the runtime does not answer.
async fn look(agent: &Agent, before: &HashMap<String, ()>) -> Option<HashMap<String, ()>> {
    let mut suspects = HashMap::new();
    let sandboxes = match agent
        .cri
        .runtime()
        .list_pod_sandbox(ListPodSandboxRequest { filter: None })
        .await
    {
        Ok(answer) => answer.into_inner().items,
        Err(_) => return None,
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
        if !is_pod_uid(&uid) {
            // It becomes a part of paths.
            warn!(sandbox = %s.id, %uid, "a sandbox with a label that is no pod's uid is left alone");
            continue;
        }
        if !before.contains_key(&s.id) {
            suspects.insert(s.id, ());
            continue;
        }
        if is_known(agent, &uid) {
            continue;
        }
        info!(sandbox = %s.id, %uid, "ending a sandbox whose pod is gone");
        if let Err(e) = end(agent, &s.id).await {
            warn!(sandbox = %s.id, error = %rpc_message(&e), "orphan not ended");
            suspects.insert(s.id, ());
        } else if is_known(agent, &uid) {
            // A static pod's uid is its manifest's: it has come back meanwhile, and the rest is its own now.
            continue;
        } else if !clear(agent, &uid).await {
            remember(agent, &uid);
        }
    }
    directories(agent, &known, &suspects).await;
    agent.devices.retain(&known);
    Some(suspects)
}

/// Whether there is a pod of this uid now.
fn is_known(agent: &Agent, uid: &str) -> bool {
    agent.pods.lock().get(uid).is_some()
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

/// Removes what pods that nobody knows any more have on the disk, and their cgroups. Their directory goes last: by it the next
/// look knows of them.
async fn directories(agent: &Agent, known: &HashSet<String>, suspects: &HashMap<String, ()>) {
    if !suspects.is_empty() {
        return;
    }
    let root = agent.config.root_dir.join("pods");
    for entry in std::fs::read_dir(&root).into_iter().flatten().flatten() {
        let uid = entry.file_name().to_string_lossy().into_owned();
        if !known.contains(&uid) && !is_known(agent, &uid) {
            info!(%uid, "removing the directory of a pod that is gone");
            // First: secrets must not stay because a process is still ending.
            if let Err(error) = volumes::remove_all(entry.path().join("volumes")).await {
                warn!(%uid, %error, "volumes not removed");
                continue;
            }
            if !clear(agent, &uid).await {
                continue;
            }
            if let Err(error) = volumes::remove_all(entry.path()).await {
                warn!(%uid, %error, "directory not removed");
            }
        }
    }
}

/// Has the next look clear what there may still be of a pod that is gone.
pub(crate) fn remember(agent: &Agent, uid: &str) {
    let dir = agent.config.root_dir.join("pods").join(uid);
    if let Err(error) = own_dirs::make(&dir) {
        warn!(%uid, %error, "what is left of a pod will not be looked for");
    }
}

/// Removes a pod's cgroup and logs; false when some of it stays.
async fn clear(agent: &Agent, uid: &str) -> bool {
    let systemd = agent.runtime.borrow().systemd_cgroups;
    let is_gone = agent.cgroups.remove_by_uid(uid, systemd).await;
    let logs = remove_logs(logs_of(&agent.config.pod_logs_dir, uid)).await;
    if let Err(error) = &logs {
        warn!(%uid, %error, "logs not removed");
    }
    is_gone && logs.is_ok()
}

/// The directories with a pod's logs, `NAMESPACE_NAME_UID`.
fn logs_of(dir: &Path, uid: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let is_its = |name: &str| name.rsplit_once('_').is_some_and(|(_, of)| of == uid);
    let paths = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_its));
    paths.map(|entry| entry.path()).collect()
}

async fn remove_logs(dirs: Vec<PathBuf>) -> std::io::Result<()> {
    unblock(move || dirs.iter().try_for_each(|dir| berth_tree::remove(dir))).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn logs_of_a_pod_go_and_those_of_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["default_a_u1", "default_a_u11", "u1", "kube-system_b_u1"] {
            std::fs::create_dir_all(dir.path().join(name).join("main")).unwrap();
        }
        remove_logs(logs_of(dir.path(), "u1")).await.unwrap();
        let mut left: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["default_a_u11", "u1"]);
        remove_logs(logs_of(&dir.path().join("none"), "u1"))
            .await
            .unwrap();
    }
}
