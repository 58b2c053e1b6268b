//! What controllers decide about workloads, as functions without I/O and without a clock.
//!
//! ```text
//!   the object, what it owns  +  now  --->  steps (create, scale, delete)  +  status  +  when to look again
//! ```
//!
//! The drivers in `berth-controllers` carry the steps out; they never decide by themselves. The rules follow the stock
//! kube-controller-manager's, so that one may take over the objects of the other.
//!
//! - [`owner`]: which objects are a controller's, which it adopts and which it releases.
//! - [`pod`]: whether a pod counts, is ready, is available.
//! - [`template`]: from a pod template to a pod, and the hash that names it.
//! - [`rank`]: which pods go first when there are too many.
//! - [`replicas`]: ReplicaSet and ReplicationController.
//! - [`deployment`]: how a template is rolled out.
//! - [`stateful_set`], [`revision`]: pods with a name of their own, and the history of their template.
//! - [`daemon_set`]: a pod for each node.
//! - [`job`], [`cron_job`]: pods that end, once and again and again.
//! - [`endpoints`]: what is behind a Service.
//! - [`node_cidrs`]: which addresses the pods of each node get.
//! - [`budget`]: how many pods may be evicted.
//! - [`volume`]: which claim gets which volume, and what becomes of the volume after it.
//! - [`autoscaler`]: how many replicas, by what pods use.

pub mod autoscaler;
pub mod budget;
pub mod cron_job;
pub mod daemon_set;
pub mod deployment;
pub mod endpoints;
pub mod intstr;
pub mod job;
pub mod node_cidrs;
pub mod owner;
pub mod pod;
pub mod rank;
pub mod replicas;
pub mod revision;
pub mod stateful_set;
pub mod template;
pub mod volume;

use berth_core::event::EventType;

/// An event about the object that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Whether it tells of something wrong.
    pub type_: EventType,
    /// The reason, as the stock controller names it.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

impl Event {
    /// Something happened as it should.
    #[must_use]
    pub fn normal(reason: &'static str, message: String) -> Self {
        Self {
            type_: EventType::Normal,
            reason,
            message,
        }
    }

    /// Something deserves a look.
    #[must_use]
    pub fn warning(reason: &'static str, message: String) -> Self {
        Self {
            type_: EventType::Warning,
            reason,
            message,
        }
    }
}

#[cfg(test)]
mod tests;
