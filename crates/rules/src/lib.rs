//! What the API server decides about objects, as pure functions: default, prepare, validate, admit, quota, who may.
//! No I/O, no clock, no tokio.
//!
//! - [`kinds`], [`pod`], [`runtime_class`]: the rules of each kind, as implementations of [`Rules`].
//! - [`admission`]: what a new pod gets from its cluster, and what gets it rejected.
//! - [`disruption`]: what disruption budgets say of an eviction.
//! - [`network_floor`]: what a RuntimeClass denies the network of its pods.
//! - [`rbac`]: who may do what, the stock roles, no escalation.
//! - [`stock_policies`]: the policies of namespaces for other API servers, in CEL.
//! - [`warnings`]: what is odd about a pod or class though it is accepted.

pub mod admission;
pub mod disruption;
pub mod kinds;
pub mod network_floor;
pub mod pod;
pub mod rbac;
mod rules;
pub mod runtime_class;
pub mod stock_policies;
mod values;
pub mod warnings;

pub use rules::{Rules, UnknownSubresource};
