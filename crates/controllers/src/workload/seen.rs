//! Whether a watched copy has what was written. Until it has, it shows too few pods, and more would be made.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::Key;

/// A write that is never seen (its object was gone before the watch listed again) is waited for no longer than this.
const PATIENCE: Duration = Duration::from_secs(30);

/// The newest revision that was written on behalf of an object.
#[derive(Default)]
pub(super) struct Written(Mutex<HashMap<Key, (u64, Instant)>>);

impl Written {
    /// Takes note of a write.
    pub(super) fn note(&self, key: &Key, revision: Option<u64>) {
        self.note_at(key, revision, Instant::now());
    }

    fn note_at(&self, key: &Key, revision: Option<u64>, now: Instant) {
        let Some(revision) = revision else {
            return;
        };
        let mut all = self.0.lock();
        let entry = all.entry(key.clone()).or_insert((revision, now));
        entry.0 = entry.0.max(revision);
        entry.1 = now;
    }

    /// How long to wait for a copy of this revision to have it; the watch's next event comes before. None when it has it.
    pub(super) fn is_awaited(&self, key: &Key, seen: u64) -> Option<Duration> {
        self.is_awaited_at(key, seen, Instant::now())
    }

    fn is_awaited_at(&self, key: &Key, seen: u64, now: Instant) -> Option<Duration> {
        let mut all = self.0.lock();
        let (revision, since) = *all.get(key)?;
        let left = PATIENCE.saturating_sub(now.saturating_duration_since(since));
        if seen >= revision || left.is_zero() {
            all.remove(key);
            return None;
        }
        Some(left)
    }

    /// The object is gone.
    pub(super) fn forget(&self, key: &Key) {
        self.0.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn until_it_is_seen_and_not_for_ever() {
        let (written, key) = (Written::default(), Key::new("n", "a"));
        assert_eq!(written.is_awaited(&key, 0), None);
        written.note(&key, Some(7));
        written.note(&key, Some(5));
        written.note(&key, None);
        assert!(written.is_awaited(&key, 6).is_some());
        assert!(written.is_awaited(&Key::new("n", "b"), 0).is_none());
        assert_eq!(written.is_awaited(&key, 7), None);
        assert_eq!(written.is_awaited(&key, 0), None, "once is enough");
        let now = Instant::now();
        written.note_at(&key, Some(9), now);
        assert_eq!(written.is_awaited_at(&key, 0, now), Some(PATIENCE));
        assert_eq!(written.is_awaited_at(&key, 0, now + PATIENCE), None);
    }
}
