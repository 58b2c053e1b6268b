//! When a node is asked again after it could not make or remove a directory: later and later.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::Key;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// By claim or volume: how often it failed, and until when it waits.
#[derive(Default)]
pub(super) struct Pauses(Mutex<HashMap<Key, (u32, Instant)>>);

impl Pauses {
    /// How long it has to wait.
    pub(super) fn left(&self, key: &Key, now: Instant) -> Option<Duration> {
        let (_, until) = *self.0.lock().get(key)?;
        Some(until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }

    /// It failed once more; how long it waits now.
    pub(super) fn failed(&self, key: &Key, now: Instant) -> Duration {
        let mut all = self.0.lock();
        let entry = all.entry(key.clone()).or_insert((0, now));
        let pause = FIRST.saturating_mul(1 << entry.0.min(6)).min(LONGEST);
        *entry = (entry.0.saturating_add(1), now + pause);
        pause
    }

    /// It is done, or gone.
    pub(super) fn forget(&self, key: &Key) {
        self.0.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_and_later_until_it_is_forgotten() {
        let (pauses, key, mut now) = (Pauses::default(), Key::new("n", "a"), Instant::now());
        assert_eq!(pauses.left(&key, now), None);
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let pause = Duration::from_secs(seconds);
            assert_eq!(pauses.failed(&key, now), pause);
            assert_eq!(pauses.left(&key, now), Some(pause));
            now += pause;
            assert_eq!(pauses.left(&key, now), None);
        }
        pauses.forget(&key);
        assert_eq!(pauses.failed(&key, now), FIRST);
    }
}
