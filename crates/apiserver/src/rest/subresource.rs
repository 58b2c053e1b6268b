//! Subresources that are not a part of the object: binding and eviction.

use std::sync::Arc;

use berth_api::decode;
use berth_api::field::aggregate;
use berth_api::status::{ApiError, Subject};
use berth_core::pod::binding;
use berth_store::Expect;
use http::StatusCode;
use k8s_openapi::api::core::v1::{Binding, Pod};
use k8s_openapi::api::policy::v1::Eviction;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::incoming::{check_kind, duplicates};
use super::{Call, meta};
use crate::http_types::Response;
use crate::negotiate;
use crate::query::Options;
use crate::storage::{Stored, Written};

const TRIES: usize = 20;

impl Call {
    fn accepted_status(&self) -> Result<Response, ApiError> {
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
        self.respond_bytes(StatusCode::CREATED, status.to_string().into())
    }

    /// Answers a POST of a Binding: the pod gets its node.
    pub(crate) async fn bind(&self) -> Result<Response, ApiError> {
        self.query.check(Options::Create)?;
        let mut document = negotiate::document(&self.headers, &self.body)?;
        check_kind(&mut document.value, "Binding", "v1")?;
        let refused = |why: String| {
            ApiError::BadRequest(format!(
                "Binding in version \"v1\" cannot be handled as a Binding: {why}"
            ))
        };
        let decoded =
            decode::decode::<Binding>(&document.value).map_err(|e| refused(e.to_string()))?;
        let mut strict = duplicates(&document.repeated);
        strict.extend(
            decoded
                .unknown_fields
                .iter()
                .map(|f| format!("unknown field {f:?}")),
        );
        self.report(&strict, refused)?;
        let binding = decoded.object;
        let named = binding.metadata.name.as_deref().unwrap_or_default();
        let name = if self.name().is_empty() {
            named
        } else {
            self.name()
        };
        if named != name {
            return Err(ApiError::BadRequest(
                "name in URL does not match name in Binding object".to_owned(),
            ));
        }
        let errors = binding::validate(&binding);
        if !errors.is_empty() {
            return Err(ApiError::Unexplained(aggregate(&errors)));
        }
        let mut current = self.pod(name);
        for _ in 0..TRIES {
            let stored = current.take().ok_or_else(|| self.not_found(name))?;
            let bound = self.bound(&stored, &binding)?;
            if self.query.dry_run {
                return self.accepted_status();
            }
            let written = self
                .api
                .storage
                .put(
                    "core/pods",
                    self.namespace(),
                    name,
                    Expect::Revision(stored.revision),
                    &bound,
                )
                .await?;
            match written {
                Written::Done(_) => return self.accepted_status(),
                Written::Changed(newer) => current = newer,
            }
        }
        Err(self.modified(name))
    }

    fn pod(&self, name: &str) -> Option<Arc<Stored>> {
        self.api.storage.get("core/pods", self.namespace(), name)
    }

    fn bound(&self, stored: &Stored, binding: &Binding) -> Result<Value, ApiError> {
        let mut pod: Pod = decode::from_value(&stored.value())
            .map_err(|e| ApiError::Internal(format!("a stored pod cannot be read: {e}")))?;
        binding::assign(&mut pod, binding, Time(self.now)).map_err(|error| ApiError::Conflict {
            subject: Subject::new("", "pods/binding", &*stored.name),
            message: error.to_string(),
        })?;
        serde_json::to_value(&pod).map_err(|e| ApiError::Internal(e.to_string()))
    }

    /// Answers a POST of an Eviction. There are no disruption budgets, so it is a delete.
    pub(crate) async fn evict(&self) -> Result<Response, ApiError> {
        let mut body = negotiate::body(&self.headers, &self.body)?;
        let version = meta::text(&body, "/apiVersion").to_owned();
        if version == "policy/v1beta1" {
            body["apiVersion"] = json!("policy/v1");
        }
        check_kind(&mut body, "Eviction", "policy/v1")?;
        let eviction: Eviction =
            decode::from_value(&body).map_err(|e| ApiError::BadRequest(e.to_string()))?;
        let named = eviction.metadata.name.as_deref().unwrap_or("");
        if !named.is_empty() && named != self.name() {
            return Err(ApiError::BadRequest(format!(
                "name in URL does not match name in Eviction object: {} != {named}",
                self.name()
            )));
        }
        let options = eviction.delete_options.unwrap_or_default();
        let deletion = Self::deletion_of(options, &self.query)?;
        self.delete_object(self.name(), &deletion).await?;
        self.accepted_status()
    }
}
