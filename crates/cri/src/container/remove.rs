//! `RemoveContainer`.

use k8s_cri::v1::ContainerEventType;
use std::sync::Arc;

use crate::engine::{Shared, blocking};
use crate::error::CriError;

/// Removes a container with its root filesystem; one that runs is killed. Its log stays.
pub(crate) async fn remove(engine: &Shared, id: &str) -> Result<(), CriError> {
    let container = match engine.containers.get(id) {
        Err(CriError::NotFound { .. }) => return Ok(()),
        found => found?,
    };
    super::stop(engine, &container.id, 0).await?;
    container.deleted().await;
    let _busy = container.busy.lock().await;
    let shared = Arc::clone(engine);
    let removed = container.id.clone();
    blocking(move || super::create::discard(&shared, &removed)).await?;
    engine.containers.remove(&container.id);
    engine.events.container(
        engine,
        ContainerEventType::ContainerDeletedEvent,
        &container,
    );
    Ok(())
}
