//! Nodes on which the installer's program does not run any more, and whose labels nobody looks after.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What is remembered from look to look.
#[derive(Clone, Debug, Default)]
pub struct Stale {
    /// Since when nodes are seen without the program.
    without: BTreeMap<String, Duration>,
}

impl Stale {
    /// The nodes that lose their labels: of those that have some, the ones where no pod of the program was for as long as
    /// `grace`, for an update of the chart takes a node's pod and makes another. `now` is the time since any fixed moment.
    pub fn of(
        &mut self,
        labelled: &BTreeSet<String>,
        programs: &BTreeSet<String>,
        grace: Duration,
        now: Duration,
    ) -> Vec<String> {
        let without: BTreeMap<String, Duration> = labelled
            .difference(programs)
            .map(|node| {
                let since = self.without.get(node).copied().unwrap_or(now);
                (node.clone(), since)
            })
            .collect();
        self.without = without;
        let stale = self
            .without
            .iter()
            .filter(|(_, since)| now.saturating_sub(**since) >= grace);
        stale.map(|(node, _)| node.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_without_a_program_are_nobodys_after_a_while() {
        let mut stale = Stale::default();
        let set = |names: &[&str]| -> BTreeSet<String> {
            names.iter().map(|name| (*name).to_owned()).collect()
        };
        let labelled = set(&["a", "b"]);
        let grace = 180;
        let mut at = |programs: &[&str], seconds| {
            let now = Duration::from_secs(seconds);
            stale.of(&labelled, &set(programs), Duration::from_secs(grace), now)
        };
        assert_eq!(at(&["a"], 0), [""; 0]);
        assert_eq!(at(&["a"], grace - 1), [""; 0]);
        // Its pod was there in between.
        assert_eq!(at(&["a", "b"], grace), [""; 0]);
        assert_eq!(at(&["a"], grace + 1), [""; 0]);
        assert_eq!(at(&["a"], 2 * grace + 1), ["b"]);
        assert_eq!(at(&[], 2 * grace + 2), ["b"]);
    }
}
