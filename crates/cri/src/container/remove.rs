//! `RemoveContainer`.

use berth_cri_api::v1::ContainerEventType;
use std::sync::Arc;

use crate::engine::{Shared, blocking};
use crate::error::CriError;
use crate::record::ContainerPhase;

/// Removes a container with its root filesystem; one that runs is killed. Its log stays.
pub(crate) async fn remove(engine: &Shared, id: &str) -> Result<(), CriError> {
    let container = match engine.containers.get(id) {
        Err(CriError::NotFound { .. }) => return Ok(engine.held.check(id)?),
        found => found?,
    };
    let _busy = loop {
        super::stop(engine, &container.id, 0).await?;
        container.deleted().await;
        let busy = container.busy.lock().await;
        match container.phase() {
            ContainerPhase::Created | ContainerPhase::Exited(_) => break busy,
            // It was started before the lock was ours.
            ContainerPhase::Starting | ContainerPhase::Running => {}
        }
    };
    if engine.containers.get(&container.id).is_err() {
        // Somebody else has removed it meanwhile.
        return Ok(());
    }
    let shared = Arc::clone(engine);
    let removed = container.id.clone();
    let pod = engine.sandboxes.get(&container.record().sandbox_id).ok();
    blocking(move || {
        if let Some(pod) = pod {
            super::shown::hide(&shared, &removed, &pod.record());
        }
        super::create::discard(&shared, &removed)
    })
    .await?;
    engine.containers.remove(&container.id);
    engine.events.container(
        engine,
        ContainerEventType::ContainerDeletedEvent,
        &container,
    );
    Ok(())
}
