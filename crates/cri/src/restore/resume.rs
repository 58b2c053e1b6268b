//! Containers whose shim answers.
//!
//! One that the server before us was about to start is the hard case: shims of other makes give a start up with the client
//! that asked for it, and may not know how far it came. So what the shim says is held against what the runtime shows, and a
//! container of which a program may have run never counts as one that was only created.

use std::sync::Arc;
use std::time::Duration;

use berth_shim::client::{
    Exit, Release, Shim, ShimError, State, Status, recorded_exit, recorded_oom_kill,
};

use crate::container::{self, Container, Task};
use crate::engine::Shared;
use crate::error::{CriError, chain};
use crate::record::{ContainerPhase, SandboxRecord};
use crate::sandbox;

/// How long a killed process may take to be gone.
const AFTER_KILL: Duration = Duration::from_secs(10);

/// What a start has come to that a server before us asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    /// No program has run, and none is about to.
    NeverRan,
    /// A process waits to be let go.
    Waits,
    /// The program runs, or has run.
    Ran,
    /// Its shim says that it was created, and nothing says whether it was started.
    Unclear,
}

/// Takes a container over.
pub(super) async fn resume(
    engine: &Shared,
    container: &Arc<Container>,
    shim: &Shim,
    pod: &SandboxRecord,
) -> Result<(), CriError> {
    match container.phase() {
        ContainerPhase::Created => Ok(()),
        ContainerPhase::Exited(_) => {
            // It may still have to be deleted in the shim.
            if shim.state(&container.id).await.is_ok() {
                let _ = shim.delete(&container.id).await;
            }
            Ok(())
        }
        ContainerPhase::Starting => settle(engine, container, shim, pod).await,
        ContainerPhase::Running => match shim.state(&container.id).await {
            Ok(state) => go_on(engine, container, shim, state).await,
            Err(error) if error.is_not_found() => note_end(engine, container),
            Err(error) => Err(failed(container)(error)),
        },
    }
}

fn failed(container: &Container) -> impl FnOnce(ShimError) -> CriError {
    CriError::shim("look at container", &container.id)
}

/// A container whose start was cut short.
async fn settle(
    engine: &Shared,
    container: &Arc<Container>,
    shim: &Shim,
    pod: &SandboxRecord,
) -> Result<(), CriError> {
    let own = pod.runtime.other_shim().is_none();
    // The second time for what has changed meanwhile: the call that was to start it may still be on its way.
    for _ in 0..2 {
        let state = match shim.state(&container.id).await {
            Ok(state) => state,
            Err(error) if error.is_not_found() => {
                return deleted(engine, container, pod, own).await;
            }
            Err(error) => return Err(failed(container)(error)),
        };
        let release = match state.status {
            Status::Created | Status::Stopped(_) => container::release(pod, container).await,
            Status::Running | Status::Unknown => Release::Given,
        };
        let asked = container.record().asked;
        match judge(state.status, own, asked, release) {
            Start::NeverRan => {
                if forget(engine, container, shim, state.status).await? {
                    return Ok(());
                }
            }
            Start::Ran => return go_on(engine, container, shim, state).await,
            // What has gone through after all is found out by the next look: then it has run, and was killed.
            Start::Waits => end_process(container, shim).await,
            Start::Unclear => return give_up(container, shim).await,
        }
    }
    end_process(container, shim).await;
    let _ = shim.delete(&container.id).await;
    container::not_started(
        container,
        "the server was restarted while it started the container",
    )
}

/// Our own shim knows what it has started. Another's may have lost its call of the runtime.
fn judge(status: Status, own: bool, asked: bool, release: Release) -> Start {
    match (status, release) {
        (Status::Running | Status::Unknown, _) => Start::Ran,
        (Status::Created, _) if own || !asked => Start::NeverRan,
        (Status::Created, Release::Withheld) => Start::Waits,
        (Status::Created, Release::Given) => Start::Ran,
        (Status::Created, Release::Unknown) => Start::Unclear,
        (Status::Stopped(_), _) if !asked => Start::NeverRan,
        (Status::Stopped(_), Release::Withheld) => Start::NeverRan,
        (Status::Stopped(_), Release::Given | Release::Unknown) => Start::Ran,
    }
}

/// Has a container deleted that never ran, and notes that it is as it was created. False when the shim does not delete it: it
/// deletes nothing that was started.
async fn forget(
    engine: &Shared,
    container: &Container,
    shim: &Shim,
    status: Status,
) -> Result<bool, CriError> {
    if matches!(status, Status::Stopped(_)) {
        // What shows it goes with the container, and this server may be killed as well.
        container.update(|record| record.asked = false)?;
    }
    match shim.delete(&container.id).await {
        Ok(_) => {}
        Err(error) if error.is_not_found() => {}
        Err(error) if error.is_disconnected() => return Err(failed(container)(error)),
        Err(_) => return Ok(false),
    }
    container::never_started(engine, container).map(|()| true)
}

/// Kills a container's process, and waits until the shim knows that it has ended.
async fn end_process(container: &Container, shim: &Shim) {
    // One that has ended meanwhile is as good.
    let _ = shim.kill(&container.id, 9, true).await;
    let _ = tokio::time::timeout(AFTER_KILL, shim.wait(&container.id)).await;
}

/// Ends a container of which nobody knows whether it has run: it must not run again, and its code is nobody's.
async fn give_up(container: &Container, shim: &Shim) -> Result<(), CriError> {
    end_process(container, shim).await;
    let _ = shim.delete(&container.id).await;
    let mut ended = container::ended(None, false);
    ended.message = "the server was restarted while it started the container, and the container's shim does not say \
        whether it had run"
        .to_owned();
    container.update(|record| record.phase = ContainerPhase::Exited(ended))
}

/// The shim knows nothing of it (any more).
async fn deleted(
    engine: &Shared,
    container: &Container,
    pod: &SandboxRecord,
    own: bool,
) -> Result<(), CriError> {
    let asked = container.record().asked;
    let noted = recorded_exit(&engine.layout.bundle(&container.id));
    end_cut_short(engine, container, pod).await;
    // Our own shim notes the end of what it has started before it deletes it.
    if asked && (noted.is_some() || !own) {
        return note_end(engine, container);
    }
    container::never_started(engine, container)
}

/// It has ended, and its shim has deleted it.
fn note_end(engine: &Shared, container: &Container) -> Result<(), CriError> {
    let bundle = engine.layout.bundle(&container.id);
    let exit: Option<Exit> = recorded_exit(&bundle);
    let killed = recorded_oom_kill(&bundle) || container.record().oom_killed;
    container.update(|record| record.phase = ContainerPhase::Exited(container::ended(exit, killed)))
}

/// A container that was started: whoever waits for its end is told it, also when that was before.
async fn go_on(
    engine: &Shared,
    container: &Arc<Container>,
    shim: &Shim,
    state: State,
) -> Result<(), CriError> {
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
    let watch = container::watch_exit(Arc::clone(engine), Arc::clone(container), shim.clone());
    engine.tasks.spawn("container", watch);
    Ok(())
}

/// Ends what another's shim has left in its runtime of a container that it was creating when its client, the server before us,
/// was killed: some give up then, and know nothing of it. Of virtual machines the shim's `delete` may be all of the pod's end.
async fn end_cut_short(engine: &Shared, container: &Container, pod: &SandboxRecord) {
    if pod.runtime.other_shim().is_some() && !pod.runtime.is_vm() {
        let _ = sandbox::end_without_shim(engine, pod, &container.id).await;
        // runc writes its pid file aside first, and refuses to where one that was killed has left it.
        let aside = engine.layout.bundle(&container.id).join(".init.pid");
        // Mostly there is none.
        let _ = std::fs::remove_file(aside);
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn what_may_have_run_counts_as_run() {
        let stopped = Status::Stopped(Exit {
            code: 137,
            at: SystemTime::UNIX_EPOCH,
        });
        let releases = [Release::Withheld, Release::Given, Release::Unknown];
        for own in [true, false] {
            for asked in [true, false] {
                for release in releases {
                    let judged = |status| judge(status, own, asked, release);
                    assert_eq!(judged(Status::Running), Start::Ran);
                    assert_eq!(judged(Status::Unknown), Start::Ran);
                    let never = !asked || release == Release::Withheld;
                    let expected = if never { Start::NeverRan } else { Start::Ran };
                    assert_eq!(judged(stopped), expected);
                }
            }
        }
        let created =
            |own, asked| releases.map(|release| judge(Status::Created, own, asked, release));
        let never = [Start::NeverRan; 3];
        assert_eq!(created(true, true), never);
        assert_eq!(created(false, false), never);
        let doubtful = [Start::Waits, Start::Ran, Start::Unclear];
        assert_eq!(created(false, true), doubtful);
    }
}
