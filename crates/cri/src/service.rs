//! The two gRPC services: every RPC of CRI v1, each answered by the module that owns it.

mod image;
mod runtime;

use tonic::Status;

use crate::engine::Shared;
use crate::error::CriError;

pub(crate) struct Services {
    engine: Shared,
}

impl Services {
    pub(crate) fn new(engine: Shared) -> Self {
        Self { engine }
    }
}

/// Runs a change to its end even when the client hangs up: half a sandbox would be nobody's.
async fn whole<T: Send + 'static>(
    work: impl Future<Output = Result<T, CriError>> + Send + 'static,
) -> Result<T, Status> {
    let done = tokio::spawn(work)
        .await
        .map_err(|error| Status::internal(format!("the request's task was lost: {error}")))?;
    done.map_err(Status::from)
}
