//! One task for each running container: waits for its end and notes it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use berth_cri_api::v1::ContainerEventType;
use berth_shim::client::{self, Exit, Release, Shim, recorded_oom_kill};

use super::lost::{self, First, Found};
use super::{Container, Task, oom};
use crate::engine::{Engine, Shared, nanoseconds, now};
use crate::error::CriError;
use crate::record::{ContainerPhase, ContainerRecord, Ended, SandboxRecord};
use crate::runtime::NAMESPACE;
use crate::sandbox;

/// The code of a process whose end nobody saw, as containerd's.
const UNKNOWN: i32 = 255;

pub(crate) async fn watch_exit(engine: Shared, container: Arc<Container>, shim: Shim) {
    let exit = match shim.wait(&container.id).await {
        Ok(exit) => Some(exit),
        Err(error) => {
            tracing::warn!(id = container.id, %error, "lost sight of a container");
            lost(&engine, &container).await
        }
    };
    if let Err(error) = note(&engine, &container, exit) {
        tracing::error!(
            id = container.id,
            error = crate::error::chain(&error),
            "an exit could not be noted"
        );
    }
    if let Ok(sandbox) = engine.sandboxes.get(&container.record().sandbox_id) {
        sandbox::try_limit(&engine, &sandbox);
    }
    container.set_task(Task::Ended);
    engine.events.container(
        &engine,
        ContainerEventType::ContainerStoppedEvent,
        &container,
    );
    delete(&engine, &container, &shim).await;
    if let Ok(sandbox) = engine.sandboxes.get(&container.record().sandbox_id) {
        sandbox::follow(&engine, &sandbox);
    }
    container.set_task(Task::None);
}

/// Removes the ended process from shim and runtime; a runtime may need a moment after the end.
async fn delete(engine: &Shared, container: &Container, shim: &Shim) {
    for wait in [10, 50, 250, 1000, 0] {
        match shim.delete(&container.id).await {
            Ok(_) => return,
            Err(error) if error.is_not_found() => return,
            // With the shim its list of containers is gone, but not what the runtime has.
            Err(error) if error.is_disconnected() => {
                if let Ok(sandbox) = engine.sandboxes.get(&container.record().sandbox_id) {
                    let pod = sandbox.record();
                    let _ = sandbox::end_without_shim(engine, &pod, &container.id).await;
                }
                return;
            }
            Err(error) if wait == 0 => {
                tracing::warn!(id = container.id, %error, "an ended container could not be deleted")
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(wait)).await,
        }
    }
}

fn note(engine: &Engine, container: &Container, exit: Option<Exit>) -> Result<(), CriError> {
    let record = container.record();
    // Our shim looks before the runtime takes the cgroup away; with a stranger's we look ourselves.
    let killed = recorded_oom_kill(&engine.layout.bundle(&record.id))
        || oom::killed(&engine.host, &record.cgroup);
    container.update(|record| {
        // By now its shim may have published it.
        let ended = ended(exit, killed || record.oom_killed);
        record.phase = ContainerPhase::Exited(ended);
    })
}

/// Why it has ended, in the kubelet's words.
fn reason(code: i32, oom_killed: bool) -> &'static str {
    match code {
        0 => "Completed",
        _ if oom_killed => "OOMKilled",
        _ => "Error",
    }
}

/// Takes note that a container's shim has published that memory ran out; false when nothing changes by that. The container's
/// end may be known already: the two events overtake each other.
pub(super) fn note_oom(record: &mut ContainerRecord) -> bool {
    let mut news = !record.oom_killed;
    record.oom_killed = true;
    if let ContainerPhase::Exited(ended) = &mut record.phase
        && ended.reason == reason(ended.code, false)
    {
        let reason = reason(ended.code, true);
        news |= ended.reason != reason;
        ended.reason = reason.to_owned();
    }
    news
}

/// How an exit is told to the kubelet.
pub(crate) fn ended(exit: Option<Exit>, oom_killed: bool) -> Ended {
    match exit {
        Some(exit) => {
            let code = i32::try_from(exit.code).unwrap_or(UNKNOWN);
            Ended {
                code,
                at: nanoseconds(exit.at),
                reason: reason(code, oom_killed).to_owned(),
                message: String::new(),
            }
        }
        None => Ended {
            code: UNKNOWN,
            at: now(),
            reason: "Unknown".to_owned(),
            message: "the container's supervisor is gone, and with it how the container ended"
                .to_owned(),
        },
    }
}

/// Looks at a container whose shim is dead, and so are the calls that it made of its runtime; kills its first process. What the
/// runtime has of it is still to be deleted.
pub(crate) async fn find_lost(pod: &SandboxRecord, container: &Container, bundle: &Path) -> Found {
    let noted = client::recorded_exit(bundle);
    let first = match pod.runtime.kind().shares_host_kernel() {
        true => {
            let (id, bundle) = (container.id.clone(), bundle.to_owned());
            let ended = tokio::task::spawn_blocking(move || lost::end_first(&id, &bundle)).await;
            // It panicked, which is in the log.
            ended.unwrap_or(First::Unknown)
        }
        false => First::Unknown,
    };
    // With its process dead, nobody can let it go any more.
    let waited = noted.is_none() && release(pod, container).await == Release::Withheld;
    Found {
        never_ran: waited || !container.record().asked,
        noted,
        first,
    }
}

/// What its runtime shows of a container's start.
pub(crate) async fn release(pod: &SandboxRecord, container: &Container) -> Release {
    let (options, id) = (pod.runtime.options(), container.id.clone());
    let look = move || client::look_at_release(&options, NAMESPACE, &id);
    let looked = tokio::task::spawn_blocking(look).await;
    looked.unwrap_or(Release::Unknown)
}

/// Ends a container whose shim has died, since nobody else would; gives how it ended. The shim notes an exit before it tells,
/// so a note is as good.
async fn lost(engine: &Shared, container: &Container) -> Option<Exit> {
    let sandbox = engine.sandboxes.get(&container.record().sandbox_id).ok()?;
    let pod = sandbox.record();
    sandbox::end_calls(&pod, &container.id).await;
    let found = find_lost(&pod, container, &engine.layout.bundle(&container.id)).await;
    if found.is_known() {
        // What is left of it goes with the deletion.
        return found.exit(None);
    }
    sandbox::lose(engine, &sandbox).await;
    found.exit(sandbox::end_without_shim(engine, &pod, &container.id).await)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{UserRecord, Wire};

    fn record(phase: ContainerPhase) -> ContainerRecord {
        ContainerRecord {
            id: "c".to_owned(),
            sandbox_id: "s".to_owned(),
            phase,
            created_at: 0,
            started_at: 0,
            asked: true,
            pid: 0,
            config: Wire::default(),
            image_id: String::new(),
            image_digest: String::new(),
            image_tag: String::new(),
            stop_signal: String::new(),
            log_path: None,
            user: UserRecord::default(),
            cgroup: Default::default(),
            oom_killed: false,
            rootfs: Default::default(),
        }
    }

    fn exited(code: i32) -> ContainerPhase {
        ContainerPhase::Exited(Ended {
            code,
            at: 1,
            reason: reason(code, false).to_owned(),
            message: String::new(),
        })
    }

    #[test]
    fn only_the_first_event_of_memory_that_ran_out_is_news() {
        let mut running = record(ContainerPhase::Running);
        assert!(note_oom(&mut running) && running.oom_killed);
        // Each would be a write to the disk, at the guest's pace.
        assert!(!note_oom(&mut running));
        for (code, reason) in [(137, "OOMKilled"), (0, "Completed")] {
            let mut record = record(exited(code));
            assert!(note_oom(&mut record));
            assert!(!note_oom(&mut record));
            let ContainerPhase::Exited(ended) = record.phase else {
                panic!("it has ended")
            };
            assert_eq!(ended.reason, reason);
        }
    }
}
