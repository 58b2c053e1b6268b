//! Removing what a data directory stands for: processes, mounts, network, cgroups, files.
//!
//! It needs no running berth and no intact records: everything is found by the directory's own paths and
//! names, so it also cleans up after a berth that was killed half-way.

mod bridge;
mod cgroups;
mod mounts;
mod network;
mod processes;
mod profile;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use berth_net::nft::NftError;
use tracing::warn;

/// What is known of the traces.
pub(crate) struct Traces {
    /// The data directory, absolute.
    pub(crate) data: PathBuf,
    /// Every run directory that it was used with.
    pub(crate) runs: Vec<PathBuf>,
    /// Where container logs are.
    pub(crate) pod_logs: PathBuf,
    /// The name of the pods' network, which is also that of its bridge unless a flag says otherwise.
    pub(crate) network: String,
    /// The bridges that flags named.
    pub(crate) bridges: Vec<String>,
}

/// What was removed.
#[derive(Debug, Default)]
pub(crate) struct Removed {
    processes: usize,
    mounts: usize,
    cgroups: usize,
    bridge: bool,
    profile: profile::Outcome,
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} processes, {} mounts, {} cgroups, {} bridge{}",
            self.processes,
            self.mounts,
            self.cgroups,
            usize::from(self.bridge),
            self.profile
        )
    }
}

/// Removes all of it. What can't be removed is said in the log, and the rest is removed all the same.
///
/// # Errors
/// When the directories themselves can't be deleted.
pub(crate) async fn remove(traces: &Traces) -> anyhow::Result<Removed> {
    // As the kernel names them in its list of mounts.
    let mut runs = Vec::new();
    for run in &traces.runs {
        runs.push(match run.canonicalize() {
            Ok(run) => run,
            Err(error) if error.kind() == io::ErrorKind::NotFound => run.clone(),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot resolve {}", run.display()));
            }
        });
    }
    // Not the run directory itself: `/run`, named by mistake, has the mounts and processes of others below it.
    let inside = runs
        .iter()
        .flat_map(|run| ["cri", "cri.sock"].map(|name| run.join(name)));
    let inside: Vec<PathBuf> = inside.collect();
    let mut roots = vec![traces.data.as_path()];
    roots.extend(inside.iter().map(PathBuf::as_path));
    let pods = pod_uids(&traces.data);
    // Those of sandboxes that waited for a pod are in no pod's.
    let bundles = runs.iter().flat_map(|run| names(&run.join("cri/bundles")));
    let sandboxes: Vec<String> = bundles.collect();
    let mut removed = Removed {
        processes: processes::kill(&roots).await,
        ..Removed::default()
    };
    removed.mounts = mounts::detach(&roots)?;
    let bridges = std::iter::once(&traces.network).chain(&traces.bridges);
    for bridge in bridges.collect::<BTreeSet<_>>() {
        match network::remove(bridge) {
            Ok(found) => removed.bridge |= found,
            Err(error) => warn!(bridge, "cannot remove the bridge: {error:#}"),
        }
        match berth_net::nft::remove_network(bridge).await {
            // Without nft there was nobody who made one.
            Ok(_) | Err(NftError::Run(_)) => {}
            Err(error) => {
                warn!(network = bridge, %error, "cannot remove the network's tables of nftables");
            }
        }
    }
    removed.cgroups = cgroups::remove(&pods, &sandboxes).await;
    remove_logs(&traces.pod_logs, &pods);
    for run in &runs {
        remove_run(run)?;
    }
    removed.profile = profile::remove();
    let data = &traces.data;
    berth_tree::remove(data).with_context(|| format!("cannot delete {}", data.display()))?;
    Ok(removed)
}

/// Removes what berth has in the run directory, and the directory if that was all. Unlike the data directory it carries no
/// mark, and may be a directory of somebody else's that was named by mistake.
fn remove_run(run: &Path) -> anyhow::Result<()> {
    // The second one is for the events of third-party shims.
    for name in ["cri.sock", "cri.sock.ttrpc"] {
        let socket = run.join(name);
        match fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot delete {}", socket.display()));
            }
            Ok(()) | Err(_) => {}
        }
    }
    let state = run.join("cri");
    berth_tree::remove(&state).with_context(|| format!("cannot delete {}", state.display()))?;
    match fs::remove_dir(run) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
            warn!(run = %run.display(), "the run directory is kept: it holds what is not berth's");
            Ok(())
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot delete {}", run.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
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
        if ours && let Err(error) = berth_tree::remove(&dir.join(&name)) {
            warn!(name, %error, "cannot delete the logs");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_run_directory_only_what_is_berths_goes() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        fs::create_dir_all(run.join("cri/bundles")).unwrap();
        fs::write(run.join("cri.sock"), "").unwrap();
        fs::write(run.join("cri.sock.ttrpc"), "").unwrap();
        fs::write(run.join("docker.sock"), "").unwrap();
        remove_run(&run).unwrap();
        assert_eq!(names(&run), ["docker.sock"]);
        fs::remove_file(run.join("docker.sock")).unwrap();
        remove_run(&run).unwrap();
        assert!(!run.exists());
        remove_run(&run).unwrap();
    }
}
