//! When a Job that could not be deleted is tried again.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;

/// After the first attempt; each further one doubles it.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);

/// When each Job was last tried, and how often, by UID.
#[derive(Debug, Default)]
pub(super) struct Retries(HashMap<String, (Timestamp, u32)>);

impl Retries {
    /// Forgets all other Jobs.
    pub(super) fn keep_only<'a>(&mut self, uids: impl Iterator<Item = &'a str>) {
        if self.0.is_empty() {
            return;
        }
        let present: HashSet<&str> = uids.collect();
        self.0.retain(|uid, _| present.contains(uid.as_str()));
    }

    /// How long a Job is to be left alone.
    pub(super) fn time_left(&self, uid: &str, now: Timestamp) -> Duration {
        let Some((last, attempts)) = self.0.get(uid) else {
            return Duration::ZERO;
        };
        // A clock that was put back must not make it wait for longer than that.
        let passed = Duration::try_from(now.duration_since(*last)).unwrap_or(LONGEST);
        pause(*attempts).saturating_sub(passed)
    }

    /// Takes note of an attempt, and says when the next may be.
    pub(super) fn tried(&mut self, uid: &str, now: Timestamp) -> Duration {
        let entry = self.0.entry(uid.to_owned()).or_insert((now, 0));
        *entry = (now, entry.1.saturating_add(1));
        pause(entry.1)
    }

    /// Whether this is the first time that something is said of a Job.
    pub(super) fn is_first(&mut self, uid: &str, now: Timestamp) -> bool {
        let known = self.0.contains_key(uid);
        if !known {
            self.0.insert(uid.to_owned(), (now, 0));
        }
        !known
    }
}

fn pause(attempts: u32) -> Duration {
    match attempts {
        0 => Duration::ZERO,
        n => FIRST
            .saturating_mul(2_u32.saturating_pow(n - 1))
            .min(LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_attempt_waits_longer() {
        let (mut retries, start) = (Retries::default(), Timestamp::UNIX_EPOCH);
        assert_eq!(retries.time_left("u", start), Duration::ZERO);
        let waits: Vec<u64> = (0..11)
            .map(|_| retries.tried("u", start).as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert_eq!(retries.time_left("u", start + FIRST), LONGEST - FIRST);
        assert_eq!(retries.time_left("u", start - FIRST), Duration::ZERO);
        assert_eq!(retries.time_left("other", start), Duration::ZERO);
        retries.keep_only(["other"].into_iter());
        assert!(retries.0.is_empty());
    }
}
