//! Taking over what an earlier server left: reconnect to shims, learn what ended meanwhile, and
//! give back what belongs to nobody.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use berth_shim::client::{self, Shim, Status, recorded_exit, recorded_oom_kill};

use crate::container::{self, Container, Task};
use crate::engine::{Shared, blocking};
use crate::error::{CriError, chain};
use crate::record::{self, ContainerPhase, ContainerRecord, Phase, SandboxRecord};
use crate::sandbox::{self, Sandbox};
use crate::strays::{self, Stray};

/// How long CNI plugins of a killed server may go on.
const PLUGINS: Duration = Duration::from_secs(30);

/// Loads all records and finds their processes.
pub(crate) async fn restore(engine: &Shared) -> Result<(), CriError> {
    let sandboxes: Vec<Arc<Sandbox>> = load::<SandboxRecord>(&engine.layout.sandboxes())?
        .into_iter()
        .map(|record| Arc::new(Sandbox::new(engine, record)))
        .collect();
    for sandbox in &sandboxes {
        // Two of one name can only be a leftover beside a whole one; both must be reachable.
        let _ = engine
            .sandboxes
            .reserve(&sandbox::name(&sandbox.record().config.0), &sandbox.id);
        engine.sandboxes.insert(&sandbox.id, Arc::clone(sandbox));
    }
    for record in load::<ContainerRecord>(&engine.layout.containers())? {
        if let Ok(pod) = engine.sandboxes.get(&record.sandbox_id) {
            let name = container::name(&record.config.0, &pod.record().config.0);
            let _ = engine.containers.reserve(&name, &record.id);
        }
        let id = record.id.clone();
        engine
            .containers
            .insert(&id, Arc::new(Container::new(engine, record)));
    }
    futures::future::join_all(sandboxes.iter().map(|sandbox| take_over(engine, sandbox))).await;
    let shared = Arc::clone(engine);
    blocking(move || sweep(&shared)).await
}

/// The records below `dir`; a torn one is removed with its folder, since nothing can be known of
/// what it stood for.
fn load<T: for<'de> serde::Deserialize<'de>>(dir: &Path) -> Result<Vec<T>, CriError> {
    let found = record::load::<T>(dir).map_err(CriError::io("read", dir))?;
    Ok(found
        .into_iter()
        .filter_map(|record| match record {
            Ok(record) => Some(record),
            Err(folder) => {
                tracing::warn!(folder = %folder.display(), "a record that can't be read is dropped");
                let _ = std::fs::remove_dir_all(folder);
                None
            }
        })
        .collect())
}

async fn take_over(engine: &Shared, sandbox: &Arc<Sandbox>) {
    let record = sandbox.record();
    let result = match record.phase {
        Phase::Creating => {
            tracing::info!(
                id = sandbox.id,
                "removing a pod sandbox that was never whole"
            );
            end_leftovers(engine, sandbox).await;
            sandbox::discard(engine, sandbox).await
        }
        Phase::Ready => reconnect(engine, sandbox).await,
        Phase::NotReady if record.released => Ok(()),
        Phase::NotReady => {
            // Its DEL may still be under way; the next one is to find it done.
            let id = sandbox.id.clone();
            let _ = blocking(move || {
                strays::end(&id, Stray::Plugin, PLUGINS);
                Ok(())
            })
            .await;
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

/// What works on for a sandbox whose making was cut short: nobody knows how far it got, so it ends here, and what
/// the runtime holds by then is deleted.
async fn end_leftovers(engine: &Shared, sandbox: &Sandbox) {
    let id = sandbox.id.clone();
    let ended = blocking(move || {
        strays::end(&id, Stray::Runtime, Duration::ZERO);
        strays::end(&id, Stray::Plugin, PLUGINS);
        Ok(())
    });
    if let Err(error) = ended.await {
        tracing::warn!(
            id = sandbox.id,
            error = chain(&error),
            "leftovers not looked for"
        );
    }
    let bundle = engine.layout.bundle(&sandbox.id);
    if bundle.exists() {
        let config = sandbox.record().runtime.shim(&engine.config);
        // Fails when the runtime was never called.
        let _ = client::cleanup(&config, &sandbox.id, &bundle).await;
    }
}

async fn reconnect(engine: &Shared, sandbox: &Arc<Sandbox>) -> Result<(), CriError> {
    let record = sandbox.record();
    let config = record.runtime.shim(&engine.config);
    let containers = container::of_sandbox(engine, &sandbox.id);
    let bundle = engine.layout.bundle(&record.id);
    match Shim::reconnect(&config, &bundle).await {
        Ok(shim) => {
            sandbox.set_shim(Some(shim.clone()));
            for container in &containers {
                resume(engine, container, &shim).await?;
            }
            if record.phase == Phase::Ready && record.pause {
                match shim.state(&record.id).await.map(|state| state.status) {
                    Ok(Status::Running | Status::Created) => {
                        tokio::spawn(sandbox::watch_pause(
                            Arc::clone(engine),
                            Arc::clone(sandbox),
                            shim,
                        ));
                    }
                    _ => sandbox.update(|record| record.phase = Phase::NotReady)?,
                }
            }
            Ok(())
        }
        Err(error) => {
            tracing::warn!(
                id = sandbox.id,
                error = chain(&error),
                "the shim of a pod sandbox is gone"
            );
            for container in &containers {
                lost(engine, container, &config).await?;
            }
            if record.pause && bundle.exists() {
                let _ = client::cleanup(&config, &record.id, &bundle).await;
            }
            sandbox.update(|record| record.phase = Phase::NotReady)
        }
    }
}

/// A container whose shim answers.
async fn resume(engine: &Shared, container: &Arc<Container>, shim: &Shim) -> Result<(), CriError> {
    let phase = container.phase();
    match phase {
        ContainerPhase::Created | ContainerPhase::Exited(_) => {
            // One that had ended before may still have to be deleted in the shim.
            if matches!(phase, ContainerPhase::Exited(_)) && shim.state(&container.id).await.is_ok()
            {
                let _ = shim.delete(&container.id).await;
            }
            return Ok(());
        }
        ContainerPhase::Starting | ContainerPhase::Running => {}
    }
    match shim.state(&container.id).await {
        Ok(state) => match state.status {
            Status::Created => {
                let _ = shim.kill(&container.id, 9, true).await;
                let _ = shim.delete(&container.id).await;
                container::not_started(
                    container,
                    "the server was restarted while it started the container",
                )
            }
            Status::Running | Status::Stopped(_) | Status::Unknown => {
                container.update(|record| {
                    record.phase = ContainerPhase::Running;
                    if record.started_at == 0 {
                        record.started_at = crate::engine::now();
                    }
                    record.pid = state.pid;
                })?;
                container.set_task(Task::Live);
                let bundle = engine.layout.bundle(&container.id);
                if let Err(error) = shim.adopt(&container.id, &bundle).await {
                    tracing::warn!(
                        id = container.id,
                        error = chain(&error),
                        "its output is lost"
                    );
                }
                // A stopped one answers at once.
                tokio::spawn(container::watch_exit(
                    Arc::clone(engine),
                    Arc::clone(container),
                    shim.clone(),
                ));
                Ok(())
            }
        },
        Err(error) if error.is_not_found() => {
            let bundle = engine.layout.bundle(&container.id);
            let (exit, killed) = (recorded_exit(&bundle), recorded_oom_kill(&bundle));
            if phase == ContainerPhase::Starting && exit.is_none() {
                return container.update(|record| record.phase = ContainerPhase::Created);
            }
            container.update(|record| {
                record.phase = ContainerPhase::Exited(container::ended(exit, killed))
            })
        }
        Err(error) => Err(CriError::shim("look at container", &container.id)(error)),
    }
}

/// A container whose shim is gone: what the shim noted counts, else nobody knows.
async fn lost(
    engine: &Shared,
    container: &Arc<Container>,
    config: &client::ShimConfig,
) -> Result<(), CriError> {
    match container.phase() {
        ContainerPhase::Created | ContainerPhase::Exited(_) => return Ok(()),
        ContainerPhase::Starting | ContainerPhase::Running => {}
    }
    let bundle = engine.layout.bundle(&container.id);
    let mut exit = recorded_exit(&bundle);
    let killed = recorded_oom_kill(&bundle);
    if exit.is_none() && bundle.exists() {
        exit = client::cleanup(config, &container.id, &bundle).await.ok();
    }
    container.update(|record| record.phase = ContainerPhase::Exited(container::ended(exit, killed)))
}

/// Gives back files, mounts and snapshots whose sandbox or container has no record.
fn sweep(engine: &Shared) -> Result<(), CriError> {
    let sandboxes: BTreeSet<String> = engine
        .sandboxes
        .all()
        .iter()
        .map(|item| item.id.clone())
        .collect();
    let mut containers: BTreeSet<String> = engine
        .containers
        .all()
        .iter()
        .map(|item| item.id.clone())
        .collect();
    for container in engine.containers.all() {
        if !sandboxes.contains(&container.record().sandbox_id) {
            tracing::info!(
                id = container.id,
                "removing a container whose pod sandbox is gone"
            );
            container::discard(engine, &container.id)?;
            engine.containers.remove(&container.id);
            containers.remove(&container.id);
        }
    }
    for id in entries(&engine.layout.pods()) {
        if !sandboxes.contains(&id) {
            tracing::info!(id, "giving back a leaked pod sandbox");
            sandbox::give_back(&engine.layout, &id)?;
        }
    }
    for id in entries(&engine.layout.bundles()) {
        if !sandboxes.contains(&id) && !containers.contains(&id) {
            tracing::info!(id, "removing a leaked container");
            container::discard(engine, &id)?;
        }
    }
    for name in entries(&engine.layout.sockets()) {
        // A shim that was killed leaves its sockets behind.
        let path = engine.layout.sockets().join(name);
        let refused = |error: std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
        if std::os::unix::net::UnixStream::connect(&path).is_err_and(refused) {
            let _ = std::fs::remove_file(path);
        }
    }
    for snapshot in engine.images.snapshots()? {
        let holder = snapshot.key.split('-').next().unwrap_or_default();
        if !containers.contains(holder) {
            tracing::info!(key = snapshot.key, "removing a leaked snapshot");
            engine.images.remove_snapshot(&snapshot.key)?;
        }
    }
    Ok(())
}

fn entries(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir)
        .map(|entries| {
            entries
                .flatten()
                .filter_map(|entry| entry.file_name().into_string().ok())
                .collect()
        })
        .unwrap_or_default()
}
