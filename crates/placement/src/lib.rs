//! Where a pod can run, and where it had better: the scheduler's decisions, without a cluster around them.
//!
//! - [`NodeInfo`]: a node and what its pods already take.
//! - [`PodInfo`]: what matters of the pod that is to be placed, computed once.
//! - [`filter`]: the reasons why a pod can't run on a node; none means it can.
//! - [`fits`]: whether it can, where the reasons don't matter.
//! - [`enough_nodes`]: how many nodes that can are looked at.
//! - [`score`]: the nodes that can, from 0 up; more is better.
//! - [`early`]: what will not run as things are now, said when it is created.
//! - [`unplaced`]: what the pod asks for that is not looked at, said when it is created.
//! - [`summarize`]: the reasons over all nodes, as FailedScheduling tells them.
//!
//! Not here: affinity between pods, topology spread and preemption. A pod that asks for them is placed without, and who creates it is warned.

mod affinity;
pub mod early;
mod filter;
mod images;
mod info;
mod numbers;
mod sample;
mod score;
mod summary;
pub mod unplaced;

pub use affinity::matches_node_selector;
pub use filter::{HandlerRule, Reason, filter, fits, placement};
pub use info::{NodeInfo, PodInfo};
pub use sample::enough_nodes;
pub use score::score;
pub use summary::summarize;

#[cfg(test)]
mod tests;
