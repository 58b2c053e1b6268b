//! `/containerLogs`: which file, from where, and the stream.

use std::sync::Arc;

use berth_lifecycle::RunState;
use berth_supervise::unblock;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::mpsc;

use super::reply::{Body, NotServed, streamed};
use super::streams::{find, query};
use crate::agent::Agent;
use crate::logs::{Options, stream};
use crate::sandbox_config::log_directory;

/// How far the reader may lag behind, in chunks.
const AHEAD: usize = 16;

pub(super) async fn logs(
    agent: &Arc<Agent>,
    request: &Request<Incoming>,
    ns: &str,
    name: &str,
    container: &str,
) -> Result<Response<Body>, NotServed> {
    let handle = find(agent, ns, name)?;
    let pod = handle.current();
    let known = pod.spec.iter().any(|s| {
        s.containers.iter().any(|c| c.name == container)
            || s.init_containers
                .iter()
                .flatten()
                .any(|c| c.name == container)
            || s.ephemeral_containers
                .iter()
                .flatten()
                .any(|c| c.name == container)
    });
    if !known {
        return Err(NotServed::not_found(format!(
            "container {container:?} not found in pod {:?}",
            format!("{name}_{ns}")
        )));
    }
    let (options, previous) = options(&query(request))?;
    let seen = handle.observed.read().clone();
    let instance = if previous {
        seen.previous(container)
            .or_else(|| seen.latest(container).filter(|c| c.attempt > 0))
    } else {
        seen.latest(container)
    };
    let attempt = match (instance, previous) {
        (Some(c), true) if seen.previous(container).is_none() => c.attempt - 1,
        (Some(c), _) => c.attempt,
        (None, true) => {
            return Err(NotServed::bad(format!(
                "previous terminated container {container:?} in pod {name:?} not found"
            )));
        }
        (None, false) => {
            let reason = waiting_reason(&pod, container);
            return Err(NotServed::bad(format!(
                "container {container:?} in pod {name:?} is waiting to start: {reason}"
            )));
        }
    };
    let file = log_directory(agent, &pod)
        .join(container)
        .join(format!("{attempt}.log"));
    let (out, chunks) = mpsc::channel(AHEAD);
    let id = instance.map(|c| c.id.clone());
    let alive = move || {
        handle.observed.read().containers.iter().any(|c| {
            Some(&c.id) == id.as_ref() && matches!(c.state, RunState::Running | RunState::Created)
        })
    };
    let path = file.clone();
    match unblock(move || crate::logs::open(&path)).await {
        Ok(_) => {}
        // Nothing was written yet.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            let message = format!("failed to open log file {}: {error}", file.display());
            return Err(NotServed::new(StatusCode::INTERNAL_SERVER_ERROR, message));
        }
    }
    let shutdown = agent.tasks.stop_token();
    agent.tasks.spawn_isolated("log stream", async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = stream(file, options, alive, out) => {}
        }
    });
    Ok(streamed(chunks))
}

fn waiting_reason(pod: &k8s_openapi::api::core::v1::Pod, container: &str) -> String {
    let status = pod.status.as_ref();
    let all = status.into_iter().flat_map(|s| {
        s.container_statuses
            .iter()
            .flatten()
            .chain(s.init_container_statuses.iter().flatten())
    });
    let mut all = all.filter(|s| s.name == container);
    all.next()
        .and_then(|s| s.state.clone()?.waiting?.reason)
        .unwrap_or_else(|| "ContainerCreating".to_owned())
}

fn options(query: &[(String, String)]) -> Result<(Options, bool), NotServed> {
    let get = |name: &str| {
        query
            .iter()
            .find(|(k, _)| k == name)
            .map(|(_, v)| v.as_str())
    };
    let flag = |name: &str| matches!(get(name), Some("true" | "1"));
    let number = |name: &str| -> Result<Option<i64>, NotServed> {
        match get(name) {
            None | Some("") => Ok(None),
            Some(text) => match text.parse::<i64>() {
                Ok(n) if n >= 0 => Ok(Some(n)),
                Ok(_) | Err(_) => Err(NotServed::bad(format!(
                    "{name}={text:?} is not a number of 0 or more"
                ))),
            },
        }
    };
    let size = |n: Option<i64>| n.and_then(|n| usize::try_from(n).ok());
    let mut since =
        match get("sinceTime") {
            None | Some("") => None,
            Some(text) => Some(text.parse::<Timestamp>().map_err(|_| {
                NotServed::bad(format!("sinceTime={text:?} is not an RFC 3339 time"))
            })?),
        };
    if let Some(seconds) = number("sinceSeconds")? {
        let ago = SignedDuration::from_secs(seconds);
        since = Timestamp::now().saturating_sub(ago).ok();
    }
    let options = Options {
        follow: flag("follow"),
        timestamps: flag("timestamps"),
        since,
        tail: size(number("tailLines")?),
        limit_bytes: size(number("limitBytes")?),
        stream: match get("stream") {
            None | Some("" | "All") => None,
            Some("Stdout") => Some("Stdout"),
            Some("Stderr") => Some("Stderr"),
            Some(other) => {
                return Err(NotServed::bad(format!(
                    "stream={other:?} is none of All, Stdout and Stderr"
                )));
            }
        },
    };
    Ok((options, flag("previous")))
}
