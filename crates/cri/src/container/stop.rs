//! `StopContainer`: ask, wait for the grace period, then kill.

use std::time::Duration;

use super::signal::{self, SIGKILL, SIGTERM};
use crate::engine::Shared;
use crate::error::CriError;
use crate::record::ContainerPhase;

/// How long a killed process may need to be gone; one in uninterruptible sleep never is.
const AFTER_KILL: Duration = Duration::from_secs(30);

/// Stops a container; one that is gone or has ended is fine. `timeout` is in seconds.
pub(crate) async fn stop(engine: &Shared, id: &str, timeout: i64) -> Result<(), CriError> {
    let container = match engine.containers.get(id) {
        Err(CriError::NotFound { .. }) => return Ok(engine.held.check(id)?),
        found => found?,
    };
    match container.phase() {
        ContainerPhase::Exited(_) | ContainerPhase::Created => return Ok(()),
        ContainerPhase::Starting => {
            // A start under way ends in one of the other phases.
            drop(container.busy.lock().await);
        }
        ContainerPhase::Running => {}
    }
    if container.phase() != ContainerPhase::Running {
        return Ok(());
    }
    let record = container.record();
    let sandbox = engine.sandboxes.get(&record.sandbox_id)?;
    let shim = sandbox.shim()?;
    let grace = Duration::from_secs(u64::try_from(timeout).unwrap_or(0));
    if !grace.is_zero() {
        let signal = signal::number(&record.stop_signal).unwrap_or(SIGTERM);
        match shim.kill(&container.id, signal, false).await {
            Ok(()) => {
                if tokio::time::timeout(grace, container.stopped())
                    .await
                    .is_ok()
                {
                    return Ok(());
                }
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => {
                tracing::warn!(id = container.id, %error, "the stop signal could not be sent")
            }
        }
    }
    match shim.kill(&container.id, SIGKILL, true).await {
        Ok(()) => {}
        Err(error) if error.is_not_found() => {}
        // Whoever waits for its end ends it without the shim.
        Err(error) if error.is_disconnected() => {}
        Err(error) => return Err(CriError::shim("kill container", &container.id)(error)),
    }
    tokio::time::timeout(AFTER_KILL, container.stopped())
        .await
        .map_err(|_| {
            CriError::State(format!(
                "container {} did not end after SIGKILL",
                container.id
            ))
        })
}
