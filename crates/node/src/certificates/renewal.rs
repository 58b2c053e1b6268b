//! When a certificate is renewed.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use super::CertificatePair;

/// The part of its life after which one is renewed: all of a cluster's nodes don't ask at once.
const EARLIEST: f64 = 0.7;
const SPREAD: f64 = 0.2;
/// The clock is looked at so often: it runs on while the machine sleeps, and may be set.
const LOOK: Duration = Duration::from_secs(30);

/// A moment between 70 and 90 percent of its life.
pub(super) fn deadline(pair: &CertificatePair) -> Timestamp {
    let part = f64::from(rand::random::<u16>()) / f64::from(u16::MAX);
    between(pair.not_before(), pair.not_after(), part)
}

fn between(start: Timestamp, end: Timestamp, part: f64) -> Timestamp {
    let life = Duration::try_from(end.duration_since(start)).unwrap_or_default();
    let waits = life.mul_f64(EARLIEST + SPREAD * part);
    SignedDuration::try_from(waits)
        .ok()
        .and_then(|waits| start.checked_add(waits).ok())
        .unwrap_or(end)
}

/// The moment that is so long from now.
pub(super) fn after(pause: Duration) -> Timestamp {
    let now = Timestamp::now();
    SignedDuration::try_from(pause)
        .ok()
        .and_then(|pause| now.checked_add(pause).ok())
        .unwrap_or(now)
}

/// Waits for a moment; none at a shutdown.
pub(super) async fn sleep_until(at: Timestamp, shutdown: &CancellationToken) -> Option<()> {
    loop {
        let left = at.duration_since(Timestamp::now());
        let left = Duration::try_from(left).unwrap_or_default();
        if left.is_zero() {
            return (!shutdown.is_cancelled()).then_some(());
        }
        shutdown
            .run_until_cancelled(tokio::time::sleep(left.min(LOOK)))
            .await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_renewed_between_seven_and_nine_tenths_of_its_life() {
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let end: Timestamp = "2026-01-01T00:00:10Z".parse().unwrap();
        let at = |part| between(start, end, part).duration_since(start).as_millis();
        assert_eq!((at(0.0), at(0.5), at(1.0)), (7000, 8000, 9000));
        // one that can't be is due
        assert!(between(end, start, 0.5) <= end);
    }

    #[tokio::test]
    async fn a_shutdown_ends_the_wait() {
        let shutdown = CancellationToken::new();
        let past = Timestamp::UNIX_EPOCH;
        assert_eq!(sleep_until(past, &shutdown).await, Some(()));
        shutdown.cancel();
        assert_eq!(sleep_until(Timestamp::MAX, &shutdown).await, None);
        assert_eq!(sleep_until(past, &shutdown).await, None);
    }
}
