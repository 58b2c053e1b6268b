//! DELETE of all objects that selectors take.

use berth_api::status::ApiError;

use super::Call;
use super::delete::{Deleted, Deletion};
use super::delete_unreadable;
use super::list::Listed;
use super::render::ListMeta;
use crate::http_types::Response;
use crate::storage::Stored;

impl Call {
    /// Answers a DELETE of a collection with the list of what was deleted.
    pub(crate) async fn delete_collection(self) -> Result<Response, ApiError> {
        let deletion = self.deletion()?;
        delete_unreadable::refuse_option(&deletion)?;
        let listed = self.collect().await?;
        let mut gone = Vec::with_capacity(listed.items.len());
        let mut unreadable = self.corrupt()?;
        for item in &listed.items {
            gone.push(match self.delete_listed(item, &deletion).await {
                Ok(
                    Deleted::Gone(stored) | Deleted::Marked(stored) | Deleted::Unreadable(stored),
                ) => stored,
                Ok(Deleted::Dry(_)) => item.clone(),
                // Somebody else was quicker.
                Err(ApiError::NotFound(_)) => continue,
                // It does not keep the others, but it is said that it is there.
                Err(error @ ApiError::Internal(_)) => {
                    unreadable = unreadable.or(Some(error));
                    continue;
                }
                Err(error) => return Err(error),
            });
        }
        if let Some(error) = unreadable {
            return Err(error);
        }
        let meta = ListMeta {
            revision: self.api.storage.applied(),
            continue_token: listed.meta.continue_token,
            remaining: None,
        };
        self.respond_list(Listed { items: gone, meta }).await
    }

    /// An error that names an object which no list shows because it cannot be read, where the whole collection is to go.
    fn corrupt(&self) -> Result<Option<ApiError>, ApiError> {
        if self.selector()?.is_filtered() {
            return Ok(None);
        }
        let all = self.cache().list(Some(self.namespace()));
        let corrupt = all.iter().find(|item| item.corrupt);
        Ok(corrupt.map(|item| item.unreadable().into()))
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
