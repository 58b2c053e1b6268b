//! Nodes that are promised to pods: `status.nominatedNodeName`.
//!
//! A pod whose place others make free has a node, though it isn't bound: pods of no higher priority count it as if it were there.

use std::collections::{BTreeSet, HashMap};

use berth_placement::PodInfo;

use crate::queue::PodKey;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Nominations {
    pods: HashMap<PodKey, (String, PodInfo)>,
    by_node: HashMap<String, BTreeSet<PodKey>>,
}

impl Nominations {
    /// The node is promised to the pod, and no other node is.
    pub(crate) fn set(&mut self, key: &str, node: &str, pod: PodInfo) {
        self.remove(key);
        self.pods.insert(key.to_owned(), (node.to_owned(), pod));
        let there = self.by_node.entry(node.to_owned()).or_default();
        there.insert(key.to_owned());
    }

    /// Nothing is promised to the pod any more. Whether something was.
    pub(crate) fn remove(&mut self, key: &str) -> bool {
        let Some((node, _)) = self.pods.remove(key) else {
            return false;
        };
        if let Some(there) = self.by_node.get_mut(&node) {
            there.remove(key);
            if there.is_empty() {
                self.by_node.remove(&node);
            }
        }
        true
    }

    /// The node that is promised to the pod.
    pub(crate) fn node_of(&self, key: &str) -> Option<&str> {
        self.pods.get(key).map(|(node, _)| node.as_str())
    }

    /// The pods of at least this priority to which the node is promised, without this one.
    pub(crate) fn before<'n>(&'n self, node: &str, key: &str, priority: i32) -> Vec<&'n PodInfo> {
        if self.pods.is_empty() {
            return Vec::new();
        }
        let there = self.by_node.get(node).into_iter().flatten();
        there
            .filter(|other| other.as_str() != key)
            .filter_map(|other| self.pods.get(other))
            .map(|(_, pod)| pod)
            .filter(|pod| pod.priority() >= priority)
            .collect()
    }

    /// The pods of lower priority to which the node is promised.
    pub(crate) fn below(&self, node: &str, priority: i32) -> Vec<PodKey> {
        let there = self.by_node.get(node).into_iter().flatten();
        there
            .filter(|key| {
                let pod = self.pods.get(*key);
                pod.is_some_and(|(_, pod)| pod.priority() < priority)
            })
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use berth_core::resources::Overhead;
    use berth_testkit::PodBuilder;

    use super::*;

    fn pod(name: &str, priority: i32) -> PodInfo {
        let mut pod = PodBuilder::new(name).build();
        pod.spec.get_or_insert_default().priority = Some(priority);
        PodInfo::new(Arc::new(pod), Overhead::Counted)
    }

    #[test]
    fn a_node_is_promised_to_pods_of_no_lower_priority() {
        let mut all = Nominations::default();
        all.set("default/a", "n", pod("a", 5));
        all.set("default/b", "n", pod("b", 1));
        assert_eq!(all.before("n", "default/c", 5).len(), 1);
        assert_eq!(all.before("n", "default/c", 1).len(), 2);
        assert_eq!(all.before("n", "default/a", 5).len(), 0, "not by itself");
        assert_eq!(all.before("m", "default/c", 0).len(), 0);
        assert_eq!(all.below("n", 5), ["default/b"]);
        all.set("default/a", "m", pod("a", 5));
        assert_eq!(all.node_of("default/a"), Some("m"));
        assert_eq!(all.before("n", "default/c", 5).len(), 0);
        assert!(all.remove("default/a") && !all.remove("default/a"));
        assert_eq!(all.before("m", "default/c", 0).len(), 0);
    }
}
