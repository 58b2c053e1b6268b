//! Taking over what an earlier server left: reconnect to shims, learn what ended meanwhile, and
//! give back what belongs to nobody.

mod resume;
mod sweep;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use berth_shim::client::{Shim, ShimError, Status, recorded_oom_kill};

use serde::de::DeserializeOwned;

use crate::container::{self, Container};
use crate::engine::{Shared, blocking};
use crate::error::{CriError, chain};
use crate::held::{self, HeldItem};
use crate::layout::{self, remove_tree};
use crate::record::{self, ContainerPhase, ContainerRecord, Found, Phase, SandboxRecord};
use crate::sandbox::{self, Sandbox};
use crate::warm;

/// Loads all records and finds their processes.
pub(crate) async fn restore(engine: &Shared) -> Result<(), CriError> {
    let records = load::<SandboxRecord>(engine, &engine.layout.sandboxes(), true)?;
    let (waiting, sandboxes): (Vec<_>, Vec<_>) = records.into_iter().partition(warm::is_pooled);
    let [waiting, sandboxes] = [waiting, sandboxes].map(|records| {
        let all = records.into_iter();
        all.map(|record| Arc::new(Sandbox::new(engine, record)))
            .collect::<Vec<_>>()
    });
    let known: BTreeSet<String> = waiting.iter().map(|item| item.id.clone()).collect();
    for sandbox in &sandboxes {
        // Two of one name can only be a leftover beside a whole one; both must be reachable.
        let _ = engine
            .sandboxes
            .reserve(&sandbox::name(&sandbox.record().config.0), &sandbox.id);
        engine.sandboxes.insert(&sandbox.id, Arc::clone(sandbox));
    }
    for record in load::<ContainerRecord>(engine, &engine.layout.containers(), false)? {
        if let Ok(pod) = engine.sandboxes.get(&record.sandbox_id) {
            let name = container::name(&record.config.0, &pod.record().config.0);
            let _ = engine.containers.reserve(&name, &record.id);
        }
        let id = record.id.clone();
        engine
            .containers
            .insert(&id, Arc::new(Container::new(engine, record)));
    }
    close_old(engine);
    mark_ports(&sandboxes);
    tokio::join!(
        futures::future::join_all(sandboxes.iter().map(|sandbox| take_over(engine, sandbox))),
        futures::future::join_all(waiting.iter().map(|sandbox| warm::adopt(engine, sandbox))),
    );
    let shared = Arc::clone(engine);
    blocking(move || sweep::sweep(&shared, known)).await
}

/// Marks the ports of pods that a berth before this one has started.
fn mark_ports(sandboxes: &[Arc<Sandbox>]) {
    for sandbox in sandboxes {
        let record = sandbox.record();
        if let Some(attachment) = &record.attachment
            && record.phase == Phase::Ready
        {
            sandbox::mark_port(&record.id, attachment);
        }
    }
}

/// Closes to local users what a berth before this one has left open. What can't be closed is told, and no reason to leave
/// all pods alone.
fn close_old(engine: &Shared) {
    let layout = &engine.layout;
    let close = |id: &str, dir: PathBuf, pod: &SandboxRecord| {
        let closed = sandbox::root_of(&pod.config.0).and_then(|root| {
            let bundle = layout.bundle(id);
            layout::close_old(&[dir], &bundle, root)
                .map_err(CriError::io("close to local users", bundle))
        });
        if let Err(error) = closed {
            tracing::error!(
                id,
                error = chain(&error),
                "its files may be open to local users"
            );
        }
    };
    for sandbox in engine.sandboxes.all() {
        close(&sandbox.id, layout.pod(&sandbox.id), &sandbox.record());
    }
    for container in engine.containers.all() {
        if let Ok(sandbox) = engine.sandboxes.get(&container.record().sandbox_id) {
            let dir = layout.container_record(&container.id);
            close(&container.id, dir, &sandbox.record());
        }
    }
}

/// The records below `dir`. One that can't be read is held; a folder without one is a leftover, and removed.
fn load<T: DeserializeOwned>(
    engine: &Shared,
    dir: &Path,
    is_sandbox: bool,
) -> Result<Vec<T>, CriError> {
    let mut records = Vec::new();
    for found in record::load::<T>(dir)? {
        match found {
            Found::Whole(record) => records.push(*record),
            Found::Nothing(folder) => {
                tracing::info!(folder = %folder.display(), "removing a folder without a record");
                remove_tree(&folder).map_err(CriError::io("remove", folder))?;
            }
            Found::Unreadable { id, record, reason } => {
                tracing::error!(
                    id,
                    record = %record.display(),
                    reason,
                    "a record can't be read: nothing of what it stands for is touched; \
                     repair it and name it record.json, or end what runs and remove its directory"
                );
                let item = HeldItem {
                    record,
                    reason,
                    identity: held::identity_in(&engine.layout.bundle(&id)),
                    is_sandbox,
                };
                engine.held.add(id, item);
            }
        }
    }
    Ok(records)
}

async fn take_over(engine: &Shared, sandbox: &Arc<Sandbox>) {
    let record = sandbox.record();
    let result = match record.phase {
        Phase::Creating => {
            tracing::info!(
                id = sandbox.id,
                "removing a pod sandbox that was never whole"
            );
            sandbox::end_unfinished(engine, sandbox).await;
            sandbox::discard(engine, sandbox).await
        }
        Phase::Ready => reconnect(engine, sandbox).await,
        Phase::NotReady if record.released => Ok(()),
        Phase::NotReady => {
            // Its DEL may still be under way; the next one is to find it done.
            sandbox::end_plugins(&sandbox.id).await;
            reconnect(engine, sandbox).await
        }
    };
    if let Err(error) = result {
        tracing::error!(
            id = sandbox.id,
            error = chain(&error),
            "a pod sandbox could not be taken over"
        );
    }
}

async fn reconnect(engine: &Shared, sandbox: &Arc<Sandbox>) -> Result<(), CriError> {
    let record = sandbox.record();
    let config = record.runtime.shim(&engine.config);
    let bundle = engine.layout.bundle(&record.id);
    let error = match Shim::reconnect(&config, &bundle).await {
        Ok(shim) => match resume_all(engine, sandbox, &shim).await {
            Ok(()) => return Ok(()),
            // It has died since it answered.
            Err(CriError::Shim { source, .. }) if source.is_disconnected() => source,
            Err(error) => return Err(error),
        },
        Err(error) => error,
    };
    lose_all(engine, sandbox, &error).await
}

/// A sandbox whose shim answers.
async fn resume_all(engine: &Shared, sandbox: &Arc<Sandbox>, shim: &Shim) -> Result<(), CriError> {
    let record = sandbox.record();
    let bundle = engine.layout.bundle(&record.id);
    sandbox.set_shim(Some(shim.clone()));
    sandbox::note_processes(engine, sandbox, shim).await;
    if record.phase == Phase::Ready
        && let Err(error) = sandbox.place(&bundle).await
    {
        let error = chain(&error);
        tracing::warn!(id = sandbox.id, error, "not in the pod's cgroup");
    }
    for container in &container::of_sandbox(engine, &sandbox.id) {
        resume::resume(engine, container, shim, &record).await?;
    }
    if record.phase == Phase::Ready {
        sandbox::follow(engine, sandbox);
    }
    if record.phase == Phase::Ready && !record.has_own_process() {
        sandbox::watch(engine, sandbox, shim.clone());
    } else if record.phase == Phase::Ready {
        let runs = if record.runtime.sandbox_service {
            shim.is_sandbox_ready(&record.id).await
        } else {
            let runs = |status| matches!(status, Status::Running | Status::Created);
            let state = shim.state(&record.id).await;
            state.map(|state| runs(state.status))
        };
        match runs {
            Ok(true) => sandbox::watch(engine, sandbox, shim.clone()),
            Err(error) if error.is_disconnected() => {
                return Err(CriError::shim("look at pod sandbox", &record.id)(error));
            }
            Ok(false) | Err(_) => sandbox.update(|record| record.phase = Phase::NotReady)?,
        }
    }
    Ok(())
}

/// A sandbox whose shim is gone.
async fn lose_all(
    engine: &Shared,
    sandbox: &Arc<Sandbox>,
    error: &ShimError,
) -> Result<(), CriError> {
    let record = sandbox.record();
    tracing::warn!(
        id = sandbox.id,
        error = chain(error),
        "the shim of a pod sandbox is gone"
    );
    sandbox.set_shim(None);
    for container in &container::of_sandbox(engine, &sandbox.id) {
        // One that was taken over before the shim died has somebody who waits for its end.
        if !container.is_watched() {
            lost(engine, container, &record).await?;
        }
    }
    if record.has_own_process() && engine.layout.bundle(&record.id).exists() {
        let _ = sandbox::end_without_shim(engine, &record, &record.id).await;
    }
    sandbox::note_lost(sandbox);
    sandbox.update(|record| record.phase = Phase::NotReady)?;
    if sandbox.record().shim_lost {
        let work = sandbox::end_leftovers(Arc::clone(engine), Arc::clone(sandbox));
        engine.tasks.spawn("leftovers of a shim", work);
    }
    Ok(())
}

/// A container whose shim is gone.
async fn lost(
    engine: &Shared,
    container: &Arc<Container>,
    pod: &SandboxRecord,
) -> Result<(), CriError> {
    let bundle = engine.layout.bundle(&container.id);
    let phase = container.phase();
    match phase {
        ContainerPhase::Created => return Ok(()),
        ContainerPhase::Exited(_) => {
            // The runtime may still have something of it, as long as nobody has deleted it there.
            if bundle.exists() {
                let _ = sandbox::end_without_shim(engine, pod, &container.id).await;
            }
            return Ok(());
        }
        ContainerPhase::Starting | ContainerPhase::Running => {}
    }
    sandbox::end_calls(pod, &container.id).await;
    let found = container::find_lost(pod, container, &bundle).await;
    let never_ran = found.never_ran && phase == ContainerPhase::Starting;
    if never_ran {
        // What shows it goes now, and this server may be killed as well.
        container.update(|record| record.asked = false)?;
    }
    let mut ended = None;
    if bundle.exists() {
        ended = sandbox::end_without_shim(engine, pod, &container.id).await;
    }
    if never_ran {
        return container::never_started(engine, container);
    }
    let killed = recorded_oom_kill(&bundle) || container.record().oom_killed;
    let ended = container::ended(found.exit(ended), killed);
    container.update(|record| record.phase = ContainerPhase::Exited(ended))
}
