//! What another's shim leaves behind when it is killed: a virtual machine's monitor, its helpers, mounts and directories
//! that shims share with it.
//!
//! Our own shim's containers are children of the shim and known to their runtime, whose `delete` ends them. Another's shim
//! may have started whatever it likes, and its `delete` may know nothing of that (Kata's answers and leaves the virtual
//! machine running). So berth looks itself, after `delete` had its chance: as soon as the shim is lost, and again at each
//! `StopPodSandbox` until nothing is left.

mod directories;
mod processes;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use berth_shim::client::Shim;

use processes::Owner;
pub(crate) use processes::{ProcessId, ShimProcesses};

use super::{Sandbox, unmount};
use crate::container;
use crate::engine::{Engine, Shared, blocking};
use crate::error::{CriError, chain};
use crate::record::Phase;

/// How long the `delete` of containers is waited for before what is left is ended.
const CONTAINERS: Duration = Duration::from_secs(45);
/// How long a shim that was told to end may take, and what it ends by itself.
const PATIENCE: Duration = Duration::from_secs(2);

/// Notes which processes another's shim has, for the time when it is gone. Nothing to do with our own.
pub(crate) async fn note_processes(engine: &Engine, sandbox: &Sandbox, shim: &Shim) {
    let record = sandbox.record();
    let Some(binary) = record.runtime.other_shim().map(Path::to_owned) else {
        return;
    };
    // One that doesn't answer is about to be found lost.
    let Ok(pid) = shim.shim_pid(&record.id).await else {
        return;
    };
    let ids = all_ids(engine, &record.id);
    let looked = blocking(move || {
        let before = &record.shim_processes;
        Ok(processes::look(pid, &record.id, &binary, &ids, before))
    });
    let noted = match looked.await {
        Ok(Some(found)) => sandbox.update(|record| record.shim_processes = found),
        Ok(None) => {
            tracing::warn!(
                id = sandbox.id,
                pid,
                "the process that the shim names as itself is not the shim"
            );
            return;
        }
        Err(error) => Err(error),
    };
    if let Err(error) = noted {
        let error = chain(&error);
        tracing::warn!(id = sandbox.id, error, "the shim's processes are not noted");
    }
}

/// Whether another's shim that was told to end, and has said that all is done, has left something after all. Kata's does when
/// two of its own ways to clean up meet.
pub(super) async fn is_something_left(
    engine: &Shared,
    sandbox: &Arc<Sandbox>,
) -> Result<bool, CriError> {
    let record = sandbox.record();
    if record.runtime.other_shim().is_none() || record.released {
        return Ok(false);
    }
    let spared = other_shims(engine, &sandbox.id);
    blocking(move || {
        let directories = directories::of(&record.id, &record.runtime.sandbox_dirs);
        let left = processes::wait_for_end(&record.shim_processes, &spared, PATIENCE, || {
            directories.iter().all(|directory| !directory.exists())
        });
        if left {
            tracing::warn!(
                id = record.id,
                "the shim has not removed all that it had of a pod sandbox"
            );
        }
        Ok(left)
    })
    .await
}

/// Ends what a lost shim has left as soon as the `delete` of its containers has ended, so that no virtual machine runs on
/// until somebody stops its pod.
pub(crate) async fn end_early(engine: Shared, sandbox: Arc<Sandbox>) {
    let containers = container::of_sandbox(&engine, &sandbox.id);
    let stops = containers.iter().map(|container| container.stopped());
    let _ = tokio::time::timeout(CONTAINERS, futures::future::join_all(stops)).await;
    if let Err(error) = end(&engine, &sandbox).await {
        tracing::warn!(
            id = sandbox.id,
            error = chain(&error),
            "a lost shim's leftovers remain until the pod sandbox is stopped"
        );
    }
}

/// Ends what a lost shim has left.
///
/// # Errors
/// [`CriError::LeftBehind`] names what is still there.
pub(crate) async fn end(engine: &Shared, sandbox: &Arc<Sandbox>) -> Result<(), CriError> {
    let _alone = sandbox.ending.lock().await;
    let record = sandbox.record();
    if record.released {
        return Ok(());
    }
    let patience = match record.phase {
        Phase::Creating => PATIENCE,
        Phase::Ready | Phase::NotReady => Duration::ZERO,
    };
    let (engine, sandbox) = (Arc::clone(engine), Arc::clone(sandbox));
    blocking(move || end_now(&engine, &sandbox, patience)).await
}

fn end_now(engine: &Engine, sandbox: &Sandbox, patience: Duration) -> Result<(), CriError> {
    let record = sandbox.record();
    let containers = container::of_sandbox(engine, &sandbox.id);
    let mut ids: BTreeSet<String> = containers.iter().map(|item| item.id.clone()).collect();
    ids.insert(sandbox.id.clone());
    let directories = directories::of(&sandbox.id, &record.runtime.sandbox_dirs);
    let owner = Owner {
        sandbox: sandbox.id.clone(),
        others: all_ids(engine, &sandbox.id)
            .difference(&ids)
            .cloned()
            .collect(),
        ids,
        directories: directories.clone(),
        recorded: record.shim_processes.clone(),
        spared: other_shims(engine, &sandbox.id),
    };
    let mut left = processes::end(&owner, patience);
    for id in &owner.ids {
        let rootfs = engine.layout.bundle(id).join("rootfs");
        unmount(&rootfs).map_err(CriError::io("unmount", &rootfs))?;
    }
    for directory in directories {
        if let Err(error) = directories::remove(&directory) {
            left.push(format!("directory {}: {error}", directory.display()));
        }
    }
    if left.is_empty() {
        return Ok(());
    }
    Err(CriError::LeftBehind {
        id: sandbox.id.clone(),
        left: left.join("; "),
    })
}

/// Removes the cgroups that another's shim has made for a pod and not removed. They are empty by now; one that isn't stays.
pub(super) fn remove_cgroups(engine: &Engine, sandbox_id: &str) {
    let containers = container::of_sandbox(engine, sandbox_id);
    let cgroups: Vec<PathBuf> = containers
        .iter()
        .map(|container| container.record().cgroup.clone())
        .chain(super::spec::cgroup(&engine.layout.bundle(sandbox_id)))
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    directories::remove_cgroups(&engine.host.cgroups, &cgroups);
}

/// The ids of all sandboxes and containers, and of one sandbox that may not be in the list yet.
fn all_ids(engine: &Engine, sandbox_id: &str) -> BTreeSet<String> {
    let sandboxes = [engine.sandboxes.all(), engine.warm.all()].concat();
    let containers = engine.containers.all();
    let held = engine.held.all().into_iter().map(|(id, _)| id);
    sandboxes
        .iter()
        .map(|sandbox| sandbox.id.clone())
        .chain(containers.iter().map(|container| container.id.clone()))
        .chain(held)
        .chain([sandbox_id.to_owned()])
        .collect()
}

/// Shims of other pods. One shim may serve several.
fn other_shims(engine: &Engine, sandbox_id: &str) -> Vec<ProcessId> {
    let others = [engine.sandboxes.all(), engine.warm.all()].concat();
    others
        .iter()
        .filter(|other| other.id != sandbox_id)
        .map(|other| other.record())
        .filter(|record| !record.shim_lost && !record.released)
        .filter_map(|record| record.shim_processes.shim())
        .collect()
}
