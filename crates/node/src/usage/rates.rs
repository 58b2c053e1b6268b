//! CPU use as a rate, from two looks at a counter.

use std::collections::HashMap;

use parking_lot::Mutex;

/// Looks that follow each other closer than this would give noise.
const MIN_WINDOW_NS: i64 = 1_000_000_000;

#[derive(Clone, Copy)]
struct Look {
    at: i64,
    used: u64,
    rate: Option<u64>,
}

/// The last look at each counter, by its name.
#[derive(Default)]
pub(crate) struct Rates(Mutex<HashMap<String, Look>>);

impl Rates {
    /// Billionths of a core since the last look; `None` at the first one, and when the counter went backwards (it began anew).
    /// Both are in nanoseconds.
    pub(crate) fn update(&self, name: &str, at: i64, used: u64) -> Option<u64> {
        let mut looks = self.0.lock();
        let rate = match looks.get(name).copied() {
            Some(look) if at.saturating_sub(look.at) < MIN_WINDOW_NS && at >= look.at => {
                return look.rate;
            }
            Some(look) => used.checked_sub(look.used).and_then(|more| {
                let time = u128::try_from(at.checked_sub(look.at)?).ok()?;
                u64::try_from(u128::from(more) * 1_000_000_000 / time.max(1)).ok()
            }),
            None => None,
        };
        looks.insert(name.to_owned(), Look { at, used, rate });
        rate
    }

    /// Forgets all others.
    pub(crate) fn keep(&self, wanted: impl Fn(&str) -> bool) {
        self.0.lock().retain(|name, _| wanted(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_needs_two_looks_and_none_is_negative() {
        let (rates, second) = (Rates::default(), 1_000_000_000);
        assert_eq!(rates.update("a", second, 500), None);
        assert_eq!(rates.update("a", second + 5, 600), None);
        assert_eq!(
            rates.update("a", 3 * second, 1_000_000_500),
            Some(500_000_000)
        );
        assert_eq!(rates.update("a", 3 * second + 5, 9), Some(500_000_000));
        assert_eq!(rates.update("a", 4 * second, 7), None);
        assert_eq!(rates.update("a", 5 * second, 107), Some(100));
        // The clock was set back.
        assert_eq!(rates.update("a", second, 200), None);
        assert_eq!(rates.update("b", second, 1), None);
        rates.keep(|name| name == "b");
        assert_eq!(rates.0.lock().len(), 1);
    }
}
