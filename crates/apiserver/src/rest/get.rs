//! GET of one object.

use berth_api::status::ApiError;
use http::StatusCode;

use super::Call;
use crate::http_types::Response;

impl Call {
    /// Answers a GET of one object.
    pub(crate) async fn get(&self) -> Result<Response, ApiError> {
        self.freshen().await?;
        let stored = self
            .cache()
            .get(self.namespace(), self.name())
            .ok_or_else(|| self.not_found(self.name()))?;
        if stored.corrupt {
            return Err(stored.unreadable().into());
        }
        self.answer_stored(StatusCode::OK, stored).await
    }

    /// Waits until the cache shows what the request's resourceVersion asks for: everything that
    /// was written before (unset), anything (`0`), or that revision.
    pub(crate) async fn freshen(&self) -> Result<(), ApiError> {
        let storage = &self.api.storage;
        match self.query.revision()? {
            Some(0) => Ok(()),
            Some(revision) => storage.wait_for(revision).await,
            None => storage.wait_for(storage.current_revision().await?).await,
        }
    }
}
