//! Which node a pod gets.
//!
//! Of many nodes not all are looked at: as many as are enough to choose from, and the next pod begins behind them.

use std::sync::Arc;
use std::time::Instant;

use berth_placement::{HandlerRule, PodInfo, enough_nodes, filter, fits, score, summarize};
use k8s_openapi::api::core::v1::Pod;

use super::{SchedulerTask, WRITES_AT_ONCE};

/// Pods that are placed before events are looked at again.
const PLACED_AT_ONCE: usize = 8;

impl SchedulerTask {
    /// Decides on the next pods, but on no more than that events and the ends of writes are heard meanwhile.
    pub(super) fn place_some(&mut self) {
        for _ in 0..PLACED_AT_ONCE {
            if !self.complete.all() || self.writes.len() >= WRITES_AT_ONCE {
                return;
            }
            let Some(key) = self.queue.pop(Instant::now()) else {
                return;
            };
            self.place(&key);
        }
    }

    /// Decides on one pod.
    fn place(&mut self, key: &str) {
        let Some(pod) = self.pending.get(key).cloned() else {
            return self.queue.remove(key);
        };
        let info = PodInfo::new(Arc::clone(&pod), self.overhead());
        let rule = self.handler_rule(&pod);
        let enough = enough_nodes(self.cache.nodes().len());
        let mut seen = 0;
        let mut names = Vec::with_capacity(enough);
        let mut candidates = Vec::with_capacity(enough);
        for (name, node) in self.cache.nodes_from(self.next_node) {
            seen += 1;
            if fits(&info, node, &rule) {
                names.push(name);
                candidates.push(node);
                if names.len() == enough {
                    break;
                }
            }
        }
        let scores = score(&info, &candidates);
        let best = names.iter().zip(scores).max_by_key(|(_, score)| *score);
        let Some((node, _)) = best else {
            let nodes = self.cache.nodes();
            let reasons: Vec<_> = nodes.map(|(_, node)| filter(&info, node, &rule)).collect();
            let message = summarize(reasons.iter().map(Vec::as_slice));
            self.queue.unschedulable(key, Instant::now());
            return self.tell_unschedulable(pod, message);
        };
        let node = (*node).to_owned();
        self.next_node = self.after(seen);
        self.cache.assume(key, &node, info);
        self.bind(key.to_owned(), pod, node);
    }

    /// Where the next search begins: behind the nodes that this one has seen, so that each is looked at as often as others.
    fn after(&self, seen: usize) -> usize {
        let nodes = self.cache.nodes().len();
        if enough_nodes(nodes) == nodes {
            return 0;
        }
        (self.next_node + seen) % nodes
    }

    fn handler_rule(&self, pod: &Pod) -> HandlerRule {
        if !self.config.by_handler || !self.config.gates.runtime_class {
            return HandlerRule::Any;
        }
        let class = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.runtime_class_name.as_deref());
        let handler = class.and_then(|class| self.handlers.get(class));
        HandlerRule::of(handler.map(String::as_str), |handler| {
            self.cache.has_handler(handler)
        })
    }
}
