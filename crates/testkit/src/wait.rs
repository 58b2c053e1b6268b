//! Waiting for a condition with a deadline.

use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(25);

/// Calls `probe` until it answers `Some`, at most for `limit`; panics with `what` and the last
/// explanation (`Err`) when the time is over.
///
/// # Panics
/// When the condition doesn't hold in time.
pub fn wait_for<T, E: std::fmt::Display>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<T, E>,
) -> T {
    let end = Instant::now() + limit;
    loop {
        match probe() {
            Ok(found) => return found,
            Err(why) if Instant::now() >= end => {
                panic!("waited {limit:?} for {what}, in vain: {why}")
            }
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// As [`wait_for`], for a probe that is asynchronous.
///
/// # Panics
/// When the condition doesn't hold in time.
pub async fn wait_for_async<T, E: std::fmt::Display, F: Future<Output = Result<T, E>>>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> F,
) -> T {
    let end = Instant::now() + limit;
    loop {
        match probe().await {
            Ok(found) => return found,
            Err(why) if Instant::now() >= end => {
                panic!("waited {limit:?} for {what}, in vain: {why}")
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_success_ends_the_wait() {
        let mut left = 2;
        let got = wait_for("a countdown", Duration::from_secs(5), || {
            left -= 1;
            if left == 0 { Ok("done") } else { Err(left) }
        });
        assert_eq!(got, "done");
    }

    #[test]
    #[should_panic(expected = "for a miracle, in vain: none")]
    fn the_deadline_panics_with_the_reason() {
        wait_for("a miracle", Duration::from_millis(1), || {
            Err::<(), _>("none")
        });
    }
}
