//! A bound on log lines whose number a client chooses.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The least time between two lines.
const EVERY: Duration = Duration::from_secs(10);

/// Lets one line pass in a while, and counts those that didn't.
#[derive(Debug, Default)]
pub(crate) struct LogLimit(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    suppressed: u64,
}

impl LogLimit {
    /// Whether to log now; the number is of those that were left out since the last line.
    pub(crate) fn pass(&self) -> Option<u64> {
        self.pass_at(Instant::now())
    }

    fn pass_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock();
        if state
            .last
            .is_some_and(|last| now.duration_since(last) < EVERY)
        {
            state.suppressed += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_passes_in_a_while() {
        let limit = LogLimit::default();
        let start = Instant::now();
        assert_eq!(limit.pass_at(start), Some(0));
        assert_eq!(limit.pass_at(start + EVERY / 2), None);
        assert_eq!(limit.pass_at(start + EVERY / 2), None);
        assert_eq!(limit.pass_at(start + EVERY), Some(2));
        assert_eq!(limit.pass_at(start + 2 * EVERY), Some(0));
    }
}
