//! Something that fails again and again: said at once, then seldom, and once more when it works again.

use std::borrow::Cow;
use std::fmt::Display;
use std::time::{Duration, Instant};

use tracing::{info, warn};

/// A failure that goes on is said again after this long.
const SAY_AGAIN: Duration = Duration::from_secs(30);
/// The first pause before another try, and the longest one, as in the stock kubelet's lease controller.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(7);

/// One thing that may fail repeatedly, such as a watch or the renewal of a lease.
#[derive(Debug)]
pub struct Outage {
    what: Cow<'static, str>,
    now: Option<Ongoing>,
}

#[derive(Debug)]
struct Ongoing {
    since: Instant,
    said: Instant,
    failures: u32,
}

impl Outage {
    /// `what` is the message of its log lines, such as `"cannot renew the node's Lease"`.
    #[must_use]
    pub fn new(what: impl Into<Cow<'static, str>>) -> Self {
        Self {
            what: what.into(),
            now: None,
        }
    }

    /// It failed: logs a warning at the first failure and then every half minute. Gives the pause before the next
    /// try, which doubles from 200 ms to 7 s.
    pub fn failed(&mut self, error: impl Display) -> Duration {
        let (failures, say) = self.note(Instant::now());
        if say {
            warn!(%error, failures, "{}; trying again", self.what);
        }
        pause(failures)
    }

    /// It works: says so when it had failed.
    pub fn works(&mut self) {
        if let Some(past) = self.now.take() {
            let seconds = past.since.elapsed().as_secs();
            info!(
                failures = past.failures,
                seconds, "it works again after: {}", self.what
            );
        }
    }

    /// Counts a failure; gives the count, and whether to log it.
    fn note(&mut self, now: Instant) -> (u32, bool) {
        let Some(ongoing) = &mut self.now else {
            self.now = Some(Ongoing {
                since: now,
                said: now,
                failures: 1,
            });
            return (1, true);
        };
        ongoing.failures = ongoing.failures.saturating_add(1);
        let say = now.saturating_duration_since(ongoing.said) >= SAY_AGAIN;
        if say {
            ongoing.said = now;
        }
        (ongoing.failures, say)
    }
}

fn pause(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    (FIRST_PAUSE * 2_u32.pow(doublings)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_said_and_then_one_every_half_minute() {
        let (mut outage, start) = (Outage::new("x"), Instant::now());
        assert_eq!(outage.note(start), (1, true));
        let said = (1..=600)
            .filter(|n| outage.note(start + Duration::from_millis(n * 100)).1)
            .count();
        assert_eq!(said, 2, "a minute of failures ten times a second");
        outage.works();
        assert_eq!(outage.note(start), (1, true), "another outage");
    }

    #[test]
    fn pauses_double_up_to_seven_seconds() {
        let millis: Vec<u128> = (1..=8).map(|n| pause(n).as_millis()).collect();
        assert_eq!(millis, [200, 400, 800, 1600, 3200, 6400, 7000, 7000]);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
    }
}
