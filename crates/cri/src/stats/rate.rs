//! CPU use as a rate, from two looks at a counter.

use parking_lot::Mutex;

/// Looks that follow each other closer than this would give noise.
const LEAST: i64 = 100_000_000;

/// Keeps the last look.
#[derive(Debug, Default)]
pub(crate) struct Rate(Mutex<Option<Look>>);

#[derive(Debug, Clone, Copy)]
struct Look {
    at: i64,
    used: u64,
    rate: Option<u64>,
}

impl Rate {
    /// Billionths of a core since the last look; `None` at the first one. Both are in nanoseconds.
    pub(crate) fn update(&self, at: i64, used: u64) -> Option<u64> {
        let mut last = self.0.lock();
        let rate = match *last {
            Some(look) if at - look.at < LEAST => return look.rate,
            Some(look) => used.checked_sub(look.used).and_then(|more| {
                let time = u128::try_from(at - look.at).ok()?;
                u64::try_from(u128::from(more) * 1_000_000_000 / time).ok()
            }),
            None => None,
        };
        *last = Some(Look { at, used, rate });
        rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_needs_two_looks_some_time_apart() {
        let rate = Rate::default();
        let second = 1_000_000_000;
        assert_eq!(rate.update(second, 500), None);
        assert_eq!(rate.update(second + 5, 600), None);
        assert_eq!(rate.update(3 * second, 1_000_000_500), Some(500_000_000));
        assert_eq!(rate.update(3 * second + 5, 9), Some(500_000_000));
        // A counter that starts anew.
        assert_eq!(rate.update(4 * second, 7), None);
        assert_eq!(rate.update(5 * second, 107), Some(100));
    }
}
