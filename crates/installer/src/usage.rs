//! Which handlers are in use on a node.
//!
//! A pod that has ended keeps its dead sandbox until it is deleted, which may be never; one that goes on gets another sandbox
//! within seconds. So a dead sandbox counts for a while only.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A dead sandbox counts so long after it was first seen dead.
pub const GRACE: Duration = Duration::from_secs(60);

/// A sandbox of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// Its id.
    pub id: String,
    /// The handler under which it runs; empty for the default.
    pub handler: String,
    /// Its pod: `namespace/name`.
    pub pod: String,
    /// Whether it lives.
    pub is_ready: bool,
}

/// What is remembered from look to look.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// Since when sandboxes are seen dead, by id.
    dead: BTreeMap<String, Duration>,
}

impl Usage {
    /// The pods that use each handler. `now` is the time since any fixed moment.
    pub fn of(&mut self, sandboxes: &[Sandbox], now: Duration) -> BTreeMap<String, Vec<String>> {
        let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut dead = BTreeMap::new();
        for sandbox in sandboxes {
            if !sandbox.is_ready {
                let since = self.dead.get(&sandbox.id).copied().unwrap_or(now);
                dead.insert(sandbox.id.clone(), since);
                if now.saturating_sub(since) >= GRACE {
                    continue;
                }
            }
            let pods = used.entry(sandbox.handler.clone()).or_default();
            pods.insert(sandbox.pod.clone());
        }
        self.dead = dead;
        used.into_iter()
            .map(|(handler, pods)| (handler, pods.into_iter().collect()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox(id: &str, is_ready: bool) -> Sandbox {
        Sandbox {
            id: id.to_owned(),
            handler: "kata".to_owned(),
            pod: format!("ns/{id}"),
            is_ready,
        }
    }

    #[test]
    fn a_dead_sandbox_counts_for_a_while() {
        let mut usage = Usage::default();
        let mut used = |sandboxes: &[Sandbox], seconds| {
            let used = usage.of(sandboxes, Duration::from_secs(seconds));
            used.get("kata").cloned().unwrap_or_default()
        };
        assert_eq!(
            used(&[sandbox("a", true), sandbox("b", false)], 0),
            ["ns/a", "ns/b"]
        );
        assert_eq!(
            used(&[sandbox("a", true), sandbox("b", false)], 59),
            ["ns/a", "ns/b"]
        );
        assert_eq!(
            used(&[sandbox("a", false), sandbox("b", false)], 60),
            ["ns/a"]
        );
        assert_eq!(
            used(&[sandbox("a", false), sandbox("b", false)], 120),
            [""; 0]
        );
        // One that lives again, or another of the same pod, counts.
        assert_eq!(used(&[sandbox("a", true)], 130), ["ns/a"]);
        assert_eq!(used(&[sandbox("a", false)], 140), ["ns/a"]);
    }
}
