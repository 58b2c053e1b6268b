//! Pods that end where they should run for ever: each place gets the next one later and later.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// A pod that ended is replaced after this time, and after twice as long each time it happens again in its place.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// When the pod in a place (a node, a number) ended last, and how often.
type Places = HashMap<String, (Instant, u32)>;

/// The places of each controller, by its UID.
#[derive(Default)]
pub(super) struct Ended(Mutex<HashMap<String, Places>>);

impl Ended {
    /// How long a pod that ended is left as it is; zero takes note that it is replaced now.
    pub(super) fn pause(&self, controller: &str, place: &str, now: Instant) -> Duration {
        let mut all = self.0.lock();
        let places = all.entry(controller.to_owned()).or_default();
        let (last, times) = places.get(place).copied().unwrap_or((now, 0));
        let doublings = times.saturating_sub(1);
        let pause = FIRST
            .saturating_mul(2_u32.saturating_pow(doublings))
            .min(LONGEST);
        let passed = now.duration_since(last);
        if times > 0 && passed < pause {
            return pause - passed;
        }
        // Long without trouble is as good as new.
        let times = match passed > 2 * LONGEST {
            true => 1,
            false => times.saturating_add(1),
        };
        places.insert(place.to_owned(), (now, times));
        Duration::ZERO
    }

    /// Forgets all other controllers.
    pub(super) fn keep_only(&self, controllers: &BTreeSet<String>) {
        self.0.lock().retain(|uid, _| controllers.contains(uid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_and_later_in_each_place() {
        let (ended, mut now) = (Ended::default(), Instant::now());
        assert_eq!(ended.pause("u", "a", now), Duration::ZERO);
        for seconds in [1, 2, 4, 8] {
            let left = ended.pause("u", "a", now);
            assert_eq!(left.as_secs(), seconds);
            now += left;
            assert_eq!(ended.pause("u", "a", now), Duration::ZERO);
        }
        assert_eq!(ended.pause("u", "b", now), Duration::ZERO, "another place");
        now += 3 * LONGEST;
        assert_eq!(ended.pause("u", "a", now), Duration::ZERO);
        assert_eq!(ended.pause("u", "a", now), FIRST, "it begins anew");
        ended.keep_only(&BTreeSet::new());
        assert_eq!(ended.pause("u", "a", now), Duration::ZERO);
    }
}
