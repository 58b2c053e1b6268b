//! `StartContainer`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_cri_api::v1::ContainerEventType;
use berth_shim::client::{self, CreateRequest, Shim};

use super::{Container, Task};
use crate::engine::{Shared, blocking, now};
use crate::error::CriError;
use crate::record::{ContainerPhase, Ended, Phase};
use crate::sandbox::{self, Sandbox};

/// What containerd reports of a process that could not be started.
const NOT_STARTED: i32 = 128;
/// How long a container that lost its shim while it was started is tried to be ended, and how often.
const END_TIMEOUT: Duration = Duration::from_secs(10);
const END_RETRY_INTERVAL: Duration = Duration::from_millis(200);

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
        Ok(_) => match ask(&container, &shim).await {
            Ok(pid) => Ok(pid),
            Err(error) => {
                let _ = shim.kill(&record.id, 9, true).await;
                let _ = shim.delete(&record.id).await;
                Err(error)
            }
        },
        Err(error) => Err(CriError::shim("start container", &record.id)(error)),
    };
    match started {
        Ok(pid) => {
            container.update(|record| {
                record.phase = ContainerPhase::Running;
                record.pid = pid;
            })?;
            sandbox::note_processes(engine, &sandbox, &shim).await;
            sandbox::follow(engine, &sandbox);
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
            let is_lost =
                matches!(&error, CriError::Shim { source, .. } if source.is_disconnected());
            if is_lost {
                lost(engine, &sandbox, &container).await?;
            } else {
                not_started(&container, &crate::error::chain(&error))?;
            }
            let stopped = ContainerEventType::ContainerStoppedEvent;
            engine.events.container(engine, stopped, &container);
            Err(error)
        }
    }
}

/// Has the shim start a container that it has created; gives its pid.
async fn ask(container: &Container, shim: &Shim) -> Result<u32, CriError> {
    // From here on a program of it may have run, whatever becomes of us. The time is taken before, so that even the shortest
    // process starts before it ends.
    container.update(|record| {
        record.asked = true;
        record.started_at = now();
    })?;
    let started = shim.start(&container.id).await;
    started.map_err(CriError::shim("start container", &container.id))
}

/// The shim has died during the start. A container that was never let go is as it was created; of another one nobody knows
/// whether its program has run, so it counts as run.
async fn lost(
    engine: &Shared,
    sandbox: &Arc<Sandbox>,
    container: &Container,
) -> Result<(), CriError> {
    let pod = sandbox.record();
    let bundle = engine.layout.bundle(&container.id);
    sandbox::end_calls(&pod, &container.id).await;
    let found = super::find_lost(&pod, container, &bundle).await;
    if found.never_ran {
        // What shows it goes with what the runtime has of it.
        container.update(|record| record.asked = false)?;
    }
    sandbox::lose(engine, sandbox).await;
    let mut ended = sandbox::end_without_shim(engine, &pod, &container.id).await;
    let until = Instant::now() + END_TIMEOUT;
    // It counts as ended only once it is, as long as there is hope: a pod may start it again then.
    while ended.is_none() && !found.is_known() && Instant::now() < until {
        tokio::time::sleep(END_RETRY_INTERVAL).await;
        ended = sandbox::end_without_shim(engine, &pod, &container.id).await;
    }
    let noted = if found.never_ran {
        super::never_started(engine, container)
    } else {
        let killed = client::recorded_oom_kill(&bundle) || container.record().oom_killed;
        container.update(|record| {
            record.phase = ContainerPhase::Exited(super::ended(found.exit(ended), killed));
        })
    };
    container.set_task(Task::None);
    noted
}

/// A container of which no process has run is as it was before its start, and may be started.
pub(crate) fn never_started(engine: &Shared, container: &Container) -> Result<(), CriError> {
    // What the shim has noted is the end of the process that waited to become it.
    let path = engine.layout.bundle(&container.id);
    client::forget_exit(&path).map_err(CriError::io("remove the exit noted in", &path))?;
    container.update(|record| {
        record.phase = ContainerPhase::Created;
        record.asked = false;
        record.started_at = 0;
    })
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
