//! A change of a node's runtime that failed: when it is tried again. It is kept on the node, so that a new pod of the installer
//! does not try at once what has just failed.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// After a change that failed, the same one is tried again; each further time after twice as long.
pub const AGAIN: Duration = Duration::from_secs(600);

/// A change that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The digest of the change.
    what: String,
    /// When: seconds since 1970.
    at: u64,
    /// Why.
    pub why: String,
    /// How often.
    times: u32,
}

/// The digest of a change: what it is made of may hold secrets of the configuration.
#[must_use]
pub fn digest(change: &str) -> String {
    let digest = Sha256::digest(change.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Failure {
    /// The failure of a change, after that of the same one before, if there was one.
    #[must_use]
    pub fn after(before: Option<&Self>, what: &str, at: u64, why: &str) -> Self {
        let times = before
            .filter(|before| before.what == what)
            .map_or(0, |before| before.times);
        Self {
            what: what.to_owned(),
            at,
            why: why.to_owned(),
            times: times.saturating_add(1),
        }
    }

    /// Whether this change is not to be tried yet. Each restart of a runtime that fails costs the node's pods something.
    #[must_use]
    pub fn holds_back(&self, what: &str, now: u64) -> bool {
        // A clock that was set back makes nobody wait longer than the whole time.
        let since = Duration::from_secs(now.saturating_sub(self.at));
        let is_future = self.at > now.saturating_add(self.wait().as_secs());
        self.what == what && !is_future && since < self.wait()
    }

    fn wait(&self) -> Duration {
        let doubled = self.times.saturating_sub(1).min(7);
        AGAIN.saturating_mul(2_u32.saturating_pow(doubled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_change_waits_longer_each_time() {
        let (a, b) = (digest("a"), digest("b"));
        let first = Failure::after(None, &a, 1000, "no");
        assert!(first.holds_back(&a, 1000) && first.holds_back(&a, 1599));
        assert!(!first.holds_back(&a, 1600) && !first.holds_back(&b, 1000));
        let second = Failure::after(Some(&first), &a, 1600, "no");
        assert!(second.holds_back(&a, 2799) && !second.holds_back(&a, 2800));
        // Another change begins anew.
        let other = Failure::after(Some(&second), &b, 1600, "no");
        assert!(!other.holds_back(&b, 2200));
        let many = (0..99).fold(first, |last, _| Failure::after(Some(&last), &a, 0, "no"));
        assert!(!many.holds_back(&a, 128 * 600));
    }

    #[test]
    fn a_new_pod_and_a_clock_that_was_set_back_go_by_it() {
        let a = digest("a");
        let text = serde_json::to_string(&Failure::after(None, &a, 1000, "no")).unwrap();
        let read: Failure = serde_json::from_str(&text).unwrap();
        assert!(read.holds_back(&a, 1100) && read.holds_back(&a, 900));
        assert!(!read.holds_back(&a, 100));
    }
}
