//! Pods that are not whole any more: the sandbox container has ended, or the shim has died.

use berth_cri_api::v1::ContainerEventType;
use berth_shim::client::{self, Exit};

use super::Sandbox;
use crate::engine::{Engine, Shared};
use crate::record::{Phase, SandboxRecord};

/// Notes that a ready pod is so no more; false when that is known.
pub(crate) fn not_ready(engine: &Shared, sandbox: &Sandbox) -> bool {
    if sandbox.phase() != Phase::Ready {
        return false;
    }
    if let Err(error) = sandbox.update(|record| record.phase = Phase::NotReady) {
        tracing::error!(
            id = sandbox.id,
            error = crate::error::chain(&error),
            "record not written"
        );
    }
    let stopped = ContainerEventType::ContainerStoppedEvent;
    engine.events.sandbox(engine, stopped, sandbox);
    true
}

/// A pod whose shim has died is not ready, and its sandbox container is ended here, since nobody else would.
pub(crate) async fn lose(engine: &Shared, sandbox: &Sandbox) {
    if not_ready(engine, sandbox) {
        end_pause(engine, &sandbox.record()).await;
    }
}

/// Ends a sandbox container that has no shim.
pub(super) async fn end_pause(engine: &Engine, record: &SandboxRecord) {
    if record.pause && engine.layout.bundle(&record.id).exists() {
        let _ = end_without_shim(engine, record, &record.id).await;
    }
}

/// Ends a container of a pod whose shim has died; gives how it ended.
pub(crate) async fn end_without_shim(
    engine: &Engine,
    pod: &SandboxRecord,
    id: &str,
) -> Option<Exit> {
    let config = pod.runtime.shim(&engine.config);
    let bundle = engine.layout.bundle(id);
    let ended = client::cleanup(&config, id, &bundle).await;
    ended
        .inspect_err(|error| {
            let error = crate::error::chain(error);
            tracing::error!(
                id,
                error,
                "a container that lost its shim could not be ended"
            );
        })
        .ok()
}
