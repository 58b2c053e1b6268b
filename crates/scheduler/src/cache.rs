//! Nodes with the pods on them, including pods that are only just being bound.
//!
//! A pod that was given a node is *assumed* there at once, so that the next decision counts it; the watch
//! confirms it later. If the bind fails, it is forgotten.

use std::collections::HashMap;
use std::sync::Arc;

use berth_placement::{ImageSpread, NodeInfo, PodInfo};
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
    /// By name. Boxed, so that one that comes or goes moves no others.
    nodes: Vec<(String, NodeInfo)>,
    placed: HashMap<PodKey, Placed>,
    /// How many nodes have each handler.
    handlers: HashMap<String, usize>,
    /// How many nodes have each image.
    images: ImageSpread,
    /// How many of the pods say something of other pods.
    with_terms: usize,
}

impl Cache {
    /// A node was seen, new or changed.
    pub(crate) fn set_node(&mut self, node: Arc<Node>) {
        let name = node.metadata.name.clone().unwrap_or_default();
        self.count_handlers(&node, 1);
        match self.find(&name) {
            Ok(at) => {
                let before = Arc::clone(self.nodes[at].1.node());
                self.count_handlers(&before, -1);
                let info = &mut self.nodes[at].1;
                self.images.remove(info);
                info.set_node(node);
                self.images.add(info);
            }
            Err(at) => {
                let mut info = NodeInfo::new(node);
                for placed in self.placed.values().filter(|placed| placed.node == name) {
                    info.add(&placed.info);
                }
                self.images.add(&info);
                self.nodes.insert(at, (name, info));
            }
        }
    }

    /// A node is gone. Its pods are still known, should it come back.
    pub(crate) fn remove_node(&mut self, name: &str) {
        if let Ok(at) = self.find(name) {
            let gone = self.nodes.remove(at);
            self.images.remove(&gone.1);
            self.count_handlers(gone.1.node(), -1);
        }
    }

    /// Keeps only these nodes.
    pub(crate) fn retain_nodes(&mut self, exists: impl Fn(&str) -> bool) {
        let names = self.nodes.iter().map(|node| node.0.clone());
        let gone: Vec<String> = names.filter(|name| !exists(name)).collect();
        for name in gone {
            self.remove_node(&name);
        }
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

    /// The pod, as it was last seen with its node.
    pub(crate) fn pod(&self, key: &str) -> Option<&PodInfo> {
        self.placed.get(key).map(|placed| &placed.info)
    }

    /// Whether a pod that has a node says something of other pods.
    pub(crate) fn has_terms(&self) -> bool {
        self.with_terms > 0
    }

    /// The pod is gone or finished; true when that freed something.
    pub(crate) fn remove_pod(&mut self, key: &str) -> bool {
        let Some(placed) = self.placed.remove(key) else {
            return false;
        };
        self.with_terms -= usize::from(placed.info.has_terms());
        if let Ok(at) = self.find(&placed.node) {
            self.nodes[at].1.remove(&placed.info);
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
    pub(crate) fn nodes(&self) -> impl ExactSizeIterator<Item = (&str, &NodeInfo)> + Clone {
        self.nodes.iter().map(|node| (node.0.as_str(), &node.1))
    }

    /// All nodes in a circle, the first of them being that with this number.
    pub(crate) fn nodes_from(&self, first: usize) -> impl Iterator<Item = (&str, &NodeInfo)> {
        let (before, after) = self.nodes.split_at(first.min(self.nodes.len()));
        let circle = after.iter().chain(before);
        circle.map(|node| (node.0.as_str(), &node.1))
    }

    /// A node.
    pub(crate) fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.find(name).ok().map(|at| &self.nodes[at].1)
    }

    /// How many nodes have each image.
    pub(crate) fn images(&self) -> &ImageSpread {
        &self.images
    }

    /// Whether some node reports this handler.
    pub(crate) fn has_handler(&self, handler: &str) -> bool {
        self.handlers.contains_key(handler)
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.nodes
            .binary_search_by(|node| node.0.as_str().cmp(name))
    }

    fn count_handlers(&mut self, node: &Node, sign: isize) {
        let status = node.status.as_ref();
        let handlers = status.and_then(|status| status.runtime_handlers.as_deref());
        for handler in handlers.unwrap_or_default() {
            let name = handler.name.as_deref().unwrap_or_default();
            match self.handlers.get_mut(name) {
                Some(count) => *count = count.saturating_add_signed(sign),
                None if sign > 0 => {
                    self.handlers.insert(name.to_owned(), 1);
                }
                None => {}
            }
            if self.handlers.get(name) == Some(&0) {
                self.handlers.remove(name);
            }
        }
    }

    fn place(&mut self, key: &str, node: &str, info: PodInfo, assumed: bool) {
        if let Ok(at) = self.find(node) {
            self.nodes[at].1.add(&info);
        }
        self.with_terms += usize::from(info.has_terms());
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
    use berth_placement::{HandlerRule, Surroundings, fits as fits_on};
    use berth_testkit::{NodeBuilder, PodBuilder};

    use super::*;

    fn big(name: &str) -> PodInfo {
        let pod = PodBuilder::new(name).requests(&[("cpu", "3")]).build();
        PodInfo::new(Arc::new(pod), Overhead::Counted)
    }

    fn fits(cache: &Cache) -> bool {
        let (_, node) = cache.nodes().next().unwrap();
        let around = Surroundings::default();
        fits_on(&big("next"), node, &HandlerRule::Any, &around)
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
    fn handlers_are_there_while_a_node_has_them() {
        let mut cache = Cache::default();
        let node = |name: &str, handlers: &[&str]| {
            Arc::new(NodeBuilder::new(name).handlers(handlers).build())
        };
        cache.set_node(node("a", &["runc", "runsc"]));
        cache.set_node(node("b", &["runsc"]));
        cache.set_node(node("a", &["runc"]));
        assert!(cache.has_handler("runc") && cache.has_handler("runsc"));
        cache.remove_node("b");
        assert!(!cache.has_handler("runsc"));
        cache.retain_nodes(|_| false);
        assert!(!cache.has_handler("runc"));
        assert_eq!(cache.nodes().len(), 0);
    }

    #[test]
    fn nodes_are_gone_through_in_a_circle() {
        let mut cache = Cache::default();
        for name in ["c", "a", "b"] {
            cache.set_node(Arc::new(NodeBuilder::new(name).build()));
        }
        let names =
            |first| -> Vec<&str> { cache.nodes_from(first).map(|(name, _)| name).collect() };
        assert_eq!(names(0), ["a", "b", "c"]);
        assert_eq!(names(2), ["c", "a", "b"]);
        assert_eq!(names(9), ["a", "b", "c"]);
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
