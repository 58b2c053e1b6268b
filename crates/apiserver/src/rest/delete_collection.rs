//! DELETE of all objects that selectors take.

use berth_api::status::ApiError;
use http::StatusCode;

use super::Call;
use super::delete::{Deleted, Deletion};
use super::render::ListMeta;
use crate::http_types::Response;
use crate::storage::Stored;

impl Call {
    /// Answers a DELETE of a collection with the list of what was deleted.
    pub(crate) async fn delete_collection(&self) -> Result<Response, ApiError> {
        let deletion = self.deletion()?;
        let listed = self.collect().await?;
        let mut gone = Vec::with_capacity(listed.items.len());
        for item in &listed.items {
            gone.push(match self.delete_listed(item, &deletion).await {
                Ok(Deleted::Gone(stored) | Deleted::Marked(stored)) => stored,
                Ok(Deleted::Dry(_)) => item.clone(),
                // Somebody else was quicker.
                Err(ApiError::NotFound(_)) => continue,
                Err(error) => return Err(error),
            });
        }
        let items: Vec<&Stored> = gone.iter().map(std::convert::AsRef::as_ref).collect();
        let meta = ListMeta {
            revision: self.api.storage.applied(),
            continue_token: listed.meta.continue_token,
            remaining: None,
        };
        let bytes = self.list_bytes(&items, &meta)?;
        self.respond_bytes(StatusCode::OK, bytes)
    }

    async fn delete_listed(
        &self,
        item: &std::sync::Arc<Stored>,
        deletion: &Deletion,
    ) -> Result<Deleted, ApiError> {
        let mut current = item.clone();
        loop {
            match self.delete_stored(&current, deletion).await? {
                Ok(deleted) => return Ok(deleted),
                Err(Some(changed)) => current = changed,
                Err(None) => return Err(self.not_found(&item.name)),
            }
        }
    }
}
