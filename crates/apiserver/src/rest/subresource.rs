//! Subresources that are not a part of the object: binding and eviction.

use std::sync::Arc;

use berth_api::decode;
use berth_api::status::ApiError;
use berth_store::Expect;
use http::StatusCode;
use k8s_openapi::api::core::v1::Binding;
use k8s_openapi::api::policy::v1::Eviction;
use serde_json::{Value, json};

use super::delete::Deletion;
use super::incoming::check_kind;
use super::{Call, meta};
use crate::http_types::Response;
use crate::negotiate;
use crate::query::Propagation;
use crate::storage::{Stored, Written};

const TRIES: usize = 20;

impl Call {
    fn accepted_status(&self) -> Result<Response, ApiError> {
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
        self.respond_bytes(StatusCode::CREATED, status.to_string().into())
    }

    /// Answers a POST of a Binding: the pod gets its node.
    pub(crate) async fn bind(&self) -> Result<Response, ApiError> {
        let mut body = negotiate::body(&self.headers, &self.body)?;
        check_kind(&mut body, "Binding", "v1")?;
        let decoded =
            decode::decode::<Binding>(&body).map_err(|e| ApiError::BadRequest(e.to_string()))?;
        self.report_unknown(&decoded.unknown_fields)?;
        let binding = decoded.object;
        let named = binding.metadata.name.clone().unwrap_or_default();
        let name = if self.info.name.is_empty() {
            named.as_str()
        } else {
            &self.info.name
        };
        if !named.is_empty() && named != name {
            return Err(ApiError::BadRequest(format!(
                "the name of the object ({named}) does not match the name on the URL ({name})"
            )));
        }
        let kind = binding.target.kind.as_deref().unwrap_or("");
        let node = binding.target.name.as_deref().unwrap_or("");
        if !matches!(kind, "" | "Node" | "Minion") {
            return Err(self.bad_target(&named, "kind", kind));
        }
        if node.is_empty() {
            return Err(self.bad_target(&named, "name", ""));
        }
        let mut current = self.pod(name);
        for _ in 0..TRIES {
            let stored = current.take().ok_or_else(|| self.not_found(name))?;
            let bound = self.bound(&stored, &binding, node)?;
            if self.query.dry_run {
                return self.accepted_status();
            }
            let written = self
                .api
                .storage
                .put(
                    "core/pods",
                    &self.info.namespace,
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
        self.api
            .storage
            .get("core/pods", &self.info.namespace, name)
    }

    fn bad_target(&self, name: &str, field: &str, value: &str) -> ApiError {
        use berth_api::field::{FieldError, FieldPath};
        let path = FieldPath::new("target").child(field);
        let error = if field == "name" {
            FieldError::required(&path, "")
        } else {
            FieldError::not_supported(&path, value, &["Node", "<empty>"])
        };
        ApiError::invalid("", "Binding", name, vec![error])
    }

    fn bound(&self, stored: &Stored, binding: &Binding, node: &str) -> Result<Value, ApiError> {
        let mut pod = stored.value();
        let name = &stored.name;
        let uid = meta::text(&pod, "/metadata/uid");
        let pods = |message: String| ApiError::Conflict {
            subject: berth_api::status::Subject::new("", "pods/binding", name.as_ref()),
            message,
        };
        if let Some(wanted) = binding
            .metadata
            .uid
            .as_deref()
            .filter(|w| !w.is_empty() && *w != uid)
        {
            return Err(pods(format!(
                "Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}"
            )));
        }
        if meta::is_terminating(&pod) {
            return Err(pods(format!(
                "pod {name} is being deleted, cannot be assigned to a host"
            )));
        }
        let assigned = meta::text(&pod, "/spec/nodeName");
        if !assigned.is_empty() {
            return Err(pods(format!(
                "pod {name} is already assigned to node {assigned:?}"
            )));
        }
        pod["spec"]["nodeName"] = json!(node);
        for (key, value) in binding.metadata.annotations.iter().flatten() {
            if !pod["metadata"]["annotations"].is_object() {
                pod["metadata"]["annotations"] = json!({});
            }
            pod["metadata"]["annotations"][key] = json!(value);
        }
        set_scheduled(&mut pod, self.now);
        Ok(pod)
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
        if !named.is_empty() && named != self.info.name {
            return Err(ApiError::BadRequest(format!(
                "name in URL does not match name in Eviction object: {} != {named}",
                self.info.name
            )));
        }
        let options = eviction.delete_options.unwrap_or_default();
        let preconditions = options.preconditions.unwrap_or_default();
        let deletion = Deletion {
            grace: options.grace_period_seconds,
            uid: preconditions.uid,
            resource_version: preconditions.resource_version,
            propagation: match options.propagation_policy.as_deref() {
                None | Some("") => None,
                Some(policy) => Some(Propagation::parse(policy)?),
            },
            dry_run: self.query.dry_run || options.dry_run.is_some_and(|d| !d.is_empty()),
        };
        self.delete_object(&self.info.name, &deletion).await?;
        self.accepted_status()
    }
}

/// Sets the condition PodScheduled.
fn set_scheduled(pod: &mut Value, now: jiff::Timestamp) {
    let condition = json!({
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": null,
        "lastTransitionTime": meta::time(now),
    });
    if !pod["status"]["conditions"].is_array() {
        pod["status"]["conditions"] = json!([]);
    }
    if let Some(conditions) = pod["status"]["conditions"].as_array_mut() {
        match conditions.iter_mut().find(|c| c["type"] == "PodScheduled") {
            Some(old) => *old = condition,
            None => conditions.push(condition),
        }
    }
}
