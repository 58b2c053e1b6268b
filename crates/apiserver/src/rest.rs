//! The generic verbs. They know kinds only through the rows of the registry.

pub(crate) mod answered;
mod conversion;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod delete_collection;
mod delete_unreadable;
mod disruption;
pub(crate) mod get;
pub(crate) mod incoming;
pub(crate) mod list;
pub(crate) mod list_stream;
mod measured;
pub(crate) mod render;
mod scale;
pub(crate) mod subresource;
pub(crate) mod update;
pub(crate) mod watch;
mod weight;

use std::sync::Arc;

use berth_api::status::{ApiError, Subject};
use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admission::{self, Form, Operation, RequestOptions};
use crate::api::Api;
use crate::attributes::{Action, Asked, Attributes};
use crate::audit::Trail;
use crate::authz::Decision;
use crate::flow::Seats;
use crate::negotiate::Accepted;
use crate::object::Object;
use crate::patch::{self, WriteContext};
use crate::query::{FieldValidation, PatchKind, Query};
use crate::registry::Resource;
use crate::request::{Target, Verb};
use crate::selector::Selection;
use crate::storage::{ResourceCache, Stored};
use crate::strategy::{Cluster, Write};
use crate::trace::Traced;
use crate::user::User;
use crate::warnings::Warnings;

/// One request for a row of the registry.
pub(crate) struct Call {
    pub(crate) api: Arc<Api>,
    pub(crate) row: Arc<Resource>,
    pub(crate) verb: Verb,
    pub(crate) target: Target,
    pub(crate) selection: Selection,
    pub(crate) user: User,
    pub(crate) query: Query,
    /// The kind of a patch; none when the `Content-Type` is no patch.
    pub(crate) patch: Option<PatchKind>,
    pub(crate) accepted: Accepted,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) shutdown: CancellationToken,
    /// What the client is told besides the answer (`Warning` headers).
    pub(crate) warnings: Warnings,
    /// What the audit log is told.
    pub(crate) trail: Trail,
    /// Its span.
    pub(crate) traced: Traced,
    /// Now, the same all through the request.
    pub(crate) now: jiff::Timestamp,
    /// Its seats of the flow control.
    pub(crate) seats: Seats,
    /// When it must be answered.
    pub(crate) deadline: Instant,
}

impl RequestOptions for Call {
    fn options(&self, operation: Operation) -> Value {
        let kind = match operation {
            Operation::Create => "CreateOptions",
            Operation::Update => "UpdateOptions",
            Operation::Delete => "DeleteOptions",
            Operation::Connect => return Value::Null,
        };
        let mut options = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
        if self.query.dry_run {
            options["dryRun"] = json!(["All"]);
        }
        if operation != Operation::Delete {
            if !self.query.field_manager.is_empty() {
                options["fieldManager"] = json!(self.query.field_manager);
            }
            match self.query.field_validation {
                FieldValidation::Strict => options["fieldValidation"] = json!("Strict"),
                FieldValidation::Ignore => options["fieldValidation"] = json!("Ignore"),
                FieldValidation::Warn => {}
            }
        }
        options
    }
}

impl Call {
    pub(crate) fn cache(&self) -> Arc<ResourceCache> {
        self.api.storage.cache(&self.row.storage)
    }

    /// Namespace of the objects, empty for cluster-scoped kinds.
    pub(crate) fn namespace(&self) -> &str {
        if self.row.namespaced() {
            &self.target.namespace
        } else {
            ""
        }
    }

    /// Name of the object that the request is for; empty for a collection.
    pub(crate) fn name(&self) -> &str {
        &self.target.name
    }

    /// Subresource that the request is for; empty for the object itself.
    pub(crate) fn subresource(&self) -> &str {
        &self.target.subresource
    }

    /// Version of the API that the request speaks.
    pub(crate) fn version(&self) -> &str {
        &self.target.version
    }

    /// `group/version` that the request speaks.
    pub(crate) fn api_version(&self) -> String {
        self.row.api_version(self.version())
    }

    /// What kind of patch this is.
    ///
    /// # Errors
    /// `UnsupportedMediaType` for a body that is none.
    pub(crate) fn patch_kind(&self) -> Result<PatchKind, ApiError> {
        self.patch
            .ok_or_else(|| ApiError::UnsupportedMediaType(PatchKind::MEDIA_TYPES.join(", ")))
    }

    /// Whether the user may do more with the object than the request's verb says.
    ///
    /// # Errors
    /// `Forbidden` when he may not.
    pub(crate) fn authorize(&self, verb: Verb) -> Result<(), ApiError> {
        self.authorize_action(Action::Verb(verb))
    }

    /// [`Self::authorize`] of an action that may not be a verb of the API.
    ///
    /// # Errors
    /// `Forbidden` when he may not.
    pub(crate) fn authorize_action(&self, action: Action<'_>) -> Result<(), ApiError> {
        let mut attributes =
            Attributes::of_target(&self.user, self.verb, &self.target, &self.selection);
        if let Asked::Resource(asked) = &mut attributes.asked {
            asked.action = action;
        }
        match self.api.authorizer.authorize(&attributes) {
            Decision::Allow(_) => Ok(()),
            Decision::NoOpinion(reason) => Err(attributes.forbidden(&reason)),
        }
    }

    /// What admission sees of a write to the request's own resource, or to a subresource of it.
    pub(crate) fn admitted<'a>(
        &'a self,
        operation: Operation,
        subresource: &'a str,
        name: &'a str,
        old: Option<&'a dyn Object>,
    ) -> admission::Attributes<'a> {
        admission::Attributes {
            user: &self.user,
            operation,
            resource: &self.row,
            version: self.version(),
            subresource,
            namespace: self.namespace(),
            name,
            old,
            dry_run: self.query.dry_run,
            warnings: &self.warnings,
            trail: &self.trail,
            traced: &self.traced,
            form: Form::Own,
            options: self,
            seats: &self.seats,
            deadline: self.deadline,
        }
    }

    /// Who writes, and when.
    pub(crate) fn write(&self) -> Write<'_> {
        Write {
            user: &self.user,
            now: self.now,
        }
    }

    /// What hooks of the kind may ask about.
    pub(crate) fn cluster(&self) -> Cluster<'_> {
        Cluster {
            storage: &self.api.storage,
            gates: &self.api.gates,
            controllers: self.api.controllers,
            network_policies: self.api.network_policies,
            services: &self.api.services,
        }
    }

    /// A stored object of the row as what it is; `value` is its JSON.
    ///
    /// # Errors
    /// `Internal` that names the object when it does not fit its type.
    pub(crate) fn typed(
        &self,
        stored: &Stored,
        value: &Value,
    ) -> Result<Box<dyn Object>, ApiError> {
        let read = self.row.strategy.read(value);
        read.map_err(|error| stored.report(&error).into())
    }

    /// Adds a warning, unless there are more than an answer can carry.
    pub(crate) fn warn(&self, text: impl Into<String>) {
        self.warnings.add(text);
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
        patch::apply::manager_of_user_agent(agent)
    }

    pub(crate) fn write_context<'a>(&'a self, manager: &'a str) -> WriteContext<'a> {
        WriteContext {
            resource: &self.row,
            version: self.version(),
            subresource: self.subresource(),
            manager,
            force: self.query.force,
            now: self.now,
        }
    }

    /// A stored object in the request's version.
    pub(crate) fn to_request(&self, object: &mut Value) -> Result<(), ApiError> {
        convert(&self.row, object, &self.api_version())
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

/// Reads any text as a continue token.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_token(text: &str) {
    list::fuzz_token(text);
}
