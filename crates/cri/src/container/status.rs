//! `ContainerStatus` and `ListContainers`.

use std::collections::HashMap;

use berth_cri_api::v1::{
    Container as Item, ContainerFilter, ContainerResources, ContainerState, ContainerStatus,
    ContainerStatusResponse, ContainerUser, ImageSpec, LinuxContainerUser,
};
use serde_json::json;

use super::signal;
use crate::engine::Shared;
use crate::error::CriError;
use crate::record::{ContainerPhase, ContainerRecord};

fn state(phase: &ContainerPhase) -> ContainerState {
    match phase {
        ContainerPhase::Created | ContainerPhase::Starting => ContainerState::ContainerCreated,
        ContainerPhase::Running => ContainerState::ContainerRunning,
        ContainerPhase::Exited(_) => ContainerState::ContainerExited,
    }
}

fn image(record: &ContainerRecord) -> Option<ImageSpec> {
    let mut image = record.config.0.image.clone().unwrap_or_default();
    // A kubelet gives the id it got from the pull; people want to see a name, as containerd shows it.
    if !record.image_tag.is_empty() {
        image.image.clone_from(&record.image_tag);
    } else if !image.user_specified_image.is_empty() {
        image.image.clone_from(&image.user_specified_image);
    }
    Some(image)
}

/// The digest where a registry has one, as containerd has it.
fn image_ref(record: &ContainerRecord) -> String {
    if record.image_digest.is_empty() {
        record.image_id.clone()
    } else {
        record.image_digest.clone()
    }
}

/// As [`state`], but nobody knows of a container whose sandbox's record can't be read.
fn known_state(engine: &Shared, record: &ContainerRecord) -> ContainerState {
    match record.phase {
        ContainerPhase::Created | ContainerPhase::Starting | ContainerPhase::Running
            if engine.held.has(&record.sandbox_id) =>
        {
            ContainerState::ContainerUnknown
        }
        ContainerPhase::Created
        | ContainerPhase::Starting
        | ContainerPhase::Running
        | ContainerPhase::Exited(_) => state(&record.phase),
    }
}

/// The CRI's view of a record.
pub(crate) fn status_of(record: &ContainerRecord) -> ContainerStatus {
    let config = &record.config.0;
    let mut status = ContainerStatus {
        id: record.id.clone(),
        metadata: config.metadata.clone(),
        state: state(&record.phase).into(),
        created_at: record.created_at,
        started_at: record.started_at,
        image: image(record),
        image_ref: image_ref(record),
        image_id: record.image_id.clone(),
        labels: config.labels.clone(),
        annotations: config.annotations.clone(),
        mounts: config.mounts.clone(),
        log_path: record
            .log_path
            .as_ref()
            .map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_default(),
        resources: Some(ContainerResources {
            linux: config
                .linux
                .as_ref()
                .and_then(|linux| linux.resources.clone()),
            windows: None,
        }),
        user: Some(ContainerUser {
            linux: Some(LinuxContainerUser {
                uid: record.user.uid.into(),
                gid: record.user.gid.into(),
                supplemental_groups: record
                    .user
                    .groups
                    .iter()
                    .map(|gid| i64::from(*gid))
                    .collect(),
            }),
        }),
        stop_signal: signal::of_name(&record.stop_signal).into(),
        ..ContainerStatus::default()
    };
    if let ContainerPhase::Exited(ended) = &record.phase {
        status.finished_at = ended.at;
        status.exit_code = ended.code;
        status.reason.clone_from(&ended.reason);
        status.message.clone_from(&ended.message);
    }
    status
}

pub(crate) fn status(
    engine: &Shared,
    id: &str,
    verbose: bool,
) -> Result<ContainerStatusResponse, CriError> {
    let container = engine.containers.get(id)?;
    let record = container.record();
    let mut info = HashMap::new();
    if verbose {
        let spec = std::fs::read(engine.layout.bundle(&record.id).join("config.json"))
            .ok()
            .and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
        let text = json!({
            "sandboxID": record.sandbox_id,
            "pid": record.pid,
            "config": record.config.0,
            "runtimeSpec": spec,
        });
        info.insert("info".to_owned(), text.to_string());
    }
    Ok(ContainerStatusResponse {
        status: Some(ContainerStatus {
            state: known_state(engine, &record).into(),
            ..status_of(&record)
        }),
        info,
    })
}

/// Those that a filter lets through, newest first.
pub(crate) fn list(engine: &Shared, filter: Option<ContainerFilter>) -> Vec<Item> {
    let filter = filter.unwrap_or_default();
    let mut items: Vec<Item> = engine
        .containers
        .all()
        .iter()
        .map(|container| container.record())
        .filter(|record| {
            let labels = &record.config.0.labels;
            record.id.starts_with(&filter.id)
                && record.sandbox_id.starts_with(&filter.pod_sandbox_id)
                && filter
                    .state
                    .is_none_or(|wanted| wanted.state() == known_state(engine, record))
                && filter
                    .label_selector
                    .iter()
                    .all(|(key, value)| labels.get(key) == Some(value))
        })
        .map(|record| Item {
            state: known_state(engine, &record).into(),
            image: image(&record),
            image_ref: image_ref(&record),
            id: record.id.clone(),
            pod_sandbox_id: record.sandbox_id.clone(),
            metadata: record.config.0.metadata.clone(),
            image_id: record.image_id.clone(),
            created_at: record.created_at,
            labels: record.config.0.labels.clone(),
            annotations: record.config.0.annotations.clone(),
        })
        .collect();
    items.sort_by_key(|item| std::cmp::Reverse(item.created_at));
    items
}
