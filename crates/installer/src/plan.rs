//! Which handlers a node has from now on.
//!
//! A handler that is not wanted any more, or in other words, stays as it was told while a pod of the node uses it, and is not
//! advertised: the runtime finds a pod's handler by its name when the pod's next container starts, and when the pod ends.

use std::collections::{BTreeMap, BTreeSet};

use crate::entry::Entries;

/// What there is.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The entries that the list asks for, in the words of this node.
    pub wanted: Entries,
    /// Handlers of the list that can't be registered here, and why: a program that is missing.
    pub unfit: BTreeMap<String, String>,
    /// Our entries in the node's files.
    pub registered: Entries,
    /// Handlers that somebody else has registered.
    pub foreign: BTreeSet<String>,
    /// Which pods use each handler.
    pub used: BTreeMap<String, Vec<String>>,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Our entries from now on.
    pub entries: Entries,
    /// Handlers that may be advertised once they are seen to work, and none else.
    pub advertisable: BTreeSet<String>,
    /// Those of them whose entry is not the one that is registered: what is advertised of the old one goes first.
    pub changed: BTreeSet<String>,
    /// Why other handlers of the list are not, and why some stay that are not in it.
    pub reasons: BTreeMap<String, String>,
}

/// Decides.
#[must_use]
pub fn plan(seen: &Seen) -> Plan {
    let mut plan = Plan::default();
    let names: BTreeSet<&String> = seen
        .wanted
        .keys()
        .chain(seen.registered.keys())
        .chain(seen.unfit.keys())
        .collect();
    for name in names {
        let registered = seen.registered.get(name);
        let wanted = seen
            .wanted
            .get(name)
            .filter(|_| !seen.unfit.contains_key(name));
        let pods = seen
            .used
            .get(name)
            .filter(|pods| !pods.is_empty())
            .map(|pods| listed(pods));
        let unfit = seen.unfit.get(name);
        let (entry, reason) = match (wanted, registered) {
            (Some(_), None) if seen.foreign.contains(name) => (
                None,
                Some("the node's configuration has a handler of this name that is not the installer's: choose another name, or remove it there".to_owned()),
            ),
            (Some(wanted), Some(registered)) if wanted == registered => (Some(wanted), None),
            (Some(_), Some(registered)) if pods.is_some() => {
                let reason = pods.map(|pods| format!("its definition changes when its pods on this node are gone: {pods}"));
                (Some(registered), reason)
            }
            (Some(wanted), _) => (Some(wanted), None),
            // A program may be missing for a moment only, while its package is upgraded: that is no reason to start the runtime again.
            (None, Some(registered)) if unfit.is_some() => (Some(registered), unfit.cloned()),
            (None, Some(registered)) if pods.is_some() => {
                let reason = pods.map(|pods| format!("it is to be removed; it stays while pods on this node use it: {pods}"));
                (Some(registered), reason)
            }
            (None, _) => (None, unfit.cloned()),
        };
        if let Some(entry) = entry {
            plan.entries.insert(name.clone(), entry.clone());
            if reason.is_none() {
                plan.advertisable.insert(name.clone());
                if registered != Some(entry) {
                    plan.changed.insert(name.clone());
                }
            }
        }
        if let Some(reason) = reason {
            plan.reasons.insert(name.clone(), reason);
        }
    }
    plan
}

/// The first few of some pods.
fn listed(pods: &[String]) -> String {
    let first: Vec<&str> = pods.iter().take(3).map(String::as_str).collect();
    let more = pods.len().saturating_sub(3);
    let first = first.join(", ");
    if more == 0 {
        first
    } else {
        format!("{first} and {more} more")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use toml::{Table, Value};

    fn entries(list: &[(&str, &str)]) -> Entries {
        let table = |word: &str| -> Table {
            [("runtime_type".to_owned(), Value::String(word.to_owned()))]
                .into_iter()
                .collect()
        };
        list.iter()
            .map(|(name, word)| ((*name).to_owned(), table(word)))
            .collect()
    }

    fn used(names: &[&str]) -> BTreeMap<String, Vec<String>> {
        names
            .iter()
            .map(|name| ((*name).to_owned(), vec!["a/p".to_owned()]))
            .collect()
    }

    fn seen(wanted: &[(&str, &str)], registered: &[(&str, &str)], pods: &[&str]) -> Seen {
        Seen {
            wanted: entries(wanted),
            registered: entries(registered),
            used: used(pods),
            ..Seen::default()
        }
    }

    fn advertisable(plan: &Plan) -> Vec<&str> {
        plan.advertisable.iter().map(String::as_str).collect()
    }

    #[test]
    fn what_is_wanted_is_registered() {
        let plan = plan(&seen(&[("a", "1"), ("b", "1")], &[("a", "1")], &["a"]));
        assert_eq!(
            (plan.entries.clone(), advertisable(&plan)),
            (entries(&[("a", "1"), ("b", "1")]), vec!["a", "b"])
        );
        assert!(plan.reasons.is_empty());
        assert_eq!(plan.changed, BTreeSet::from(["b".to_owned()]));
    }

    #[test]
    fn nothing_changes_under_a_pod() {
        let changed = plan(&seen(&[("a", "2")], &[("a", "1")], &["a"]));
        assert_eq!(
            (changed.entries.clone(), advertisable(&changed)),
            (entries(&[("a", "1")]), vec![])
        );
        assert_eq!(
            changed.reasons["a"],
            "its definition changes when its pods on this node are gone: a/p"
        );
        let gone = plan(&seen(&[], &[("a", "1")], &["a"]));
        assert_eq!(
            (gone.entries.clone(), advertisable(&gone)),
            (entries(&[("a", "1")]), vec![])
        );
        assert_eq!(
            gone.reasons["a"],
            "it is to be removed; it stays while pods on this node use it: a/p"
        );
        // And does when it is gone, and is proved before it is advertised.
        let free = plan(&seen(&[("a", "2")], &[("a", "1")], &[]));
        assert_eq!(free.changed, BTreeSet::from(["a".to_owned()]));
        assert_eq!(
            plan(&seen(&[("a", "2")], &[("a", "1")], &[])).entries,
            entries(&[("a", "2")])
        );
        assert_eq!(plan(&seen(&[], &[("a", "1")], &["b"])), Plan::default());
    }

    #[test]
    fn a_program_that_is_gone_is_not_advertised() {
        let mut seen = seen(&[("a", "1")], &[("a", "1")], &[]);
        seen.unfit
            .insert("a".to_owned(), "no /usr/bin/runsc".to_owned());
        let gone = plan(&seen);
        // Its entry stays: it may come again.
        assert_eq!(
            (
                gone.entries.len(),
                advertisable(&gone),
                gone.reasons["a"].as_str()
            ),
            (1, vec![], "no /usr/bin/runsc")
        );
        seen.registered = Entries::new();
        assert_eq!(plan(&seen).entries.len(), 0);
    }

    #[test]
    fn a_handler_of_anothers_is_left_alone() {
        let mut seen = seen(&[("kata", "1")], &[], &[]);
        seen.foreign.insert("kata".to_owned());
        let plan = plan(&seen);
        assert_eq!(plan.entries.len(), 0);
        assert!(
            plan.reasons["kata"].contains("not the installer's"),
            "{plan:?}"
        );
    }

    #[test]
    fn of_many_pods_a_few_are_named() {
        let pods: Vec<String> = (0..5).map(|i| format!("a/p{i}")).collect();
        assert_eq!(listed(&pods), "a/p0, a/p1, a/p2 and 2 more");
    }
}
