//! Being told early: what will not run as things are now, said when it is created or checked.
//!
//! The API server sends these as HTTP `Warning`s, `berth check` lists them; nothing is rejected. A node that reports no
//! handlers (an old kubelet) is taken to have every handler, and what a node doesn't say of itself is taken to be there: a
//! false alarm is worse than none. Nodes are looked at one after the other until one can run what is judged, so that it
//! costs little where all is well.

mod class;
mod labels;
mod pod;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;

use crate::{NodeInfo, Reason};

pub use class::of_class;
pub(crate) use class::plain_pod;
pub use pod::{of_pod, of_pod_on};

/// With more nodes than this, that none of the first ones can run it tells nothing.
pub const NODE_LIMIT: usize = 1000;

/// How many different reasons a message has: nodes choose the words of some.
const REASON_LIMIT: usize = 8;

/// A node as it is judged.
#[derive(Clone, Debug)]
pub struct Host {
    /// The node.
    pub info: NodeInfo,
    /// Only its handlers are known, from a configuration: no labels, no taints, no size.
    pub is_bare: bool,
}

impl Host {
    /// A node of a cluster.
    #[must_use]
    pub fn new(node: Arc<Node>) -> Self {
        Self {
            info: NodeInfo::new(node),
            is_bare: false,
        }
    }

    /// Why it doesn't offer a handler, if it doesn't.
    fn lacks(&self, handler: &str) -> Option<Reason> {
        let reason = crate::no_handler(&self.info, handler);
        // One that reports none at all may have said what it can't run.
        let is_broken = matches!(reason, Reason::BrokenHandler(..));
        (is_broken || self.info.has_handler(handler) == Some(false)).then_some(reason)
    }

    /// The handlers that it offers, without the empty name.
    fn offered(&self) -> impl Iterator<Item = &str> {
        let status = self.info.node().status.as_ref();
        let handlers = status.and_then(|status| status.runtime_handlers.as_deref());
        handlers
            .unwrap_or_default()
            .iter()
            .filter_map(|handler| handler.name.as_deref())
            .filter(|name| !name.is_empty())
    }
}

/// Reasons, counted, in words.
#[derive(Debug, Default)]
struct Counted(BTreeMap<String, usize>);

impl Counted {
    fn add(&mut self, reason: &Reason) {
        *self.0.entry(reason.to_string()).or_default() += 1;
    }
}

impl std::fmt::Display for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = self.0.iter().take(REASON_LIMIT);
        let mut parts: Vec<String> = shown
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        let more: usize = self.0.values().skip(REASON_LIMIT).sum();
        if more > 0 {
            parts.push(format!("{more} node(s) for other reasons"));
        }
        f.write_str(&parts.join(", "))
    }
}
