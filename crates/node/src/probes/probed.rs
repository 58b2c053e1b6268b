//! How often containers were probed, with what result and for how long: the stock `prober_*` metrics.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

/// Prometheus' default buckets, in milliseconds.
pub(crate) const BUCKETS_MS: [u64; 11] = [5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000];

/// Which probe, of which container of which pod (uid).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProbeKey {
    pub(crate) uid: String,
    pub(crate) container: String,
    pub(crate) kind: &'static str,
}

/// The counts of one probe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProbeCounts {
    pub(crate) successful: u64,
    pub(crate) failed: u64,
    /// Of successful ones, by duration; the last is of longer ones.
    pub(crate) buckets: [u64; BUCKETS_MS.len() + 1],
    pub(crate) total: Duration,
}

/// All counts. There is an entry for a probe of a pod's spec, of which a pod has a bounded number.
#[derive(Default)]
pub(crate) struct Probed(Mutex<BTreeMap<ProbeKey, ProbeCounts>>);

impl Probed {
    pub(super) fn count(
        &self,
        uid: &str,
        container: &str,
        kind: &'static str,
        good: bool,
        passed: Duration,
    ) {
        let key = ProbeKey {
            uid: uid.to_owned(),
            container: container.to_owned(),
            kind,
        };
        let mut all = self.0.lock();
        let counts = all.entry(key).or_default();
        if !good {
            counts.failed += 1;
            return;
        }
        counts.successful += 1;
        counts.total += passed;
        let limit = |limit: &u64| passed <= Duration::from_millis(*limit);
        let bucket = BUCKETS_MS
            .iter()
            .position(limit)
            .unwrap_or(BUCKETS_MS.len());
        counts.buckets[bucket] += 1;
    }

    /// All counts of pods that are (still) there; others are forgotten.
    pub(crate) fn counts(
        &self,
        is_there: impl Fn(&str) -> bool,
    ) -> BTreeMap<ProbeKey, ProbeCounts> {
        let mut all = self.0.lock();
        all.retain(|key, _| is_there(&key.uid));
        all.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_and_durations_are_counted_while_the_pod_is_there() {
        let probed = Probed::default();
        let count = |good, ms| probed.count("u", "c", "Liveness", good, Duration::from_millis(ms));
        count(true, 5);
        count(true, 6);
        count(true, 60_000);
        count(false, 1);
        let all = probed.counts(|_| true);
        let counts = all.values().next().unwrap();
        assert_eq!((counts.successful, counts.failed), (3, 1));
        assert_eq!(counts.buckets, [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert!(probed.counts(|_| false).is_empty());
        assert!(probed.counts(|_| true).is_empty());
    }
}
