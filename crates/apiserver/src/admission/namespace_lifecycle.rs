//! NamespaceLifecycle: nothing is written in namespaces that do not exist, nothing new in those that are going, and the
//! namespaces that a cluster cannot be without stay.

use std::sync::Arc;

use berth_api::status::{ApiError, Subject};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::StatusCause;

use super::{Attributes, NAMESPACES, Operation, Parts, Plugin};
use crate::object::Object;
use crate::registry::ResourceHandler;
use crate::storage::Storage;

/// Namespaces that cannot be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub(super) struct NamespaceLifecycle {
    storage: Arc<Storage>,
}

impl NamespaceLifecycle {
    pub(super) fn new(parts: &Parts) -> Self {
        Self {
            storage: Arc::clone(&parts.storage),
        }
    }
}

/// Controllers go by the cause: what they made is not made again.
fn terminating(attributes: &Attributes<'_>) -> ApiError {
    let namespace = attributes.namespace;
    let mut status = attributes
        .forbidden(format!(
            "unable to create new content in namespace {namespace} because it is being terminated"
        ))
        .status();
    let details = status.details.get_or_insert_default();
    details.causes.get_or_insert_default().push(StatusCause {
        reason: Some("NamespaceTerminating".to_owned()),
        message: Some(format!("namespace {namespace} is being terminated")),
        field: Some("metadata.namespace".to_owned()),
    });
    ApiError::Denied(Box::new(status))
}

impl Plugin for NamespaceLifecycle {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        match attributes.operation {
            // Who asks what they may do need not know whether the namespace is there.
            Operation::Create | Operation::Update => {
                attributes.resource.namespaced()
                    && !matches!(attributes.resource.handler, ResourceHandler::Review(_))
            }
            Operation::Delete => attributes.is("", "namespaces", ""),
            Operation::Connect => false,
        }
    }

    fn admit(&self, attributes: &Attributes<'_>, _object: &mut dyn Object) -> Result<(), ApiError> {
        let namespace = attributes.namespace;
        let found = self
            .storage
            .get(NAMESPACES, "", namespace)
            .ok_or_else(|| ApiError::NotFound(Subject::new("", "namespaces", namespace)))?;
        if attributes.operation != Operation::Create {
            return Ok(());
        }
        let found: Arc<Namespace> = found.shared()?;
        let phase = found.status.as_ref().and_then(|s| s.phase.as_deref());
        if phase == Some("Terminating") || found.metadata.deletion_timestamp.is_some() {
            return Err(terminating(attributes));
        }
        Ok(())
    }

    fn validate(
        &self,
        attributes: &Attributes<'_>,
        _object: Option<&dyn Object>,
    ) -> Result<(), ApiError> {
        let delete = attributes.operation == Operation::Delete;
        if delete && IMMORTAL.contains(&attributes.name) {
            return Err(attributes.forbidden("this namespace may not be deleted"));
        }
        Ok(())
    }
}
