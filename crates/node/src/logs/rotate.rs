//! Keeps logs small: a large one is renamed, the runtime reopens it, and the oldest are removed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use berth_cri_api::v1::ReopenContainerLogRequest;
use berth_lifecycle::RunState;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::rotated;
use crate::agent::Agent;
use crate::cri::rpc_message;
use crate::sandbox_config::log_directory;

const EVERY: Duration = Duration::from_secs(10);

/// Looks at every running container's log until `shutdown`.
pub(crate) async fn keep(agent: Arc<Agent>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        for handle in agent.handles() {
            let pod = handle.pod.borrow().clone();
            let running: Vec<_> = handle
                .observed
                .read()
                .containers
                .iter()
                .filter(|c| c.state == RunState::Running)
                .cloned()
                .collect();
            for c in running {
                let log = log_directory(&agent, &pod)
                    .join(&c.name)
                    .join(format!("{}.log", c.attempt));
                rotate(&agent, &log, &c.id).await;
            }
        }
    }
}

async fn rotate(agent: &Agent, log: &Path, id: &str) {
    let Ok(meta) = std::fs::symlink_metadata(log) else {
        return;
    };
    if !meta.is_file() || meta.len() <= agent.config.log_max_bytes {
        return;
    }
    let stamp = Timestamp::now().strftime("%Y%m%d-%H%M%S").to_string();
    let mut name = log.as_os_str().to_owned();
    name.push(format!(".{stamp}"));
    if let Err(error) = std::fs::rename(log, &name) {
        warn!(log = %log.display(), %error, "log not rotated");
        return;
    }
    let request = ReopenContainerLogRequest {
        container_id: id.to_owned(),
    };
    if let Err(e) = agent.cri.runtime().reopen_container_log(request).await {
        warn!(log = %log.display(), error = %rpc_message(&e), "ReopenContainerLog");
        // The runtime still writes to the old file: give it its name back.
        let _ = std::fs::rename(&name, log);
        return;
    }
    prune(log, agent.config.log_max_files);
}

/// Keeps `files` files, the current one included.
fn prune(log: &Path, files: u32) {
    let list = rotated(log);
    let keep = usize::try_from(files.saturating_sub(1)).unwrap_or(usize::MAX);
    let surplus = list.len().saturating_sub(keep);
    for path in &list[..surplus] {
        debug!(path = %path.display(), "old log removed");
        let _ = std::fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        for stamp in ["20261121-220000", "20261121-220010", "20261121-220020"] {
            std::fs::write(dir.path().join(format!("0.log.{stamp}")), "").unwrap();
        }
        std::fs::write(&log, "").unwrap();
        prune(&log, 3);
        let left: Vec<String> = rotated(&log)
            .iter()
            .map(|p| p.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(left, ["0.log.20261121-220010", "0.log.20261121-220020"]);
    }
}
