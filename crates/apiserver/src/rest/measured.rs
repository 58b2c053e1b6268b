//! What nodes and pods use (metrics.k8s.io): made when it is asked for.

use std::sync::Arc;

use berth_api::status::ApiError;
use http::StatusCode;
use serde_json::Value;

use super::Call;
use super::list::Listed;
use super::render::ListMeta;
use crate::http_types::Response;
use crate::query::Options;
use crate::registry::Measured;
use crate::selector::Selector;
use crate::storage::Stored;

impl Call {
    /// Answers a GET of what one node or pod uses.
    pub(crate) async fn get_measured(&self, what: Measured) -> Result<Response, ApiError> {
        self.wait_for_samples().await?;
        let storage = &self.api.storage;
        let measured = storage
            .get(what.storage(), self.namespace(), self.name())
            .and_then(|object| self.api.resource_metrics.of(what, &object))
            .ok_or_else(|| self.not_found(self.name()))?;
        self.answer_stored(StatusCode::OK, self.held(&measured))
            .await
    }

    /// Answers a list of what nodes or pods use. Those of which nothing is known yet are not in it.
    pub(crate) async fn list_measured(self, what: Measured) -> Result<Response, ApiError> {
        self.query.check(Options::List)?;
        let selector = Selector::new(self.namespace(), &self.selection, &[])?;
        self.wait_for_samples().await?;
        let storage = &self.api.storage;
        let namespace = Some(self.namespace()).filter(|namespace| !namespace.is_empty());
        let objects = storage.list(what.storage(), namespace);
        let selected = objects
            .iter()
            .filter(|object| selector.matches(object.as_ref()));
        let measured = selected.filter_map(|object| self.api.resource_metrics.of(what, object));
        let items = measured.map(|value| self.held(&value)).collect();
        let meta = ListMeta {
            revision: storage.applied(),
            ..ListMeta::default()
        };
        self.respond_list(Listed { items, meta }).await
    }

    async fn wait_for_samples(&self) -> Result<(), ApiError> {
        let ready = self.api.resource_metrics.ready(self.deadline);
        self.seats.away(ready).await?
    }

    /// In the form that all answers are made from.
    fn held(&self, value: &Value) -> Arc<Stored> {
        Arc::new(Stored::made(&self.row.storage, value))
    }
}
