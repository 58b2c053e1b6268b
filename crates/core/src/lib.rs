//! The rules as pure functions: default, validate, admit, overhead, filter and score, who-may, the pod's phase machine. No I/O, no clock, no tokio.
//!
//! - [`rules`]: what every kind can do, the trait [`rules::Rules`]; one file per kind beside it.
//! - [`meta`]: what holds for the metadata of every object.
//! - [`gates`]: the feature gates.
//! - [`rbac`]: who may do what, the stock roles, no escalation.
//! - [`disruption`]: what disruption budgets say of an eviction.
//! - [`event`]: counting repeated events.
//! - [`lifecycle`]: what a node does with a pod.
//! - [`resources`]: what a pod asks for in all.
//! - [`schedule`]: where a pod can run.
//! - [`warnings`]: what is odd about a pod or class though it is accepted.

pub mod admission;
pub mod check;
pub mod disruption;
pub mod early;
pub mod event;
pub mod gates;
pub mod kinds;
pub mod lifecycle;
pub mod meta;
pub mod migrate;
pub mod pod;
pub mod rbac;
pub mod resource_list;
pub mod resources;
pub mod rules;
pub mod runtime_class;
pub mod schedule;
pub mod selector;
pub mod toleration;
mod values;
pub mod warnings;
