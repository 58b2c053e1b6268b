//! `StopContainer`: ask, wait for the grace period, then kill.

use std::time::Duration;

use crate::engine::Shared;
use crate::error::CriError;
use crate::record::ContainerPhase;

const SIGKILL: u32 = 9;
const SIGTERM: u32 = 15;
/// How long a killed process may need to be gone; one in uninterruptible sleep never is.
const AFTER_KILL: Duration = Duration::from_secs(30);

/// Stops a container; one that is gone or has ended is fine. `timeout` is in seconds.
pub(crate) async fn stop(engine: &Shared, id: &str, timeout: i64) -> Result<(), CriError> {
    let container = match engine.containers.get(id) {
        Err(CriError::NotFound { .. }) => return Ok(()),
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
        let signal = signal_number(&record.stop_signal).unwrap_or(SIGTERM);
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

/// The number of `SIGQUIT`, `QUIT`, `15`, `SIGRTMIN+3`.
fn signal_number(name: &str) -> Option<u32> {
    if name.is_empty() {
        return None;
    }
    if let Ok(number) = name.parse::<u32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = name.to_uppercase();
    let short = name.strip_prefix("SIG").unwrap_or(&name);
    if let Some(rest) = short.strip_prefix("RTMIN") {
        let offset = if rest.is_empty() {
            0
        } else {
            rest.strip_prefix('+')?.parse().ok()?
        };
        return (offset <= 30).then_some(34 + offset);
    }
    let signal: nix::sys::signal::Signal = format!("SIG{short}").parse().ok()?;
    u32::try_from(signal as i32).ok()
}

#[cfg(test)]
mod tests {
    use super::signal_number;

    #[test]
    fn signals_by_every_name() {
        for (name, number) in [
            ("SIGQUIT", Some(3)),
            ("quit", Some(3)),
            ("15", Some(15)),
            ("SIGRTMIN+3", Some(37)),
            ("SIGNONE", None),
            ("99", None),
            ("", None),
        ] {
            assert_eq!(signal_number(name), number, "{name}");
        }
    }
}
