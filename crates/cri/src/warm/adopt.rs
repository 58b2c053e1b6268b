//! What an earlier server had waiting.

use std::sync::Arc;

use berth_shim::client::{Shim, Status};

use super::make::size_of;
use super::pool::Stage;
use crate::engine::Shared;
use crate::error::chain;
use crate::record::{Phase, SandboxRecord, Warm};
use crate::sandbox::{self, Sandbox};

/// Whether a record is that of one which no pod has.
pub(crate) fn is_pooled(record: &SandboxRecord) -> bool {
    match record.warm {
        Warm::Making | Warm::Waiting => record.phase == Phase::Creating,
        Warm::No | Warm::Taken => false,
    }
}

/// Has one wait on that is whole and lives; removes another one. Whether it is still wanted is [`super::keep`]'s to find
/// out.
pub(crate) async fn adopt(engine: &Shared, sandbox: &Arc<Sandbox>) {
    let record = sandbox.record();
    let size = size_of(&record);
    let handler = record.runtime.handler.clone();
    let stage = Stage::Making;
    engine
        .warm
        .add(&sandbox.id, Arc::clone(sandbox), &handler, size, stage);
    if record.warm == Warm::Waiting
        && let Some(shim) = find(engine, &record).await
    {
        tracing::info!(id = sandbox.id, handler, "a pod sandbox waits on");
        sandbox.set_shim(Some(shim.clone()));
        engine.warm.ready(&sandbox.id);
        super::watch::watch(engine, sandbox, shim);
        return;
    }
    tracing::info!(
        id = sandbox.id,
        handler,
        "removing a pod sandbox that waited"
    );
    engine.warm.discard(&sandbox.id, stage, "restart");
    sandbox::end_unfinished(engine, sandbox).await;
    if let Err(error) = sandbox::discard(engine, sandbox).await {
        tracing::error!(
            id = sandbox.id,
            error = chain(&error),
            "a pod sandbox that waited could not be removed; the next start tries again"
        );
    }
    engine.warm.release(&sandbox.id);
}

/// Its shim, when all of it lives.
async fn find(engine: &Shared, record: &SandboxRecord) -> Option<Shim> {
    let config = record.runtime.shim(&engine.config);
    let bundle = engine.layout.bundle(&record.id);
    let shim = Shim::reconnect(&config, &bundle).await;
    let shim = shim.ok()?;
    if record.pause {
        let state = shim.state(&record.id).await.ok()?;
        if state.status != Status::Running {
            return None;
        }
        // A virtual machine is told its hostname by a command in it, whose streams are beside those of its sandbox container.
        shim.adopt(&record.id, &bundle).await.ok()?;
    }
    Some(shim)
}
