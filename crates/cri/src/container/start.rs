//! `StartContainer`.

use std::sync::Arc;

use berth_cri_api::v1::ContainerEventType;
use berth_shim::client::CreateRequest;

use super::{Container, Task};
use crate::engine::{Shared, blocking, now};
use crate::error::CriError;
use crate::record::{ContainerPhase, Ended, Phase};
use crate::sandbox;

/// What containerd reports of a process that could not be started.
const NOT_STARTED: i32 = 128;

pub(crate) async fn start(engine: &Shared, id: &str) -> Result<(), CriError> {
    let _busy = engine.warm.busy();
    let container = engine.containers.get(id)?;
    let sandbox = engine.sandboxes.get(&container.record().sandbox_id)?;
    // In this order, as when a sandbox is removed with its containers.
    let _open = sandbox.open.read().await;
    let _busy = container.busy.lock().await;
    // It may have been removed meanwhile.
    engine.containers.get(&container.id)?;
    match container.phase() {
        ContainerPhase::Created => {}
        // Asked twice, done once.
        ContainerPhase::Running => return Ok(()),
        ContainerPhase::Starting | ContainerPhase::Exited(_) => {
            return Err(CriError::State(format!(
                "container {} was started before and can't be again",
                container.id
            )));
        }
    }
    if sandbox.phase() != Phase::Ready {
        return Err(CriError::State(format!(
            "pod sandbox {} is not ready",
            sandbox.id
        )));
    }
    let shim = sandbox.shim()?;
    let bundle = engine.layout.bundle(&sandbox.id);
    sandbox.place(&bundle).await?;
    let rootfs = {
        let (shared, record, pod) = (Arc::clone(engine), container.record(), sandbox.record());
        let work = blocking(move || {
            super::shown::show(&shared, &record.id, &pod)?;
            super::rootfs::for_create(&shared, &record, &pod)
        });
        berth_trace::of_call("root filesystem", work).await?
    };
    container.update(|record| record.phase = ContainerPhase::Starting)?;
    container.set_task(Task::Live);
    sandbox::try_limit(engine, &sandbox);
    let record = container.record();
    let config = &record.config.0;
    let request = CreateRequest {
        id: record.id.clone(),
        bundle: engine.layout.bundle(&record.id),
        rootfs,
        terminal: config.tty,
        stdin: config.stdin,
        stdin_once: config.stdin_once,
        log: record.log_path.clone(),
        options: sandbox.record().runtime.options(),
    };
    let started = match shim.create(&request).await {
        Ok(_) => {
            // Taken before, so that even the shortest process starts before it ends.
            let at = now();
            match shim.start(&record.id).await {
                Ok(pid) => Ok((pid, at)),
                Err(error) => {
                    let _ = shim.kill(&record.id, 9, true).await;
                    let _ = shim.delete(&record.id).await;
                    Err(error)
                }
            }
        }
        Err(error) => Err(error),
    };
    match started {
        Ok((pid, at)) => {
            container.update(|record| {
                record.phase = ContainerPhase::Running;
                record.started_at = at;
                record.pid = pid;
            })?;
            sandbox::note_processes(engine, &sandbox, &shim).await;
            if sandbox.record().waited_in.is_some() {
                // What the runtime has started beside it.
                let placed = Arc::clone(&sandbox);
                engine.tasks.spawn("move into a pod's cgroup", async move {
                    if let Err(error) = placed.place(&bundle).await {
                        let error = crate::error::chain(&error);
                        tracing::warn!(id = placed.id, error, "not moved");
                    }
                });
            }
            let watch = super::watch_exit(Arc::clone(engine), Arc::clone(&container), shim);
            engine.tasks.spawn("container", watch);
            engine.events.container(
                engine,
                ContainerEventType::ContainerStartedEvent,
                &container,
            );
            Ok(())
        }
        Err(error) => {
            if error.is_disconnected() {
                sandbox::lose(engine, &sandbox).await;
                let _ = sandbox::end_without_shim(engine, &sandbox.record(), &record.id).await;
            }
            let error = CriError::shim("start container", &record.id)(error);
            not_started(&container, &crate::error::chain(&error))?;
            engine.events.container(
                engine,
                ContainerEventType::ContainerStoppedEvent,
                &container,
            );
            Err(error)
        }
    }
}

/// Notes that there was never a process.
pub(crate) fn not_started(container: &Container, message: &str) -> Result<(), CriError> {
    let at = now();
    let message = message.to_owned();
    let noted = container.update(|record| {
        record.phase = ContainerPhase::Exited(Ended {
            code: NOT_STARTED,
            at,
            reason: "StartError".to_owned(),
            message,
        });
        record.started_at = at;
    });
    container.set_task(Task::None);
    noted
}
