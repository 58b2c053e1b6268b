//! Pods that are not whole any more, since the sandbox container has ended or the shim has died; and those that never were,
//! since the server stops or was killed.
//!
//! A virtual machine boots for seconds, longer than a server that is told to stop waits for its requests. What it has of a
//! pod by then is undone: the next server may come late or never, and until then the machine would run for nobody.

use std::sync::Arc;
use std::time::Duration;

use berth_cri_api::v1::ContainerEventType;
use berth_shim::client::{self, Exit, Shim};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{Sandbox, leftovers};
use crate::engine::{Engine, Shared, blocking};
use crate::error::{CriError, chain};
use crate::record::{Phase, SandboxRecord};
use crate::strays::{self, Stray};

/// What may still be finished once the server is told to stop: less than the shutdown waits for requests.
const GRACE: Duration = Duration::from_secs(1);
/// How long CNI plugins may go on.
const PLUGINS: Duration = Duration::from_secs(30);

/// Notes that a ready pod is so no more; false when that is known.
fn not_ready(engine: &Shared, sandbox: &Sandbox) -> bool {
    if sandbox.phase() != Phase::Ready {
        return false;
    }
    if let Err(error) = sandbox.update(|record| record.phase = Phase::NotReady) {
        tracing::error!(id = sandbox.id, error = chain(&error), "record not written");
    }
    let stopped = ContainerEventType::ContainerStoppedEvent;
    engine.events.sandbox(engine, stopped, sandbox);
    true
}

/// A pod whose shim has died is not ready, and its sandbox container is ended here, since nobody else would; so is what
/// another's shim has left besides.
pub(crate) async fn lose(engine: &Shared, sandbox: &Arc<Sandbox>) {
    note_lost(sandbox);
    if !not_ready(engine, sandbox) {
        return;
    }
    let ours = sandbox.record().runtime.other_shim().is_none();
    {
        let _alone = sandbox.ending.lock().await;
        end_pause(engine, &sandbox.record()).await;
    }
    if !ours {
        let work = leftovers::end_early(Arc::clone(engine), Arc::clone(sandbox));
        engine.tasks.spawn("leftovers of a shim", work);
    }
}

/// Notes that another's shim is lost. Nothing to do with our own, whose runtime knows all that there is.
pub(crate) fn note_lost(sandbox: &Sandbox) {
    let record = sandbox.record();
    if record.runtime.other_shim().is_none() || record.shim_lost || record.released {
        return;
    }
    if let Err(error) = sandbox.update(|record| record.shim_lost = true) {
        let error = chain(&error);
        tracing::error!(id = sandbox.id, error, "record not written");
    }
}

/// Ends a sandbox container that has no shim.
pub(super) async fn end_pause(engine: &Engine, record: &SandboxRecord) {
    if record.has_own_process() && engine.layout.bundle(&record.id).exists() {
        let _ = end_without_shim(engine, record, &record.id).await;
    }
}

/// Ends a container of a pod whose shim has died; gives how it ended.
pub(crate) async fn end_without_shim(
    engine: &Engine,
    pod: &SandboxRecord,
    id: &str,
) -> Option<Exit> {
    let config = pod.runtime.shim(&engine.config);
    let bundle = engine.layout.bundle(id);
    let ours = pod.runtime.other_shim().is_none();
    end_calls(pod, id).await;
    let ended = client::cleanup(&config, id, &bundle).await;
    if ours {
        // The runtime knows nothing of what it was about to make.
        super::release::remove_cgroup(engine, id).await;
    }
    ended
        .inspect_err(|error| {
            let error = chain(error);
            tracing::error!(
                id,
                error,
                "a container that lost its shim could not be ended"
            );
        })
        .ok()
}

/// Ends what a dead shim of ours had the runtime do for a container: it goes on without the shim, and would make or start what
/// is ended. The calls of other shims end with these.
pub(crate) async fn end_calls(pod: &SandboxRecord, id: &str) {
    if pod.runtime.other_shim().is_none() {
        end_processes(id, Stray::Call, Duration::ZERO).await;
    }
}

/// Does a shim's part of making a pod; given up when the server is told to stop meanwhile.
pub(super) async fn unless_stopped<T>(
    engine: &Engine,
    id: &str,
    work: impl Future<Output = Result<T, CriError>>,
) -> Result<T, CriError> {
    let stopped = async {
        engine.shutdown.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        biased;
        done = work => done,
        () = stopped => Err(CriError::Stopping(id.to_owned())),
    }
}

/// Waits until the CNI plugins of a pod have ended, and ends them when they take too long.
pub(crate) async fn end_plugins(id: &str) {
    end_processes(id, Stray::Plugin, PLUGINS).await;
}

async fn end_processes(id: &str, kind: Stray, patience: Duration) {
    let of = id.to_owned();
    let ended = blocking(move || {
        strays::end(&of, kind, patience);
        Ok(())
    });
    if let Err(error) = ended.await {
        tracing::warn!(id, error = chain(&error), "leftovers not looked for");
    }
}

/// Ends what works on for a pod whose making was cut short, and deletes what the runtime holds by then: nobody knows how far
/// it got.
pub(crate) async fn end_unfinished(engine: &Shared, sandbox: &Sandbox) {
    // With the last handle ends whoever would replace the keeper of its streams.
    sandbox.set_shim(None);
    let bundle = engine.layout.bundle(&sandbox.id);
    client::end_keeper(&bundle).await;
    end_processes(&sandbox.id, Stray::Runtime, Duration::ZERO).await;
    end_plugins(&sandbox.id).await;
    if bundle.exists() {
        let config = sandbox.record().runtime.shim(&engine.config);
        // Fails when the runtime was never called.
        let _ = client::cleanup(&config, &sandbox.id, &bundle).await;
    }
    note_lost(sandbox);
}

/// Notices when a ready sandbox ends.
pub(crate) fn watch(engine: &Shared, sandbox: &Arc<Sandbox>, shim: Shim) {
    let (shared, sandbox) = (Arc::clone(engine), Arc::clone(sandbox));
    let (name, own) = match sandbox.record().has_own_process() {
        true => ("sandbox container", true),
        false => ("shim", false),
    };
    engine.tasks.spawn(name, async move {
        if own {
            watch_pause(shared, sandbox, shim).await;
        } else {
            watch_shim(shared, sandbox).await;
        }
    });
}

/// A sandbox whose container ends, or whose shim dies, is not ready any more.
async fn watch_pause(engine: Shared, sandbox: Arc<Sandbox>, shim: Shim) {
    let ended = if sandbox.record().runtime.sandbox_service {
        shim.wait_sandbox(&sandbox.id).await
    } else {
        shim.wait(&sandbox.id).await
    };
    if sandbox.phase() != Phase::Ready {
        return;
    }
    match ended {
        Ok(_) => {
            tracing::warn!(id = sandbox.id, "the pod sandbox has ended");
            let _ = not_ready(&engine, &sandbox);
        }
        Err(error) => {
            tracing::warn!(id = sandbox.id, %error, "lost sight of the pod sandbox");
            lose(&engine, &sandbox).await;
        }
    }
}

/// Without a sandbox container the shim is all that a pod without containers has, and nobody else would miss it.
async fn watch_shim(engine: Shared, sandbox: Arc<Sandbox>) {
    if let Err(error) = end_of_shim(&engine, &sandbox.id).await {
        // Its containers' ends tell of it.
        let error = chain(&error);
        tracing::warn!(id = sandbox.id, error, "the shim is not watched");
        return;
    }
    if sandbox.phase() == Phase::Ready {
        tracing::warn!(id = sandbox.id, "the shim of the pod sandbox has died");
        lose(&engine, &sandbox).await;
    }
}

/// Waits until our own shim ends.
pub(crate) async fn end_of_shim(engine: &Shared, id: &str) -> Result<(), CriError> {
    let path = engine.layout.bundle(id).join("shim.pid");
    let failed = |error: std::io::Error| CriError::io("watch the shim of", &path)(error);
    let text = std::fs::read_to_string(&path).map_err(failed)?;
    let pid = text.trim().parse().ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| failed(std::io::ErrorKind::InvalidData.into()))?;
    let process = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
        Ok(process) => process,
        // It has ended, and who started it has taken note.
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(errno) => return Err(failed(errno.into())),
    };
    // SAFETY: the OwnedFd keeps its descriptor open and the same for as long as it lives in the AsyncFd.
    let process = unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) };
    let process = process.map_err(|error| failed(error.into()))?;
    process.readable().await.map(drop).map_err(failed)
}
