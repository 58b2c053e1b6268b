//! The tasks behind connections to nodes and pods: what carries an exec, an attach or a port-forward goes on when the
//! request that opened it is answered, so it has an owner that ends it with the server.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt as _;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long tunnels may take to end once they are told to.
const END: Duration = Duration::from_secs(1);

/// All tunnels; cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tunnels {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Tunnels {
    /// Starts a task that ends by itself, or with all the others. A panic is its own connection's trouble.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let work = AssertUnwindSafe(work).catch_unwind();
            tokio::select! {
                () = stop.cancelled() => {}
                ended = work => if ended.is_err() {
                    tracing::error!("a connection to a node ended with a panic");
                }
            }
        });
    }

    /// Ends all of them, and those that are still begun.
    pub(crate) async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(END, self.tasks.wait()).await.is_err() {
            tracing::warn!(count = self.tasks.len(), "connections to nodes do not end");
        }
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.tasks.len()
    }
}
