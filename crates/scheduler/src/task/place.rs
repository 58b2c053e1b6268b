//! Which node a pod gets.
//!
//! Of many nodes not all are looked at: as many as are enough to choose from, and the next pod begins behind them.

use std::sync::Arc;
use std::time::Instant;

use berth_core::isolation::{Isolation, MINIMUM, level};
use berth_placement::claims::{Claims, Storage};
use berth_placement::{
    HandlerRule, IsolationRule, NodeInfo, PodInfo, Reason, Surroundings, enough_nodes,
    filter_beside, fits, score, summarize, summarize_text,
};
use k8s_openapi::api::core::v1::Pod;

use super::ask::Ask;
use super::claims::Claimed;
use super::preempt::Preemption;
use super::{SchedulerTask, WRITES_AT_ONCE};

/// Pods that are placed before events are looked at again.
const PLACED_AT_ONCE: usize = 8;

/// What was decided on a pod.
enum Decision {
    /// It goes onto this node; so many nodes were looked at. Before, its claims get this.
    Node(String, usize, Option<Claimed>),
    /// It fits nowhere.
    Unfit {
        message: String,
        preemption: Preemption,
        /// Pods elsewhere have to do with it.
        around: bool,
    },
}

impl SchedulerTask {
    /// Decides on the next pods, but on no more than that events and the ends of writes are heard meanwhile.
    pub(super) fn place_some(&mut self) {
        for _ in 0..PLACED_AT_ONCE {
            if !self.is_complete() || self.writes.len() >= WRITES_AT_ONCE {
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
        let mut info = PodInfo::new(Arc::clone(&pod), self.overhead());
        if self.cache.nodes().len() > 1 && !info.has_constraints() {
            info = info.with_siblings(self.selectors.siblings(&pod));
        }
        match self.decide(key, &info) {
            Decision::Node(node, seen, claimed) => {
                self.next_node = self.after(seen);
                self.nominations.remove(key);
                self.cache.assume(key, &node, info);
                match claimed {
                    Some(claimed) => self.bind_claims(key, pod, node, claimed),
                    None => self.bind(key.to_owned(), pod, node),
                }
            }
            Decision::Unfit {
                message,
                preemption,
                around,
            } => {
                self.queue.unschedulable(key, Instant::now(), around);
                self.preempt(key, pod, info, message, preemption);
            }
        }
    }

    fn decide(&self, key: &str, info: &PodInfo) -> Decision {
        let nodes = self.cache.nodes().map(|(_, node)| node);
        let namespaces = self.namespaces.all();
        let mut around = Surroundings::of(info, nodes.clone(), namespaces, self.cache.has_terms());
        let storage = Storage {
            claims: self.claims.all(),
            volumes: self.volumes.all(),
            classes: self.storage_classes.all(),
            reserved: &self.reserved,
        };
        match Claims::of(info, storage) {
            Ok(None) => {}
            Ok(Some(claims)) => around = around.with_claims(claims, nodes.clone()),
            Err(why) => return self.unfit_anywhere(nodes.len(), &why),
        }
        let ask = Ask {
            key,
            pod: info,
            handler: self.handler_rule(info.pod()),
            around,
        };
        if let Some(promised) = self.nominations.node_of(key)
            && let Some(node) = self.cache.node(promised)
            && self.takes(&ask, promised, node)
        {
            return Decision::Node(promised.to_owned(), 0, Claimed::of(&ask, node));
        }
        let enough = enough_nodes(self.cache.nodes().len());
        let mut seen = 0;
        let mut names = Vec::with_capacity(enough);
        let mut candidates = Vec::with_capacity(enough);
        for (name, node) in self.cache.nodes_from(self.next_node) {
            seen += 1;
            if self.takes(&ask, name, node) {
                names.push(name);
                candidates.push(node);
                if names.len() == enough {
                    break;
                }
            }
        }
        let scores = score(info, &candidates, &ask.around, self.cache.images());
        let best = names.iter().zip(scores).max_by_key(|(_, score)| *score);
        if let Some((name, _)) = best {
            let claimed = self
                .cache
                .node(name)
                .and_then(|node| Claimed::of(&ask, node));
            return Decision::Node((*name).to_owned(), seen, claimed);
        }
        let reasons: Vec<(&str, Vec<Reason>)> = self
            .cache
            .nodes()
            .map(|(name, node)| (name, self.refusals(&ask, name, node)))
            .collect();
        let about_others = |reason: &Reason| {
            matches!(
                reason,
                Reason::Affinity
                    | Reason::AntiAffinity
                    | Reason::ExistingAntiAffinity
                    | Reason::Spread
                    | Reason::ClaimInUse
            )
        };
        Decision::Unfit {
            message: summarize(reasons.iter().map(|(_, reasons)| reasons.as_slice())),
            around: reasons.iter().flat_map(|(_, all)| all).any(about_others),
            preemption: self.preemption(&ask, &reasons),
        }
    }

    /// The pod fits nowhere, whatever the nodes are.
    fn unfit_anywhere(&self, nodes: usize, why: &str) -> Decision {
        if nodes == 0 {
            return Decision::Unfit {
                message: summarize([]),
                preemption: Preemption::Nobody(String::new()),
                around: false,
            };
        }
        let no_help = "Preemption is not helpful for scheduling".to_owned();
        Decision::Unfit {
            message: format!("0/{nodes} nodes are available: {why}."),
            preemption: Preemption::Nobody(summarize_text(
                nodes,
                std::iter::repeat_n(no_help, nodes),
            )),
            around: false,
        }
    }

    fn takes(&self, ask: &Ask<'_>, name: &str, node: &NodeInfo) -> bool {
        // Nearly always nothing is promised to anybody.
        fits(ask.pod, node, &ask.handler, &ask.around)
            && (self.promised(ask, name).is_empty() || self.refusals(ask, name, node).is_empty())
    }

    fn refusals(&self, ask: &Ask<'_>, name: &str, node: &NodeInfo) -> Vec<Reason> {
        let promised = self.promised(ask, name);
        filter_beside(ask.pod, node, &ask.handler, &ask.around, &promised)
    }

    /// Where the next search begins: behind the nodes that this one has seen, so that each is looked at as often as others.
    fn after(&self, seen: usize) -> usize {
        let nodes = self.cache.nodes().len();
        if enough_nodes(nodes) == nodes {
            return 0;
        }
        (self.next_node + seen) % nodes
    }

    /// A pod's demand of isolation holds whatever is switched off.
    fn handler_rule(&self, pod: &Pod) -> HandlerRule {
        let spec = pod.spec.as_ref();
        let class = spec.and_then(|spec| spec.runtime_class_name.as_deref());
        let class = class.and_then(|class| self.handlers.all().get(class));
        let demand = level(&pod.metadata, MINIMUM);
        if !matches!(demand, Ok(None | Some(Isolation::Process))) {
            return HandlerRule::Isolated(IsolationRule {
                handler: class.map(|class| class.handler.clone()).unwrap_or_default(),
                declared: class.and_then(|class| class.declared),
                minimum: demand.ok().flatten(),
            });
        }
        if !self.config.by_handler || !self.config.gates.runtime_class {
            return HandlerRule::Any;
        }
        HandlerRule::of(class.map(|class| class.handler.as_str()), |handler| {
            self.cache.has_handler(handler)
        })
    }
}
