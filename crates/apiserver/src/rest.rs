//! The generic verbs. They know kinds only through the rows of the registry.

pub(crate) mod answered;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod delete_collection;
pub(crate) mod early;
pub(crate) mod get;
pub(crate) mod incoming;
pub(crate) mod list;
pub(crate) mod meta;
pub(crate) mod render;
pub(crate) mod subresource;
pub(crate) mod update;
pub(crate) mod watch;

use std::sync::Arc;

use berth_api::status::{ApiError, Subject};
use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::negotiate::Accepted;
use crate::patch::WriteContext;
use crate::query::Query;
use crate::registry::Resource;
use crate::request::RequestInfo;
use crate::storage::ResourceCache;
use crate::strategy::RuleContext;
use crate::user::User;

/// One request for a row of the registry.
pub(crate) struct Call {
    pub(crate) api: Arc<Api>,
    pub(crate) row: Arc<Resource>,
    pub(crate) info: RequestInfo,
    pub(crate) user: User,
    pub(crate) query: Query,
    pub(crate) accepted: Accepted,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) shutdown: CancellationToken,
    /// What the client is told besides the answer (`Warning` headers).
    pub(crate) warnings: Mutex<Vec<String>>,
    /// Now, the same all through the request.
    pub(crate) now: jiff::Timestamp,
}

impl Call {
    pub(crate) fn cache(&self) -> Arc<ResourceCache> {
        self.api.storage.cache(&self.row.storage)
    }

    /// Namespace of the objects, empty for cluster-scoped kinds.
    pub(crate) fn namespace(&self) -> &str {
        if self.row.namespaced() {
            &self.info.namespace
        } else {
            ""
        }
    }

    pub(crate) fn rules(&self) -> RuleContext<'_> {
        RuleContext {
            gates: &self.api.gates,
        }
    }

    /// Adds a warning, unless there are more than an answer can carry.
    pub(crate) fn warn(&self, text: impl Into<String>) {
        const MAX_WARNINGS: usize = 256;
        let text = text.into();
        let mut warnings = self.warnings.lock();
        if warnings.len() < MAX_WARNINGS && !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    pub(crate) fn subject(&self, name: &str) -> Subject {
        Subject::new(&self.row.group, &self.row.plural, name)
    }

    pub(crate) fn not_found(&self, name: &str) -> ApiError {
        ApiError::NotFound(self.subject(name))
    }

    pub(crate) fn conflict(&self, name: &str, message: impl Into<String>) -> ApiError {
        ApiError::Conflict {
            subject: self.subject(name),
            message: message.into(),
        }
    }

    pub(crate) fn modified(&self, name: &str) -> ApiError {
        self.conflict(
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// Who writes: `fieldManager`, or the user agent up to its first slash.
    pub(crate) fn manager(&self) -> String {
        if !self.query.field_manager.is_empty() {
            return self.query.field_manager.clone();
        }
        let agent = self
            .headers
            .get(http::header::USER_AGENT)
            .and_then(|v| v.to_str().ok())
            .unwrap_or("unknown");
        agent.split('/').next().unwrap_or("unknown").to_owned()
    }

    pub(crate) fn write_context<'a>(&'a self, manager: &'a str) -> WriteContext<'a> {
        WriteContext {
            resource: &self.row,
            version: &self.info.api_version,
            subresource: &self.info.subresource,
            manager,
            force: self.query.force,
            now: self.now,
        }
    }

    /// An object of the request's version, as it is stored.
    pub(crate) fn to_storage(&self, object: &mut Value) -> Result<(), ApiError> {
        convert(&self.row, object, &self.row.storage_gvk.api_version())
    }

    /// A stored object in the request's version.
    pub(crate) fn to_request(&self, object: &mut Value) -> Result<(), ApiError> {
        convert(
            &self.row,
            object,
            &self.row.api_version(&self.info.api_version),
        )
    }
}

/// Converts an object of a row to one of its apiVersions.
pub(crate) fn convert(row: &Resource, object: &mut Value, to: &str) -> Result<(), ApiError> {
    let Some(convert) = &row.convert else {
        return Ok(());
    };
    let from = object
        .get("apiVersion")
        .and_then(Value::as_str)
        .unwrap_or("")
        .to_owned();
    if from == to {
        return Ok(());
    }
    convert(object, &from, to)
}
