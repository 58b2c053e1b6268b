//! The scheduler: queue, snapshot of nodes, bind.
//!
//! Where a pod can run and had better is decided by `berth_placement`; this crate keeps the picture of
//! the cluster, the order of pods and what is written. State is reached only through the API server.

mod cache;
mod class;
mod known;
mod nominations;
mod queue;
mod selectors;
mod task;
mod trace;
mod write;

use berth_core::gates::FeatureGates;
use berth_supervise::TaskError;
use berth_trace::Tracer;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

/// Settings of the scheduler.
#[derive(Clone)]
pub struct Config {
    /// Client with the rights of `system:kube-scheduler`.
    pub client: kube::Client,
    /// Pods with this `spec.schedulerName` are ours.
    pub scheduler_name: String,
    /// Whether overhead counts.
    pub gates: FeatureGates,
    /// Filter nodes out that lack the runtime handler of the pod's class, while some node has it.
    pub by_handler: bool,
    /// Where spans go.
    pub tracer: Tracer,
}

impl Config {
    /// With the stock scheduler's defaults.
    #[must_use]
    pub fn new(client: kube::Client) -> Self {
        Self {
            client,
            scheduler_name: "default-scheduler".to_owned(),
            gates: FeatureGates::default(),
            by_handler: true,
            tracer: Tracer::default(),
        }
    }
}

/// Runs until `shutdown`, or until one of its tasks breaks.
///
/// # Errors
/// Which task ended, and why.
///
/// A boxed future: its code is compiled here, beside that of other crates, and not once more in each program.
pub fn run(
    config: Config,
    shutdown: CancellationToken,
) -> BoxFuture<'static, Result<(), TaskError>> {
    Box::pin(task::SchedulerTask::new(config).run(shutdown))
}
