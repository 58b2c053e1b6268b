//! `/volumes/local-path/VOLUME`: the controller that gives claims their volumes has directories of this node made and removed.
//!
//! It needs the right to POST and DELETE at `nodes/proxy`, with which it could run programs in all pods as well. Yet a directory with
//! something in it is removed only when the volume's object, which is read here from the API server, says so
//! ([`berth_core::local_path::removable`]).

use std::sync::Arc;
use std::time::Duration;

use berth_core::local_path::{is_volume_name, removable};
use berth_supervise::unblock;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::PersistentVolume;
use serde_json::json;
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::reply::{Body, NotServed, json as answer, text};
use crate::agent::Agent;
use crate::local_path::LocalPathError;
use crate::volumes::claim::find_user;

/// A removal that takes longer goes on without the one who asked.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn serve(
    agent: &Arc<Agent>,
    request: &Request<Incoming>,
    volume: &str,
) -> Result<Response<Body>, NotServed> {
    if !is_volume_name(volume) {
        return Err(NotServed::bad(format!(
            "{volume:?} is no name of a local-path volume: expected pvc-UID"
        )));
    }
    let empty = request.uri().query() == Some("empty=true");
    match *request.method() {
        Method::POST => make(agent, volume).await,
        Method::DELETE if empty => {
            let (own, name) = (Arc::clone(agent), volume.to_owned());
            let discarded = unblock(move || own.local_path.discard(&name)).await;
            discarded.map_err(|error| refusal(&error))?;
            Ok(text(StatusCode::OK, "ok"))
        }
        Method::DELETE => remove(agent, volume).await,
        _ => Err(NotServed::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "405: Method Not Allowed".to_owned(),
        )),
    }
}

async fn make(agent: &Arc<Agent>, volume: &str) -> Result<Response<Body>, NotServed> {
    let (own, name) = (Arc::clone(agent), volume.to_owned());
    let made = unblock(move || own.local_path.make(&name)).await;
    let made = made.map_err(|error| refusal(&error))?;
    info!(volume, path = %made.path.display(), "made the directory of a volume");
    Ok(answer(
        &json!({"path": made.path, "freeBytes": made.free_bytes}),
    ))
}

fn refusal(error: &LocalPathError) -> NotServed {
    let status = match error {
        LocalPathError::Full { .. } => StatusCode::INSUFFICIENT_STORAGE,
        LocalPathError::Root { .. }
        | LocalPathError::Missing { .. }
        | LocalPathError::Io { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    };
    NotServed::new(status, error.to_string())
}

async fn remove(agent: &Arc<Agent>, volume: &str) -> Result<Response<Body>, NotServed> {
    let conflict = |why: String| NotServed::new(StatusCode::CONFLICT, why);
    let read = agent.objects.volume(volume).await;
    // One that is not there allows nothing.
    let object: PersistentVolume = read.map_err(|error| conflict(error.to_string()))?;
    let node = &agent.config.node_name;
    let name = removable(&object, node, agent.local_path.root())
        .map_err(|why| conflict(format!("the directory of volume {volume:?} stays: {why}")))?;
    if let Some(pod) = find_user(agent.config.root_dir.join("pods"), &object) {
        return Err(conflict(format!(
            "the directory of volume {volume:?} stays: pod {pod} uses it"
        )));
    }
    if !agent.local_path.begin_removal(name) {
        return Ok(text(StatusCode::ACCEPTED, "it is being removed"));
    }
    let (own, name) = (Arc::clone(agent), name.to_owned());
    let (done, outcome) = oneshot::channel();
    agent.tasks.spawn("volume removal", async move {
        let (inner, inner_name) = (Arc::clone(&own), name.clone());
        let removed = unblock(move || inner.local_path.remove(&inner_name)).await;
        own.local_path.end_removal(&name);
        match &removed {
            Ok(()) => info!(volume = name, "removed the directory of a volume"),
            Err(error) => warn!(volume = name, %error, "the directory of a volume is not removed"),
        }
        let _ = done.send(removed);
    });
    match tokio::time::timeout(PATIENCE, outcome).await {
        Ok(Ok(Ok(()))) => Ok(text(StatusCode::OK, "ok")),
        Ok(Ok(Err(error))) => Err(refusal(&error)),
        Ok(Err(_)) | Err(_) => Ok(text(StatusCode::ACCEPTED, "it is being removed")),
    }
}
