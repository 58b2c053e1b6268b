//! Sandboxes that wait for their pod, so that a pod need not wait for its sandbox.
//!
//! A handler with `warm = N` keeps N sandboxes booted, in the network, with all that does not depend on a pod.
//! RunPodSandbox takes one and gives it what does: hostname, DNS, labels, cgroup, sysctls, port mappings.
//!
//! - [`Pool`] knows which there are and what became of others. One is taken once, by one pod, and never comes back.
//! - What a pod needs that can't be given later, [`fits`] says: it starts cold, as without `warm`, and why is logged and
//!   counted. The specs of the waiting one and of the pod are compared as well, so that nothing is forgotten there.
//! - [`keep`] is the one task that makes them, one at a time and not while pods start, and discards those that fit no more.
//! - [`adopt`] finds those of an earlier server. Until one is its pod's, its record says that it is not whole: what a killed
//!   server was doing with it is undone at the next start.
//!
//! To clients they do not exist: they are in no list, and can't be asked for by id.

mod adopt;
mod bound;
mod fits;
mod keep;
mod make;
mod network;
mod pool;
mod report;
mod run;
mod take;
mod watch;

pub(crate) use adopt::{adopt, is_pooled};
pub(crate) use keep::keep;
pub(crate) use pool::Pool;
pub(crate) use report::{report, text};
pub(crate) use run::run;
