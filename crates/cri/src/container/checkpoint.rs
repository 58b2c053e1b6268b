//! `CheckpointContainer`.

use std::path::Path;
use std::time::Duration;

use berth_cri_api::v1::CheckpointContainerRequest;

use crate::engine::Shared;
use crate::error::CriError;

/// Writes a checkpoint through the runtime, which may not be able to.
pub(crate) async fn checkpoint(
    engine: &Shared,
    request: CheckpointContainerRequest,
) -> Result<(), CriError> {
    let container = engine.containers.get(&request.container_id)?;
    if request.location.is_empty() {
        return Err(CriError::Invalid(
            "the request names no location".to_owned(),
        ));
    }
    let shim = container.running(engine)?.shim()?;
    let work = shim.checkpoint(&container.id, Path::new(&request.location));
    let done = match u64::try_from(request.timeout) {
        Ok(seconds @ 1..) => tokio::time::timeout(Duration::from_secs(seconds), work)
            .await
            .unwrap_or(Err(berth_shim::client::ShimError::Timeout(
                Duration::from_secs(seconds),
            ))),
        _ => work.await,
    };
    done.map_err(CriError::shim("checkpoint container", &container.id))
}
