//! Removing what a data directory stands for: processes, mounts, network, cgroups, files.
//!
//! It needs no running berth and no intact records: everything is found by the directory's own paths and
//! names, so it also cleans up after a berth that was killed half-way.

mod bridge;
mod cgroups;
mod mounts;
mod network;
mod processes;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tracing::warn;

/// What is known of the traces.
pub(crate) struct Traces {
    /// The data directory, absolute.
    pub(crate) data: PathBuf,
    /// The run directory.
    pub(crate) run: PathBuf,
    /// Where container logs are.
    pub(crate) pod_logs: PathBuf,
    /// The pods' bridge, which is also the network's name.
    pub(crate) bridge: String,
}

/// What was removed.
#[derive(Debug, Default)]
pub(crate) struct Removed {
    processes: usize,
    mounts: usize,
    cgroups: usize,
    bridge: bool,
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} processes, {} mounts, {} cgroups, {} bridge",
            self.processes,
            self.mounts,
            self.cgroups,
            usize::from(self.bridge)
        )
    }
}

/// Removes all of it. What can't be removed is said in the log, and the rest is removed all the same.
///
/// # Errors
/// When the directories themselves can't be deleted.
pub(crate) async fn remove(traces: &Traces) -> anyhow::Result<Removed> {
    let roots = [traces.data.as_path(), traces.run.as_path()];
    let pods = pod_uids(&traces.data);
    let mut removed = Removed {
        processes: processes::kill(&roots).await,
        ..Removed::default()
    };
    removed.mounts = mounts::detach(&roots);
    removed.bridge = match network::remove(&traces.bridge) {
        Ok(found) => found,
        Err(error) => {
            warn!(
                bridge = traces.bridge,
                "cannot remove the bridge: {error:#}"
            );
            false
        }
    };
    removed.cgroups = cgroups::remove(&pods).await;
    remove_logs(&traces.pod_logs, &pods);
    for root in [&traces.run, &traces.data] {
        match fs::remove_dir_all(root) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot delete {}", root.display()));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(removed)
}

/// The pods that the node agent had here, by uid.
fn pod_uids(data: &Path) -> Vec<String> {
    names(&data.join("node/pods"))
}

fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect()
}

/// Log directories are named `NAMESPACE_NAME_UID`.
fn remove_logs(dir: &Path, pods: &[String]) {
    for name in names(dir) {
        let ours = name
            .rsplit_once('_')
            .is_some_and(|(_, uid)| pods.iter().any(|pod| pod == uid));
        if ours && let Err(error) = fs::remove_dir_all(dir.join(&name)) {
            warn!(name, %error, "cannot delete the logs");
        }
    }
}
