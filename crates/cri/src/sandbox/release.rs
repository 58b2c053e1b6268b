//! `StopPodSandbox` and `RemovePodSandbox`: giving back what a sandbox holds, as often as asked.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use berth_cri_api::v1::ContainerEventType;
use berth_oci::runtime::RuntimeCommand;
use berth_shim::client::{self, Shim};

use super::{Sandbox, leftovers, lost, sandboxer, unmount};
use crate::cni;
use crate::container;
use crate::engine::{Engine, Shared, blocking, now};
use crate::error::CriError;
use crate::layout::{Layout, remove_tree};
use crate::netns;
use crate::record::Phase;

/// How long gVisor's containers may take to notice that their sandbox is gone.
const NOTICE: Duration = Duration::from_secs(5);
/// How long a killed sandbox container may need to be gone.
const AFTER_KILL: Duration = Duration::from_secs(10);

/// Ends everything in the sandbox and gives its network back. One that isn't there is fine.
pub(crate) async fn stop(engine: &Shared, id: &str) -> Result<(), CriError> {
    let sandbox = match engine.sandboxes.get(id) {
        Err(CriError::NotFound { .. }) => return Ok(engine.held.check(id)?),
        found => found?,
    };
    let _closed = sandbox.open.write().await;
    if engine.sandboxes.get(&sandbox.id).is_err() {
        // Somebody else has removed it meanwhile.
        return Ok(());
    }
    release(engine, &sandbox).await
}

/// Removes the sandbox and its containers, whatever state they are in.
pub(crate) async fn remove(engine: &Shared, id: &str) -> Result<(), CriError> {
    let sandbox = match engine.sandboxes.get(id) {
        Err(CriError::NotFound { .. }) => return Ok(engine.held.check(id)?),
        found => found?,
    };
    let _closed = sandbox.open.write().await;
    if engine.sandboxes.get(&sandbox.id).is_err() {
        // Somebody else has removed it meanwhile.
        return Ok(());
    }
    release(engine, &sandbox).await?;
    for container in container::of_sandbox(engine, &sandbox.id) {
        container::remove(engine, &container.id).await?;
    }
    forget(engine, &sandbox).await?;
    let record = sandbox.record();
    let metadata = record.config.0.metadata.clone().unwrap_or_default();
    let lived = now().saturating_sub(record.created_at) / 1_000_000_000;
    tracing::info!(
        pod = metadata.name,
        namespace = metadata.namespace,
        id = sandbox.id,
        handler = record.runtime.handler,
        lived = format!("{lived} s"),
        "pod sandbox removed"
    );
    engine
        .events
        .sandbox(engine, ContainerEventType::ContainerDeletedEvent, &sandbox);
    Ok(())
}

/// Removes a sandbox that was never whole.
pub(crate) async fn discard(engine: &Shared, sandbox: &Arc<Sandbox>) -> Result<(), CriError> {
    let released = release(engine, sandbox).await;
    if let Err(CriError::LeftBehind { .. }) = released {
        // It is listed, so that its client stops and removes it until nothing is left.
        sandbox.update(|record| record.phase = Phase::NotReady)?;
        engine.sandboxes.insert(&sandbox.id, Arc::clone(sandbox));
        return released;
    }
    forget(engine, sandbox).await?;
    released
}

/// Stops all processes, then gives back network, namespaces and mounts. The record stays.
pub(crate) async fn release(engine: &Shared, sandbox: &Arc<Sandbox>) -> Result<(), CriError> {
    let record = sandbox.record();
    if record.released {
        return Ok(());
    }
    if record.phase == Phase::Ready {
        sandbox.update(|record| record.phase = Phase::NotReady)?;
    }
    // Nobody in the pod is asked any more, so its network may go at the same time.
    let (processes, network) =
        tokio::join!(end_processes(engine, sandbox), detach(engine, sandbox));
    processes?;
    network?;
    if sandbox.record().shim_lost || leftovers::is_something_left(engine, sandbox).await? {
        leftovers::end(engine, sandbox).await?;
    }
    let shared = Arc::clone(engine);
    let id = record.id.clone();
    let other_shim = record.runtime.other_shim().is_some();
    let waited_in = record.waited_in.clone();
    let unfinished = record.phase == Phase::Creating;
    let gvisor = record.runtime.gvisor().cloned();
    let shim = record.runtime.shim(&engine.config);
    blocking(move || {
        // Before the bundle goes, which says where they are.
        client::remove_dead_sockets(&shim, &id, &shared.layout.bundle(&id));
        if other_shim {
            leftovers::remove_cgroups(&shared, &id);
        }
        if waited_in.is_some() || unfinished {
            remove_cgroups(&shared, &id, waited_in.as_deref());
        }
        if let Some(command) = &gvisor {
            remove_notes(command, &id);
        }
        give_back(&shared.layout, &id)
    })
    .await?;
    if record.phase != Phase::Creating {
        sandbox.update(|record| {
            record.released = true;
            record.phase = Phase::NotReady;
        })?;
        engine
            .events
            .sandbox(engine, ContainerEventType::ContainerStoppedEvent, sandbox);
    }
    Ok(())
}

/// Removes the cgroups that a sandbox's runtime may not know of, with what still runs in them: that of a sandbox which was
/// never whole, since a runtime that was killed has made it before it has noted so anywhere, and of one that waited for its
/// pod the cgroup that it was moved to.
fn remove_cgroups(engine: &Engine, id: &str, waited_in: Option<&Path>) {
    let pod = super::spec::cgroup(&engine.layout.bundle(id));
    for path in pod.iter().map(PathBuf::as_path).chain(waited_in) {
        remove_cgroup_at(id, path);
    }
}

fn remove_cgroup_at(id: &str, path: &Path) {
    if let Err(error) = berth_runtime::remove_cgroup(id, path) {
        let error = crate::error::chain(&error);
        tracing::warn!(id, error, "a cgroup is left behind");
    }
}

/// Removes the cgroup of a container that has ended, should there be one left.
pub(super) async fn remove_cgroup(engine: &Engine, id: &str) {
    let (id, bundle) = (id.to_owned(), engine.layout.bundle(id));
    let removed = blocking(move || {
        if let Some(path) = super::spec::cgroup(&bundle) {
            remove_cgroup_at(&id, &path);
        }
        Ok(())
    });
    let _ = removed.await;
}

/// Removes what a runsc that was killed has left of a sandbox in its directory: it locks and notes each container in a file
/// named by container and sandbox.
fn remove_notes(command: &RuntimeCommand, id: &str) {
    let end = format!("_sandbox:{id}");
    for entry in std::fs::read_dir(&command.root)
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let stem = name
            .strip_suffix(".lock")
            .or_else(|| name.strip_suffix(".state"));
        if stem.is_some_and(|stem| stem.ends_with(&end)) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

async fn detach(engine: &Engine, sandbox: &Sandbox) -> Result<(), CriError> {
    let Some(attachment) = sandbox.record().attachment.clone() else {
        return Ok(());
    };
    cni::delete(&attachment, &engine.plugin_dirs()).await?;
    sandbox.update(|record| record.attachment = None)
}

async fn end_processes(engine: &Shared, sandbox: &Arc<Sandbox>) -> Result<(), CriError> {
    let containers = container::of_sandbox(engine, &sandbox.id);
    if let (Some(_), Ok(shim)) = (sandbox.record().runtime.gvisor(), sandbox.shim())
        && !containers.is_empty()
        && shim.kill(&sandbox.id, 9, true).await.is_ok()
    {
        // All processes were the sandbox's: one call has ended them, and each container notices.
        let ends = containers.iter().map(|container| container.stopped());
        let ends = futures::future::join(futures::future::join_all(ends), shim.wait(&sandbox.id));
        let _ = tokio::time::timeout(NOTICE, ends).await;
    }
    let stops = containers
        .iter()
        .map(|container| container::stop(engine, &container.id, 0));
    futures::future::try_join_all(stops).await?;
    if let Ok(shim) = sandbox.shim() {
        // Nobody knows anything of them but that they are the pod's: they end with it.
        for id in engine.held.of_sandbox(&sandbox.id) {
            tracing::warn!(id, "ending a container whose record can't be read");
            let _ = shim.kill(&id, 9, true).await;
            let _ = tokio::time::timeout(AFTER_KILL, shim.wait(&id)).await;
            let _ = shim.delete(&id).await;
        }
    }
    let record = sandbox.record();
    let deleted = futures::future::join_all(containers.iter().map(|container| container.deleted()));
    let Ok(shim) = sandbox.shim() else {
        deleted.await;
        // A stranger's may have died, or have been told to end by a server that was killed then.
        client::end_keeper(&engine.layout.bundle(&record.id)).await;
        return Ok(());
    };
    if record.runtime.gvisor().is_some() {
        // Its processes have ended together; what is left are files, each container's its own.
        tokio::join!(deleted, end_pause(engine, sandbox, &shim));
    } else {
        deleted.await;
        end_pause(engine, sandbox, &shim).await;
    }
    let _ = shim.shutdown(&record.id, true).await;
    sandbox.set_shim(None);
    Ok(())
}

/// Ends the sandbox container, where there is one. Gone already is as good.
async fn end_pause(engine: &Engine, sandbox: &Sandbox, shim: &Shim) {
    let record = sandbox.record();
    if record.runtime.sandbox_service {
        return sandboxer::stop(engine, sandbox, shim).await;
    }
    if !record.pause {
        return;
    }
    if shim.kill(&record.id, 9, true).await.is_ok() {
        let _ = tokio::time::timeout(AFTER_KILL, shim.wait_answered(&record.id)).await;
    }
    match shim.delete(&record.id).await {
        Ok(_) => {}
        Err(error) if error.is_not_found() => {}
        Err(error) if error.is_disconnected() => {
            lost::note_lost(sandbox);
            let _alone = sandbox.ending.lock().await;
            lost::end_pause(engine, &record).await;
        }
        Err(error) => {
            tracing::warn!(id = record.id, %error, "the sandbox container could not be deleted")
        }
    }
}

/// Namespaces, mounts and the files below the state directory.
pub(crate) fn give_back(layout: &Layout, id: &str) -> Result<(), CriError> {
    let pod = layout.pod(id);
    netns::unpin(&pod).map_err(CriError::io("unpin the namespaces in", &pod))?;
    let shm = pod.join("shm");
    unmount(&shm).map_err(CriError::io("unmount", &shm))?;
    let network = super::proc_net(&pod);
    unmount(&network).map_err(CriError::io("unmount", &network))?;
    let bundle = layout.bundle(id);
    let rootfs = bundle.join("rootfs");
    unmount(&rootfs).map_err(CriError::io("unmount", &rootfs))?;
    remove_tree(&pod).map_err(CriError::io("remove", &pod))?;
    remove_tree(&bundle).map_err(CriError::io("remove", &bundle))
}

async fn forget(engine: &Shared, sandbox: &Sandbox) -> Result<(), CriError> {
    let layout = engine.layout.clone();
    let id = sandbox.id.clone();
    blocking(move || {
        give_back(&layout, &id)?;
        let dir = layout.sandbox_record(&id);
        remove_tree(&dir).map_err(CriError::io("remove", dir))
    })
    .await?;
    engine.sandboxes.remove(&sandbox.id);
    Ok(())
}
