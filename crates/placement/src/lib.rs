//! Where a pod can run, and where it had better: the scheduler's decisions, without a cluster around them.
//!
//! - [`NodeInfo`]: a node and what its pods already take.
//! - [`PodInfo`]: what matters of the pod that is to be placed, computed once.
//! - [`filter`]: the reasons why a pod can't run on a node; none means it can.
//! - [`fits`]: whether it can, where the reasons don't matter.
//! - [`enough_nodes`]: how many nodes that can are looked at.
//! - [`score`]: the nodes that can, from 0 up; more is better.
//! - [`class_status`]: how far nodes can run a RuntimeClass, and why the others can't.
//! - [`early`]: what will not run as things are now, said when it is created.
//! - [`Surroundings`]: what the pods of all nodes mean for the place of one: affinity between pods, topology spread.
//! - [`ImageSpread`]: how many nodes have each image.
//! - [`siblings_of`]: from which pods one is kept apart when it says nothing of that.
//! - [`claims`]: where the persistent volumes of a pod let it run.
//! - [`preempt`]: which pods of lower priority make room for one that fits nowhere.
//! - [`summarize`]: the reasons over all nodes, as FailedScheduling tells them.

mod ability;
mod affinity;
mod around;
mod between;
pub mod claims;
pub mod early;
mod filter;
mod images;
mod info;
mod node_images;
mod numbers;
pub mod preempt;
mod reason;
mod sample;
mod score;
mod spread;
mod summary;
mod term;

pub use ability::{ClassNode, class_status};
pub use affinity::matches_node_selector;
pub use around::Surroundings;
pub use filter::{HandlerRule, IsolationRule, filter, filter_beside, fits, no_handler, placement};
pub use images::ImageSpread;
pub use info::{NodeInfo, PodInfo};
pub use reason::Reason;
pub use sample::enough_nodes;
pub use score::score;
pub use spread::siblings_of;
pub use summary::{summarize, summarize_text};
pub use term::Namespaces;

#[cfg(test)]
mod tests;
