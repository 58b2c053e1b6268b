//! Whether a commit waits a moment for more writes.
//!
//! A commit costs nearly the same for one write as for twenty: a sync, and the pages that all of them change. Who writes one
//! object after the other should not wait for anybody; where many do so at once, those that were answered by the last commit
//! and those that had come meanwhile come again soon, and share a sync if it waits for them.

use std::time::{Duration, Instant};

/// Fewer writers than this never wait for each other.
const FEW: usize = 4;
/// How long a commit waits at most.
const LONGEST: Duration = Duration::from_millis(2);
/// How long it waits before it looks again who has come.
pub(super) const STEP: Duration = Duration::from_micros(200);

/// Who is expected, from what came before.
#[derive(Debug, Default)]
pub(super) struct Company {
    expected: usize,
}

impl Company {
    /// Whether a commit of so many writes, the first of which came at `begun`, waits one step more.
    pub(super) fn is_awaited(&self, count: usize, begun: Instant, now: Instant) -> bool {
        self.expected >= FEW
            && count < self.expected
            && now.saturating_duration_since(begun) < LONGEST
    }

    /// A commit of so many writes is over, and so many wait by now.
    pub(super) fn committed(&mut self, count: usize, waiting: usize) {
        self.expected = count + waiting;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_many_wait_for_each_other_and_not_for_long() {
        let begun = Instant::now();
        let mut company = Company::default();
        assert!(!company.is_awaited(1, begun, begun), "the first of all");
        company.committed(1, 0);
        assert!(!company.is_awaited(1, begun, begun), "one after the other");
        company.committed(2, 1);
        assert!(!company.is_awaited(1, begun, begun), "a few");
        company.committed(3, 5);
        assert!(company.is_awaited(1, begun, begun));
        assert!(company.is_awaited(7, begun, begun + LONGEST / 2));
        assert!(!company.is_awaited(8, begun, begun), "all are there");
        assert!(
            !company.is_awaited(1, begun, begun + LONGEST),
            "long enough"
        );
        company.committed(1, 0);
        assert!(!company.is_awaited(1, begun, begun), "nobody else came");
    }
}
