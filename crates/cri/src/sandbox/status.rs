//! `PodSandboxStatus` and `ListPodSandbox`.

use std::collections::HashMap;

use berth_cri_api::v1::{
    LinuxPodSandboxStatus, Namespace, PodIp, PodSandbox, PodSandboxFilter, PodSandboxNetworkStatus,
    PodSandboxState, PodSandboxStatus, PodSandboxStatusResponse,
};
use serde_json::json;

use crate::container;
use crate::engine::{Shared, now};
use crate::error::CriError;
use crate::record::{Phase, SandboxRecord, Warm};

fn state(phase: Phase) -> PodSandboxState {
    match phase {
        Phase::Ready => PodSandboxState::SandboxReady,
        Phase::Creating | Phase::NotReady => PodSandboxState::SandboxNotready,
    }
}

/// The CRI's view of a record.
pub(crate) fn status_of(record: &SandboxRecord) -> PodSandboxStatus {
    let config = &record.config.0;
    let mut ips = record.ips.iter().map(ToString::to_string);
    let options = config
        .linux
        .as_ref()
        .and_then(|linux| linux.security_context.as_ref())
        .and_then(|security| security.namespace_options.clone());
    PodSandboxStatus {
        id: record.id.clone(),
        metadata: config.metadata.clone(),
        state: state(record.phase).into(),
        created_at: record.created_at,
        network: Some(PodSandboxNetworkStatus {
            ip: ips.next().unwrap_or_default(),
            additional_ips: ips.map(|ip| PodIp { ip }).collect(),
        }),
        linux: Some(LinuxPodSandboxStatus {
            namespaces: Some(Namespace { options }),
        }),
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        runtime_handler: record.handler.clone(),
    }
}

pub(crate) fn status(
    engine: &Shared,
    id: &str,
    verbose: bool,
) -> Result<PodSandboxStatusResponse, CriError> {
    let sandbox = match engine.sandboxes.get(id) {
        Ok(sandbox) => sandbox,
        Err(error) => match engine.held.sandbox(id) {
            Some(status) => return Ok(of_held(status)),
            None => return Err(error),
        },
    };
    let record = sandbox.record();
    let mut info = HashMap::new();
    if verbose {
        let spec = std::fs::read(engine.layout.bundle(&record.id).join("config.json"))
            .ok()
            .and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
        let text = json!({
            "pid": record.pause_pid,
            "waited": record.warm == Warm::Taken,
            "runtimeHandler": record.runtime.handler,
            "runtimeVersion": record.runtime.version,
            "runtime": record.runtime.driver,
            "netns": engine.layout.pod(&record.id).join("net"),
            "cniResult": record.attachment.as_ref().map(|attachment| &attachment.result),
            "config": record.config.0,
            "runtimeSpec": spec,
        });
        info.insert("info".to_owned(), text.to_string());
    }
    Ok(PodSandboxStatusResponse {
        status: Some(status_of(&record)),
        info,
        containers_statuses: container::of_sandbox(engine, &record.id)
            .iter()
            .map(|container| container::status_of(&container.record()))
            .collect(),
        timestamp: now(),
    })
}

/// One whose record can't be read.
fn of_held(status: PodSandboxStatus) -> PodSandboxStatusResponse {
    PodSandboxStatusResponse {
        status: Some(status),
        timestamp: now(),
        ..PodSandboxStatusResponse::default()
    }
}

/// Those that a filter lets through, newest first.
pub(crate) fn list(engine: &Shared, filter: Option<PodSandboxFilter>) -> Vec<PodSandbox> {
    let filter = filter.unwrap_or_default();
    let passes = |id: &str, now: PodSandboxState, labels: &HashMap<String, String>| {
        id.starts_with(&filter.id)
            && filter.state.is_none_or(|wanted| wanted.state() == now)
            && filter
                .label_selector
                .iter()
                .all(|(key, value)| labels.get(key) == Some(value))
    };
    let known = engine.sandboxes.all();
    let known = known
        .iter()
        .map(|sandbox| sandbox.record())
        .filter(|record| passes(&record.id, state(record.phase), &record.config.0.labels))
        .map(|record| status_of(&record));
    let held = engine.held.sandboxes();
    let held = held
        .into_iter()
        .filter(|status| passes(&status.id, status.state(), &status.labels));
    // A client that misses one would run its pod once more.
    let mut items: Vec<PodSandbox> = known
        .chain(held)
        .map(|status| PodSandbox {
            id: status.id,
            metadata: status.metadata,
            state: status.state,
            created_at: status.created_at,
            labels: status.labels,
            annotations: status.annotations,
            runtime_handler: status.runtime_handler,
        })
        .collect();
    items.sort_by_key(|item| std::cmp::Reverse(item.created_at));
    items
}
