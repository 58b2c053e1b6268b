//! Pods and nodes as they come, change and go.

use std::sync::Arc;
use std::time::Instant;

use berth_core::isolation::HANDLERS;
use berth_placement::PodInfo;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt as _;
use kube::runtime::watcher;

use crate::queue::PodKey;

use super::{SchedulerTask, key};

/// What a pod had that does not wait any more.
struct Ended {
    /// A node had been promised to it.
    nominated: bool,
    /// Its claims were being bound.
    claiming: bool,
}

impl SchedulerTask {
    pub(super) fn pod_event(&mut self, event: watcher::Event<Pod>) {
        match event {
            watcher::Event::Init => self.listing_pods.clear(),
            watcher::Event::InitApply(pod) => {
                self.listing_pods.insert(key(&pod));
                self.seen(pod);
            }
            watcher::Event::InitDone => {
                let listed = std::mem::take(&mut self.listing_pods);
                self.cache.retain_pods(|key| listed.contains(key));
                let gone: Vec<PodKey> = self
                    .pending
                    .keys()
                    .filter(|key| !listed.contains(*key))
                    .cloned()
                    .collect();
                for key in gone {
                    if self.ends_waiting(&key).claiming {
                        self.cache.forget(&key);
                    }
                }
                self.leaving.retain(|key| listed.contains(key));
                self.complete.pods = true;
                self.queue.cluster_changed(Instant::now());
            }
            watcher::Event::Apply(pod) => self.seen(pod),
            watcher::Event::Delete(pod) => self.gone(&key(&pod)),
        }
    }

    fn seen(&mut self, mut pod: Pod) {
        pod.metadata.managed_fields = None;
        let key = key(&pod);
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed")) {
            return self.gone(&key);
        }
        let spec = pod.spec.as_ref();
        let node = spec
            .and_then(|spec| spec.node_name.clone())
            .filter(|name| !name.is_empty());
        if let Some(node) = node {
            self.ends_waiting(&key);
            let info = PodInfo::new(Arc::new(pod), self.overhead());
            let news = self.cache.pod(&key).is_none_or(|known| {
                let (old, new) = (&known.pod().metadata, &info.pod().metadata);
                old.labels != new.labels || old.deletion_timestamp != new.deletion_timestamp
            });
            self.cache.confirm(&key, &node, info);
            if news {
                self.queue.pods_changed(Instant::now());
            }
            return;
        }
        let ours = spec
            .and_then(|spec| spec.scheduler_name.as_deref())
            .unwrap_or("default-scheduler")
            == self.config.scheduler_name;
        let gated = spec
            .and_then(|spec| spec.scheduling_gates.as_ref())
            .is_some_and(|gates| !gates.is_empty());
        if !ours || gated || pod.metadata.deletion_timestamp.is_some() {
            return self.gone(&key);
        }
        if self.cache.is_placed(&key) {
            // Being bound; this is news from before.
            return;
        }
        self.waiting.begin(&key);
        let priority = spec.and_then(|spec| spec.priority).unwrap_or(0);
        let pod = Arc::new(pod);
        let old = self.pending.get(&key);
        let same = old
            .is_some_and(|old| old.spec == pod.spec && old.metadata.labels == pod.metadata.labels);
        let nominated = |pod: &Pod| {
            let status = pod.status.as_ref();
            let node = status.and_then(|status| status.nominated_node_name.clone());
            node.filter(|node| !node.is_empty())
        };
        // What was decided here holds until the status has become another.
        let now = nominated(&pod);
        if old.map_or(now.is_some(), |old| nominated(old) != now) {
            match now {
                Some(node) => {
                    let info = PodInfo::new(Arc::clone(&pod), self.overhead());
                    self.nominations.set(&key, &node, info);
                }
                None => {
                    self.nominations.remove(&key);
                }
            }
        }
        self.pending.insert(key.clone(), pod);
        // Our own words in its status are no reason to try again.
        if !same {
            self.queue.add(&key, priority, Instant::now());
        }
    }

    fn gone(&mut self, key: &str) {
        self.leaving.remove(key);
        let ended = self.ends_waiting(key);
        if self.cache.remove_pod(key) || ended.nominated {
            self.queue.cluster_changed(Instant::now());
        }
    }

    /// The pod does not wait for a node any more.
    fn ends_waiting(&mut self, key: &str) -> Ended {
        self.waiting.end(key);
        self.pending.remove(key);
        self.queue.remove(key);
        Ended {
            nominated: self.nominations.remove(key),
            claiming: self.claims_end(key),
        }
    }

    pub(super) fn node_event(&mut self, event: watcher::Event<Node>) {
        match event {
            watcher::Event::Init => self.listing_nodes.clear(),
            watcher::Event::InitApply(node) => {
                self.listing_nodes.insert(node.name_any());
                self.set_node(node);
            }
            watcher::Event::InitDone => {
                let listed = std::mem::take(&mut self.listing_nodes);
                self.cache.retain_nodes(|name| listed.contains(name));
                self.complete.nodes = true;
                self.queue.cluster_changed(Instant::now());
            }
            watcher::Event::Apply(node) => self.set_node(node),
            watcher::Event::Delete(node) => {
                self.cache.remove_node(&node.name_any());
                // A handler may have gone with it, and with that the rule that kept pods away.
                self.queue.cluster_changed(Instant::now());
            }
        }
    }

    fn set_node(&mut self, mut node: Node) {
        node.metadata.managed_fields = None;
        let known = self.cache.node(&node.name_any());
        let matters = known.is_none_or(|info| differs(info.node(), &node));
        self.cache.set_node(Arc::new(node));
        if matters && self.complete.nodes {
            self.queue.cluster_changed(Instant::now());
        }
    }
}

/// Whether a change of a node can let a pod fit: not its heartbeats.
fn differs(old: &Node, new: &Node) -> bool {
    let status = |node: &Node| {
        let status = node.status.clone().unwrap_or_default();
        (status.allocatable, status.capacity, status.runtime_handlers)
    };
    let levels = |node: &Node| node.annotations().get(HANDLERS).cloned();
    old.spec != new.spec
        || old.metadata.labels != new.metadata.labels
        || status(old) != status(new)
        || levels(old) != levels(new)
}

#[cfg(test)]
mod tests {
    use berth_testkit::NodeBuilder;

    use super::*;

    #[test]
    fn a_heartbeat_is_no_reason_to_try_again() {
        let old = NodeBuilder::new("n").build();
        let mut new = old.clone();
        let status = new.status.get_or_insert_default();
        status.conditions.get_or_insert_default()[0].message = Some("still here".into());
        assert!(!differs(&old, &new));
        let labelled = NodeBuilder::new("n").label("disk", "ssd").build();
        assert!(differs(&old, &labelled));
        assert!(differs(
            &old,
            &NodeBuilder::new("n").handlers(&["runsc"]).build()
        ));
    }
}
