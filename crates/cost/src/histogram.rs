//! Many numbers, kept as counts by size: quantiles of them are off by at most 1 in 64.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Each power of two is divided into so many buckets.
const STEPS: u64 = 64;
const STEP_BITS: u32 = STEPS.trailing_zeros();

/// Counts of numbers by size. Numbers below 128 are kept exactly.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    counts: BTreeMap<u32, u64>,
    /// The largest number of all, exactly.
    max: u64,
}

impl Histogram {
    /// Counts a number.
    pub fn add(&mut self, value: u64) {
        let count = self.counts.entry(bucket(value)).or_default();
        *count = count.saturating_add(1);
        self.max = self.max.max(value);
    }

    /// Counts all that another one has counted.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, more) in &other.counts {
            let count = self.counts.entry(*bucket).or_default();
            *count = count.saturating_add(*more);
        }
        self.max = self.max.max(other.max);
    }

    /// How many numbers there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.counts
            .values()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The largest number; 0 when there are none.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max
    }

    /// The smallest number that at least so many hundredths of all are not above (the nearest rank), rounded up by
    /// 1 in 64 at most; 0 when there are none.
    #[must_use]
    pub fn percentile(&self, hundredths: u64) -> u64 {
        let all = u128::from(self.len());
        let rank = (all * u128::from(hundredths)).div_ceil(100).max(1);
        let mut seen = 0;
        for (bucket, count) in &self.counts {
            seen += u128::from(*count);
            if seen >= rank {
                return upper(*bucket).min(self.max);
            }
        }
        self.max
    }

    /// Whether it is one that [`Self::add`] can have made: what is read from a file is not always.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        let last = self.counts.keys().next_back();
        last.is_none_or(|last| *last == bucket(self.max)) && self.counts.values().all(|c| *c > 0)
    }
}

fn bucket(value: u64) -> u32 {
    let bits = value.checked_ilog2().unwrap_or(0);
    if bits <= STEP_BITS {
        return u32::try_from(value).unwrap_or(u32::MAX);
    }
    let shift = bits - STEP_BITS;
    // 64 to 127, whatever the value's size.
    let lead = u32::try_from(value >> shift).unwrap_or(u32::MAX);
    (shift << STEP_BITS) + lead
}

/// The largest number of a bucket.
fn upper(bucket: u32) -> u64 {
    let steps = 1_u32 << STEP_BITS;
    if bucket < 2 * steps {
        return u64::from(bucket);
    }
    let shift = bucket / steps - 1;
    let lead = u64::from(bucket % steps + steps);
    lead.checked_add(1)
        .and_then(|next| next.checked_shl(shift))
        .filter(|next| next >> shift == lead + 1)
        .map_or(u64::MAX, |next| next - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_in_its_bucket_and_at_most_a_64th_below_its_end() {
        let mut values: Vec<u64> = (0..5000).collect();
        for shift in 12..64 {
            let power = 1_u64 << shift;
            values.extend([power - 1, power, power + 1, power + power / 3]);
        }
        values.push(u64::MAX);
        for value in values {
            let end = upper(bucket(value));
            assert!(end >= value, "{value} {end}");
            assert!(end - value <= value / 64, "{value} {end}");
            assert_eq!(bucket(end), bucket(value), "{value}");
        }
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.percentile(50), histogram.max()), (0, 0));
        (1..=100).for_each(|n| histogram.add(n));
        let of = |p| histogram.percentile(p);
        assert_eq!(
            (of(50), of(99), of(100), histogram.max()),
            (50, 99, 100, 100)
        );
        // One that is far off is the maximum, and not yet the 99th of a hundred and one.
        histogram.add(1 << 40);
        assert_eq!(histogram.percentile(99), 100);
        assert_eq!(histogram.percentile(100), 1 << 40);
    }

    #[test]
    fn two_are_one_when_they_are_merged() {
        let (mut a, mut b) = (Histogram::default(), Histogram::default());
        (0..50).for_each(|n| a.add(n * 1000));
        (50..100).for_each(|n| b.add(n * 1000));
        a.merge(&b);
        let mut both = Histogram::default();
        (0..100).for_each(|n| both.add(n * 1000));
        assert_eq!(a, both);
        assert!(a.is_sound());
        assert_eq!(a.len(), 100);
    }

    #[test]
    fn what_cannot_have_been_counted_is_seen() {
        for text in [
            r#"{"counts":{"5":1},"max":9}"#,
            r#"{"counts":{"5":0,"6":1},"max":6}"#,
        ] {
            let read: Histogram = serde_json::from_str(text).unwrap();
            assert!(!read.is_sound(), "{text}");
        }
        let written = serde_json::to_string(&Histogram::default()).unwrap();
        let read: Histogram = serde_json::from_str(&written).unwrap();
        assert!(read.is_sound());
    }
}
