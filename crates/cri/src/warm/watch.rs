//! The end of those that wait: one that dies, and one that is wanted no more.

use std::sync::Arc;

use berth_shim::client::Shim;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::pool::Stage;
use crate::engine::Shared;
use crate::error::{CriError, chain};
use crate::sandbox::{self, Sandbox};

/// Removes one that is marked as discarded.
pub(super) async fn remove(engine: &Shared, sandbox: Arc<Sandbox>) {
    let shared = Arc::clone(engine);
    let removed = engine.tasks.request(async move {
        if let Err(error) = sandbox::discard(&shared, &sandbox).await {
            tracing::error!(
                id = sandbox.id,
                error = chain(&error),
                "a waiting pod sandbox could not be removed; the next start tries again"
            );
        }
        shared.warm.release(&sandbox.id);
    });
    let _ = removed.await;
}

/// Waits until our own shim ends, of which there is nothing else to wait for.
async fn end_of_shim(engine: &Shared, id: &str) -> Result<(), CriError> {
    let path = engine.layout.bundle(id).join("shim.pid");
    let failed = |error: std::io::Error| CriError::io("watch the shim of", &path)(error);
    let text = std::fs::read_to_string(&path).map_err(failed)?;
    let pid = text.trim().parse().ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| failed(std::io::ErrorKind::InvalidData.into()))?;
    let process = pidfd_open(pid, PidfdFlags::NONBLOCK).map_err(|errno| failed(errno.into()))?;
    // SAFETY: the OwnedFd keeps its descriptor open and the same for as long as it lives in the AsyncFd.
    let process = unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) };
    let process = process.map_err(|error| failed(error.into()))?;
    process.readable().await.map(drop).map_err(failed)
}

/// Notices when one that waits ends.
pub(super) fn watch(engine: &Shared, sandbox: &Arc<Sandbox>, shim: Shim) {
    let (engine, sandbox) = (Arc::clone(engine), Arc::clone(sandbox));
    let tasks = Arc::clone(&engine);
    tasks.tasks.spawn("waiting sandbox", async move {
        if sandbox.record().pause {
            let _ = shim.wait(&sandbox.id).await;
        } else if let Err(error) = end_of_shim(&engine, &sandbox.id).await {
            // A pod that takes it learns it from its first container.
            tracing::warn!(
                id = sandbox.id,
                error = chain(&error),
                "the shim is not watched"
            );
            return;
        }
        if engine.warm.discard(&sandbox.id, Stage::Waiting, "ended") {
            tracing::warn!(id = sandbox.id, "a waiting pod sandbox has ended");
            sandbox::note_lost(&sandbox);
            remove(&engine, sandbox).await;
        }
    });
}
