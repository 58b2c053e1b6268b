//! What the runtime knows of one pod, in the terms of `berth_lifecycle`.

use std::collections::HashMap;

use berth_cri_api::v1::{
    Container, ContainerFilter, ContainerState, ContainerStatus, ContainerStatusRequest,
    ListContainersRequest, ListPodSandboxRequest, PodSandbox, PodSandboxFilter, PodSandboxState,
    PodSandboxStatus, PodSandboxStatusRequest,
};
use berth_lifecycle::{Observed, ObservedContainer, ObservedSandbox, ObservedUser, RunState};
use jiff::Timestamp;

use super::{Cri, labels};

/// CRI's nanoseconds; 0 means never.
pub(crate) fn timestamp(nanos: i64) -> Option<Timestamp> {
    if nanos <= 0 {
        return None;
    }
    Timestamp::from_nanosecond(i128::from(nanos)).ok()
}

/// Asks for the sandboxes and containers of a pod. `known` is the previous answer: what cannot have
/// changed (an exited container, a sandbox's addresses) is taken from it.
pub(crate) async fn observe(
    cri: &Cri,
    uid: &str,
    known: &Observed,
) -> Result<Observed, tonic::Status> {
    let selector = HashMap::from([(labels::POD_UID.to_owned(), uid.to_owned())]);
    let sandboxes = ListPodSandboxRequest {
        filter: Some(PodSandboxFilter {
            label_selector: selector.clone(),
            ..PodSandboxFilter::default()
        }),
    };
    let containers = ListContainersRequest {
        filter: Some(ContainerFilter {
            label_selector: selector,
            ..ContainerFilter::default()
        }),
    };
    let (mut a, mut b) = (cri.runtime(), cri.runtime());
    let (sandboxes, containers) =
        tokio::try_join!(a.list_pod_sandbox(sandboxes), b.list_containers(containers))?;
    let mut observed = Observed::default();
    for s in sandboxes.into_inner().items {
        observed.sandboxes.extend(sandbox(cri, s, known).await?);
    }
    for c in containers.into_inner().containers {
        observed.containers.extend(container(cri, c, known).await?);
    }
    observed.sort();
    Ok(observed)
}

async fn sandbox(
    cri: &Cri,
    s: PodSandbox,
    known: &Observed,
) -> Result<Option<ObservedSandbox>, tonic::Status> {
    let ready = s.state == PodSandboxState::SandboxReady as i32;
    if let Some(k) = known.sandboxes.iter().find(|k| k.id == s.id)
        && k.ready == ready
        && (!ready || !k.ips.is_empty())
    {
        return Ok(Some(k.clone()));
    }
    let request = PodSandboxStatusRequest {
        pod_sandbox_id: s.id.clone(),
        verbose: false,
    };
    match cri.runtime().pod_sandbox_status(request).await {
        Ok(answer) => Ok(answer.into_inner().status.map(sandbox_status)),
        Err(e) if e.code() == tonic::Code::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn sandbox_status(s: PodSandboxStatus) -> ObservedSandbox {
    let mut ips = Vec::new();
    if let Some(network) = s.network {
        if !network.ip.is_empty() {
            ips.push(network.ip);
        }
        ips.extend(network.additional_ips.into_iter().map(|ip| ip.ip));
    }
    ObservedSandbox {
        attempt: s.metadata.map_or(0, |m| m.attempt),
        ready: s.state == PodSandboxState::SandboxReady as i32,
        ips,
        created_at: timestamp(s.created_at),
        runtime_handler: s.runtime_handler,
        id: s.id,
    }
}

fn run_state(state: i32) -> RunState {
    match ContainerState::try_from(state) {
        Ok(ContainerState::ContainerCreated) => RunState::Created,
        Ok(ContainerState::ContainerRunning) => RunState::Running,
        Ok(ContainerState::ContainerExited) => RunState::Exited,
        Ok(ContainerState::ContainerUnknown) | Err(_) => RunState::Unknown,
    }
}

async fn container(
    cri: &Cri,
    c: Container,
    known: &Observed,
) -> Result<Option<ObservedContainer>, tonic::Status> {
    let state = run_state(c.state);
    if let Some(k) = known.containers.iter().find(|k| k.id == c.id)
        && k.state == state
        && state != RunState::Created
    {
        return Ok(Some(k.clone()));
    }
    let request = ContainerStatusRequest {
        container_id: c.id.clone(),
        verbose: false,
    };
    match cri.runtime().container_status(request).await {
        Ok(answer) => Ok(answer
            .into_inner()
            .status
            .map(|s| container_status(s, c.pod_sandbox_id))),
        Err(e) if e.code() == tonic::Code::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// `sha256:...`, or the bare digits of it.
fn is_image_id(image: &str) -> bool {
    image.starts_with("sha256:")
        || image.len() == 64 && image.bytes().all(|b| b.is_ascii_hexdigit())
}

fn container_status(s: ContainerStatus, sandbox_id: String) -> ObservedContainer {
    let name = s
        .labels
        .get(labels::CONTAINER_NAME)
        .cloned()
        .or_else(|| s.metadata.as_ref().map(|m| m.name.clone()))
        .unwrap_or_default();
    let attempt = s
        .annotations
        .get(labels::RESTART_COUNT)
        .and_then(|n| n.parse().ok())
        .or_else(|| s.metadata.as_ref().map(|m| m.attempt))
        .unwrap_or(0);
    let stop_signal = berth_cri_api::signal::name(s.stop_signal());
    let image = s
        .image
        .map(|i| {
            // What the runtime says is a name in full, as under the kubelet; an id is none for people.
            let is_id = i.image.is_empty() || is_image_id(&i.image);
            if is_id && !i.user_specified_image.is_empty() {
                i.user_specified_image
            } else {
                i.image
            }
        })
        .unwrap_or_default();
    ObservedContainer {
        stop_signal: (!stop_signal.is_empty()).then_some(stop_signal),
        id: s.id,
        name,
        sandbox_id,
        attempt,
        state: run_state(s.state),
        created_at: timestamp(s.created_at),
        started_at: timestamp(s.started_at),
        finished_at: timestamp(s.finished_at),
        exit_code: s.exit_code,
        reason: s.reason,
        message: s.message,
        image,
        image_ref: s.image_ref,
        user: s.user.and_then(|u| u.linux).map(|user| ObservedUser {
            uid: user.uid,
            gid: user.gid,
            supplemental_groups: user.supplemental_groups,
        }),
    }
}
