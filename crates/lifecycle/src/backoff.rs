//! How long to wait before a failed thing is tried again: 10 s doubling to 5 min.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

/// First delay after a crash or a failed pull.
pub const INITIAL: SignedDuration = SignedDuration::from_secs(10);
/// No delay grows beyond this.
pub const MAX: SignedDuration = SignedDuration::from_secs(300);

#[derive(Clone, Copy, Debug)]
struct Entry {
    delay: SignedDuration,
    updated: Timestamp,
}

/// Delays per key (a container's name, an image).
#[derive(Clone, Debug, Default)]
pub struct Backoffs(BTreeMap<String, Entry>);

impl Backoffs {
    /// Until when `key` has to wait, given when it last failed; `None` means it may go now.
    pub fn until(&self, key: &str, failed_at: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let entry = self.0.get(key)?;
        if expired(entry, failed_at) {
            return None;
        }
        let until = failed_at.saturating_add(entry.delay).unwrap_or(now);
        (now < until).then_some(until)
    }

    /// The delay now in force for `key`.
    pub fn delay(&self, key: &str) -> Option<SignedDuration> {
        self.0.get(key).map(|e| e.delay)
    }

    /// Notes a new try after a failure at `failed_at`: the next delay doubles.
    pub fn next(&mut self, key: &str, failed_at: Timestamp, now: Timestamp) {
        let delay = match self.0.get(key) {
            Some(entry) if !expired(entry, failed_at) => (entry.delay * 2).min(MAX),
            Some(_) | None => INITIAL,
        };
        self.0.insert(
            key.to_owned(),
            Entry {
                delay,
                updated: now,
            },
        );
    }

    /// Forgets `key` after a success.
    pub fn reset(&mut self, key: &str) {
        self.0.remove(key);
    }
}

/// A thing that went well for twice the longest delay starts over.
fn expired(entry: &Entry, failed_at: Timestamp) -> bool {
    failed_at.duration_since(entry.updated) > MAX * 2
}

/// A delay as Go prints it: `10s`, `1m20s`, `5m0s`.
pub fn go_duration(delay: SignedDuration) -> String {
    let secs = delay.as_secs();
    let (h, m, s) = (secs / 3600, secs / 60 % 60, secs % 60);
    if h > 0 {
        format!("{h}h{m}m{s}s")
    } else if m > 0 {
        format!("{m}m{s}s")
    } else {
        format!("{s}s")
    }
}
