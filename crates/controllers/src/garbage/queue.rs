//! Which objects are to be looked at, and when: each once, and later and later when it fails.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(60);

/// Uids in the order in which they are due.
#[derive(Debug, Default)]
pub(super) struct Queue {
    due: BTreeSet<(Instant, String)>,
    at: HashMap<String, Instant>,
    failures: HashMap<String, u32>,
}

impl Queue {
    /// Has it looked at now, if it is not due sooner.
    pub(super) fn add(&mut self, uid: String, now: Instant) {
        self.schedule(uid, now);
    }

    /// Has it looked at later, after a failure: twice as late each time.
    pub(super) fn add_failed(&mut self, uid: String, now: Instant) {
        let failures = self.failures.entry(uid.clone()).or_default();
        let pause = FIRST.saturating_mul(1 << (*failures).min(16)).min(LONGEST);
        *failures += 1;
        self.schedule(uid, now + pause);
    }

    /// The last look at it found nothing more to do.
    pub(super) fn forget(&mut self, uid: &str) {
        self.failures.remove(uid);
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes what is due.
    pub(super) fn take(&mut self, now: Instant) -> Option<String> {
        if self.next()? > now {
            return None;
        }
        let (_, uid) = self.due.pop_first()?;
        self.at.remove(&uid);
        Some(uid)
    }

    fn schedule(&mut self, uid: String, at: Instant) {
        if let Some(old) = self.at.get(&uid) {
            if *old <= at {
                return;
            }
            self.due.remove(&(*old, uid.clone()));
        }
        self.at.insert(uid.clone(), at);
        self.due.insert((at, uid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_once_and_failures_later_and_later() {
        let (mut queue, mut now) = (Queue::default(), Instant::now());
        queue.add_failed("a".into(), now);
        assert_eq!(queue.take(now), None, "not due yet");
        queue.add("a".into(), now);
        let taken = queue.take(now);
        assert_eq!(taken.as_deref(), Some("a"), "sooner than it was due");
        assert_eq!(queue.take(now + LONGEST), None);
        queue.add_failed("a".into(), now);
        assert_eq!(queue.next(), Some(now + FIRST * 2));
        assert!(queue.take(now + FIRST * 2).is_some());
        for _ in 0..40 {
            queue.add_failed("b".into(), now);
            now += LONGEST;
            assert_eq!(queue.take(now).as_deref(), Some("b"));
        }
        queue.add_failed("b".into(), now);
        assert_eq!(queue.next(), Some(now + LONGEST));
        now += LONGEST;
        assert_eq!(queue.take(now).as_deref(), Some("b"));
        queue.forget("b");
        queue.add_failed("b".into(), now);
        assert_eq!(queue.next(), Some(now + FIRST));
    }
}
