//! The two gRPC services: every RPC of CRI v1, each answered by the module that owns it.

mod deadline;
mod image;
mod runtime;
mod streamed;
mod traced;

use tonic::{Request, Response, Status};

pub(crate) use deadline::Deadline;

use crate::engine::Shared;
use crate::error::CriError;

type Answer<T> = Result<Response<T>, Status>;

fn answer<T>(value: T) -> Answer<T> {
    Ok(Response::new(value))
}

pub(crate) struct Services {
    engine: Shared,
}

impl Services {
    pub(crate) fn new(engine: Shared) -> Self {
        Self { engine }
    }

    /// Answers with what `work` makes of a request. It goes on to its end even when the client hangs up: half a
    /// sandbox would be nobody's.
    async fn change<Q, T, F>(
        &self,
        request: Request<Q>,
        work: impl FnOnce(Shared, Q) -> F,
    ) -> Answer<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, CriError>> + Send + 'static,
    {
        let work = work(Shared::clone(&self.engine), request.into_inner());
        let done =
            self.engine.tasks.request(work).await.map_err(|error| {
                Status::internal(format!("the request's task was lost: {error}"))
            })?;
        answer(done?)
    }
}
