//! Nodes with the pods on them, including pods that are only just being bound.
//!
//! A pod that was given a node is *assumed* there at once, so that the next decision counts it; the watch
//! confirms it later. If the bind fails, it is forgotten.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use berth_placement::{NodeInfo, PodInfo};
use k8s_openapi::api::core::v1::Node;

use crate::queue::PodKey;

#[derive(Debug)]
struct Placed {
    node: String,
    info: PodInfo,
    assumed: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    nodes: BTreeMap<String, NodeInfo>,
    placed: HashMap<PodKey, Placed>,
}

impl Cache {
    /// A node was seen, new or changed.
    pub(crate) fn set_node(&mut self, node: Arc<Node>) {
        let name = node.metadata.name.clone().unwrap_or_default();
        match self.nodes.get_mut(&name) {
            Some(info) => info.set_node(node),
            None => {
                let mut info = NodeInfo::new(node);
                for placed in self.placed.values().filter(|placed| placed.node == name) {
                    info.add(&placed.info);
                }
                self.nodes.insert(name, info);
            }
        }
    }

    /// A node is gone. Its pods are still known, should it come back.
    pub(crate) fn remove_node(&mut self, name: &str) {
        self.nodes.remove(name);
    }

    /// Keeps only these nodes.
    pub(crate) fn retain_nodes(&mut self, exists: impl Fn(&str) -> bool) {
        self.nodes.retain(|name, _| exists(name));
    }

    /// The watch says that the pod is on the node.
    pub(crate) fn confirm(&mut self, key: &str, node: &str, info: PodInfo) {
        self.remove_pod(key);
        self.place(key, node, info, false);
    }

    /// The pod is being bound to the node.
    pub(crate) fn assume(&mut self, key: &str, node: &str, info: PodInfo) {
        self.place(key, node, info, true);
    }

    /// The bind failed. What the watch has confirmed meanwhile stays.
    pub(crate) fn forget(&mut self, key: &str) {
        if self.placed.get(key).is_some_and(|placed| placed.assumed) {
            self.remove_pod(key);
        }
    }

    /// Whether the pod is being bound or is bound.
    pub(crate) fn is_placed(&self, key: &str) -> bool {
        self.placed.contains_key(key)
    }

    /// The pod is gone or finished; true when that freed something.
    pub(crate) fn remove_pod(&mut self, key: &str) -> bool {
        let Some(placed) = self.placed.remove(key) else {
            return false;
        };
        if let Some(node) = self.nodes.get_mut(&placed.node) {
            node.remove(&placed.info);
        }
        true
    }

    /// Keeps only these pods, and those that are being bound.
    pub(crate) fn retain_pods(&mut self, exists: impl Fn(&str) -> bool) {
        let gone: Vec<PodKey> = self
            .placed
            .iter()
            .filter(|(key, placed)| !placed.assumed && !exists(key))
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            self.remove_pod(&key);
        }
    }

    /// All nodes, by name.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (&String, &NodeInfo)> {
        self.nodes.iter()
    }

    fn place(&mut self, key: &str, node: &str, info: PodInfo, assumed: bool) {
        if let Some(found) = self.nodes.get_mut(node) {
            found.add(&info);
        }
        self.placed.insert(
            key.to_owned(),
            Placed {
                node: node.to_owned(),
                info,
                assumed,
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use berth_core::resources::Overhead;
    use berth_placement::{HandlerRule, filter};
    use berth_testkit::{NodeBuilder, PodBuilder};

    use super::*;

    fn big(name: &str) -> PodInfo {
        let pod = PodBuilder::new(name).requests(&[("cpu", "3")]).build();
        PodInfo::new(Arc::new(pod), Overhead::Counted)
    }

    fn fits(cache: &Cache) -> bool {
        let (_, node) = cache.nodes().next().unwrap();
        filter(&big("next"), node, &HandlerRule::Any).is_empty()
    }

    #[test]
    fn an_assumed_pod_counts_until_it_is_forgotten() {
        let mut cache = Cache::default();
        cache.set_node(Arc::new(NodeBuilder::new("n").build()));
        assert!(fits(&cache));
        cache.assume("default/a", "n", big("a"));
        assert!(!fits(&cache));
        cache.forget("default/a");
        assert!(fits(&cache));
    }

    #[test]
    fn a_confirmed_pod_counts_once_and_a_late_failure_does_not_free_it() {
        let mut cache = Cache::default();
        cache.set_node(Arc::new(NodeBuilder::new("n").build()));
        cache.assume("default/a", "n", big("a"));
        cache.confirm("default/a", "n", big("a"));
        cache.forget("default/a");
        assert!(!fits(&cache));
        assert!(cache.remove_pod("default/a"));
        assert!(fits(&cache));
        assert!(!cache.remove_pod("default/a"));
    }

    #[test]
    fn a_node_that_comes_back_still_has_its_pods() {
        let mut cache = Cache::default();
        cache.confirm("default/a", "n", big("a"));
        cache.set_node(Arc::new(NodeBuilder::new("n").build()));
        assert!(!fits(&cache));
        cache.remove_node("n");
        cache.set_node(Arc::new(NodeBuilder::new("n").build()));
        assert!(!fits(&cache));
    }

    #[test]
    fn a_new_list_drops_what_it_does_not_name() {
        let mut cache = Cache::default();
        cache.set_node(Arc::new(NodeBuilder::new("n").build()));
        cache.confirm("default/a", "n", big("a"));
        cache.assume("default/b", "n", big("b"));
        cache.retain_pods(|_| false);
        assert!(!cache.is_placed("default/a"));
        assert!(
            cache.is_placed("default/b"),
            "it is being bound, the list can't know it"
        );
    }
}
