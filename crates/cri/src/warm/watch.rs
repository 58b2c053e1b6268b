//! The end of those that wait: one that dies, and one that is wanted no more.

use std::sync::Arc;

use berth_shim::client::Shim;

use super::pool::Stage;
use crate::engine::Shared;
use crate::error::chain;
use crate::sandbox::{self, Sandbox};

/// Removes one that is marked as discarded.
pub(super) async fn remove(engine: &Shared, sandbox: Arc<Sandbox>) {
    let shared = Arc::clone(engine);
    let removed = engine.tasks.request(async move {
        if let Err(error) = sandbox::discard(&shared, &sandbox).await {
            tracing::error!(
                id = sandbox.id,
                error = chain(&error),
                "a waiting pod sandbox could not be removed; the next start tries again"
            );
        }
        shared.warm.release(&sandbox.id);
    });
    let _ = removed.await;
}

/// Notices when one that waits ends.
pub(super) fn watch(engine: &Shared, sandbox: &Arc<Sandbox>, shim: Shim) {
    let (engine, sandbox) = (Arc::clone(engine), Arc::clone(sandbox));
    let tasks = Arc::clone(&engine);
    tasks.tasks.spawn("waiting sandbox", async move {
        if sandbox.record().pause {
            let _ = shim.wait(&sandbox.id).await;
        } else if let Err(error) = sandbox::end_of_shim(&engine, &sandbox.id).await {
            // A pod that takes it learns it from its first container.
            tracing::warn!(
                id = sandbox.id,
                error = chain(&error),
                "the shim is not watched"
            );
            return;
        }
        if engine.warm.discard(&sandbox.id, Stage::Waiting, "ended") {
            tracing::warn!(id = sandbox.id, "a waiting pod sandbox has ended");
            sandbox::note_lost(&sandbox);
            remove(&engine, sandbox).await;
        }
    });
}
