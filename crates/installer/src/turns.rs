//! How many nodes start their runtime again at the same time: as many as there are turns, each a Lease that one node holds.
//!
//! A holder that is gone loses its turn after [`LIMIT`], which the one who wants it measures by its own clock: nodes' clocks differ.

use std::collections::BTreeMap;
use std::time::Duration;

/// A turn that nobody has written for so long is nobody's: a change with its way back takes less than half of that.
pub const LIMIT: Duration = Duration::from_secs(900);

/// The name of a turn's Lease.
#[must_use]
pub fn name(turn: u32) -> String {
    format!("berth-restart-{turn}")
}

/// A turn's Lease as it was read; none where it was never made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Who holds it; empty for nobody.
    pub holder: String,
    /// Its resource version, which changes with each write.
    pub version: String,
}

/// What is remembered from look to look.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    /// The resource version of each turn, and since when it is seen.
    seen: BTreeMap<u32, (String, Duration)>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Write one of these Leases, the first that the API server lets us.
    Take(Vec<u32>),
    /// Wait for these nodes.
    Wait(Vec<String>),
}

impl Turns {
    /// Chooses for a node. `now` is the time since any fixed moment.
    pub fn choose(
        &mut self,
        node: &str,
        turns: &BTreeMap<u32, Option<Turn>>,
        now: Duration,
    ) -> Choice {
        self.seen.retain(|turn, _| turns.contains_key(turn));
        let (mut mine, mut free, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for (number, turn) in turns {
            let Some(turn) = turn.as_ref().filter(|turn| !turn.holder.is_empty()) else {
                free.push(*number);
                continue;
            };
            let seen = self
                .seen
                .entry(*number)
                .or_insert_with(|| (turn.version.clone(), now));
            if seen.0 != turn.version {
                *seen = (turn.version.clone(), now);
            }
            if turn.holder == node {
                mine.push(*number);
            } else if now.saturating_sub(seen.1) >= LIMIT {
                free.push(*number);
            } else {
                others.push(turn.holder.clone());
            }
        }
        // One that is held already, else one that is free: never two.
        match (mine.is_empty(), free.is_empty()) {
            (false, _) => Choice::Take(mine),
            (true, false) => Choice::Take(free),
            (true, true) => Choice::Wait(others),
        }
    }
}

/// The reason that is reported for a node that waits for its turn.
#[must_use]
pub fn waiting(others: &[String]) -> String {
    let shown: Vec<&str> = others.iter().take(3).map(String::as_str).collect();
    let nodes = if others.len() == 1 { "node" } else { "nodes" };
    let more = if others.len() > 3 { " and others" } else { "" };
    format!(
        "this node waits for its turn to start its runtime again: {nodes} {}{more} now (Leases berth-restart-*)",
        shown.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(holder: &str, version: &str) -> Option<Turn> {
        Some(Turn {
            holder: holder.to_owned(),
            version: version.to_owned(),
        })
    }

    fn choose(turns: &mut Turns, all: &[Option<Turn>], seconds: u64) -> Choice {
        let all = (0..).zip(all.iter().cloned()).collect();
        turns.choose("n1", &all, Duration::from_secs(seconds))
    }

    #[test]
    fn as_many_nodes_as_turns() {
        let mut turns = Turns::default();
        for (all, want) in [
            (vec![None, turn("", "1")], Choice::Take(vec![0, 1])),
            (vec![turn("n2", "1"), None], Choice::Take(vec![1])),
            // Its own, and not another one beside it.
            (vec![None, turn("n1", "1")], Choice::Take(vec![1])),
            (
                vec![turn("n2", "1"), turn("n3", "1")],
                Choice::Wait(vec!["n2".to_owned(), "n3".to_owned()]),
            ),
        ] {
            assert_eq!(choose(&mut turns, &all, 0), want);
        }
    }

    #[test]
    fn a_node_that_is_gone_keeps_its_turn_for_a_while_only() {
        let mut turns = Turns::default();
        let wait = Choice::Wait(vec!["n2".to_owned()]);
        let limit = LIMIT.as_secs();
        assert_eq!(choose(&mut turns, &[turn("n2", "1")], 0), wait);
        assert_eq!(choose(&mut turns, &[turn("n2", "1")], limit - 1), wait);
        // It lives: it has written since.
        assert_eq!(choose(&mut turns, &[turn("n2", "2")], limit), wait);
        assert_eq!(choose(&mut turns, &[turn("n2", "2")], 2 * limit - 1), wait);
        assert_eq!(
            choose(&mut turns, &[turn("n2", "2")], 2 * limit),
            Choice::Take(vec![0])
        );
        // Another node that takes it is waited for as long.
        assert_eq!(
            choose(&mut turns, &[turn("n3", "3")], 2 * limit),
            Choice::Wait(vec!["n3".to_owned()])
        );
    }

    #[test]
    fn of_many_nodes_a_few_are_named() {
        let nodes: Vec<String> = (0..5).map(|at| format!("n{at}")).collect();
        assert!(waiting(&nodes[..1]).contains(": node n0 now"));
        assert!(waiting(&nodes).contains(": nodes n0, n1, n2 and others now"));
    }
}
