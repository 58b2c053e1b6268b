//! Learns what changes in the runtime: its event stream where it has one, and a regular look at
//! everything either way (often when there is no stream, seldom when there is).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use berth_cri_api::v1::{GetEventsRequest, ListContainersRequest, ListPodSandboxRequest};
use berth_supervise::Outage;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::agent::Agent;
use crate::cri::{labels, rpc_message};
use crate::runtime::Facts;

const OFTEN: Duration = Duration::from_secs(1);
const SELDOM: Duration = Duration::from_secs(30);

/// Runs both until `shutdown`.
pub(crate) async fn keep(agent: Arc<Agent>, shutdown: CancellationToken) {
    // A runtime that only starts is no news.
    let mut runtime = agent.runtime.clone();
    tokio::select! {
        () = shutdown.cancelled() => return,
        ready = runtime.wait_for(Facts::is_ready) => if ready.is_err() { return },
    }
    drop(runtime);
    let streaming = tokio::sync::watch::Sender::new(false);
    let relist = relist(&agent, streaming.subscribe());
    let stream = stream(&agent, &streaming);
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = relist => {}
        () = stream => {}
    }
}

async fn stream(agent: &Agent, streaming: &tokio::sync::watch::Sender<bool>) {
    let mut outage = Outage::new("cannot stream the runtime's events");
    loop {
        match agent
            .cri
            .runtime()
            .get_container_events(GetEventsRequest {})
            .await
        {
            Ok(answer) => {
                let mut events = answer.into_inner();
                outage.works();
                streaming.send_replace(true);
                debug!("container events are streamed");
                while let Ok(Some(event)) = events.message().await {
                    let uid = event
                        .pod_sandbox_status
                        .and_then(|s| s.metadata)
                        .map(|m| m.uid);
                    match uid {
                        Some(uid) => agent.wake(&uid),
                        None => wake_owner(agent, &event.container_id),
                    }
                }
                streaming.send_replace(false);
            }
            Err(e) if e.code() == tonic::Code::Unimplemented => {
                info!("the runtime has no event stream; it is listed every second");
                return std::future::pending().await;
            }
            Err(e) => {
                outage.failed(rpc_message(&e));
            }
        }
        tokio::time::sleep(OFTEN).await;
    }
}

/// Wakes the pod that a container or a sandbox belongs to, or all when it is not known.
fn wake_owner(agent: &Agent, id: &str) {
    let handles = agent.handles();
    let owner = handles.iter().find(|h| {
        let seen = h.observed.read();
        seen.containers.iter().any(|c| c.id == id) || seen.sandboxes.iter().any(|s| s.id == id)
    });
    match owner {
        Some(handle) => handle.wake.notify_one(),
        None => handles.iter().for_each(|h| h.wake.notify_one()),
    }
}

async fn relist(agent: &Agent, mut streaming: tokio::sync::watch::Receiver<bool>) {
    let mut known: HashMap<String, (String, i32)> = HashMap::new();
    let mut outage = Outage::new("cannot list the runtime's containers");
    loop {
        if let Some(now) = list(agent, &mut outage).await {
            let mut changed = HashSet::new();
            for (id, (uid, state)) in &now {
                if known.get(id).map(|(_, s)| s) != Some(state) {
                    changed.insert(uid.clone());
                }
            }
            for (id, (uid, _)) in &known {
                if !now.contains_key(id) {
                    changed.insert(uid.clone());
                }
            }
            for uid in changed {
                agent.wake(&uid);
            }
            known = now;
        }
        let pause = if *streaming.borrow_and_update() {
            SELDOM
        } else {
            OFTEN
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            changed = streaming.changed() => if changed.is_err() { return },
        }
    }
}

async fn list(agent: &Agent, outage: &mut Outage) -> Option<HashMap<String, (String, i32)>> {
    let (mut a, mut b) = (agent.cri.runtime(), agent.cri.runtime());
    let (sandboxes, containers) = tokio::try_join!(
        a.list_pod_sandbox(ListPodSandboxRequest { filter: None }),
        b.list_containers(ListContainersRequest { filter: None })
    )
    .inspect_err(|e| {
        outage.failed(rpc_message(e));
    })
    .ok()?;
    outage.works();
    let mut now = HashMap::new();
    let uid = |l: &HashMap<String, String>| l.get(labels::POD_UID).cloned();
    for s in sandboxes.into_inner().items {
        if let Some(uid) = uid(&s.labels) {
            now.insert(s.id, (uid, s.state));
        }
    }
    for c in containers.into_inner().containers {
        if let Some(uid) = uid(&c.labels) {
            now.insert(c.id, (uid, c.state));
        }
    }
    Some(now)
}
