//! `ReopenContainerLog`.

use crate::engine::Shared;
use crate::error::CriError;

pub(crate) async fn reopen_log(engine: &Shared, id: &str) -> Result<(), CriError> {
    let container = engine.containers.get(id)?;
    let sandbox = container.running(engine)?;
    sandbox
        .shim()?
        .reopen_log(&container.id)
        .await
        .map_err(CriError::shim("reopen the log of container", &container.id))
}
