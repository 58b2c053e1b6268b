//! `berth installer`: runtime handlers on the nodes of a stock cluster.
//!
//! What is to be done `berth_installer` decides; here it is done.
//!
//! - `host.rs`: the node's files and programs, seen from a container.
//! - `runtime.rs`: which CRI runtime the node has, what it says, how it is started again.
//! - `apply.rs`: a change of its configuration, which holds or is taken back.
//! - `proof.rs`: the pods that prove handlers.
//! - `labels.rs`: labels of nodes where the program does not run.
//! - `turn.rs`: which nodes start their runtime again at the same time.
//! - `node.rs`: the program of each node.
//! - `classes.rs`: the RuntimeClasses, by one program of the cluster.
//! - `uninstall.rs`: an empty list, and the wait until it holds everywhere.

pub(crate) mod apply;
pub(crate) mod classes;
mod code;
pub(crate) mod host;
mod labels;
pub(crate) mod list;
pub(crate) mod node;
pub(crate) mod proof;
pub(crate) mod runtime;
mod turn;
pub(crate) mod uninstall;
