//! DELETE of what cannot be decoded from the store: by whoever may, asked for in so many words.
//!
//! Neither finalizers, preconditions nor a grace period can be looked at, so that somebody who waits for them may be left
//! behind; hence the stock server's option and verb.

use std::sync::Arc;

use berth_api::field::{FieldError, FieldPath};
use berth_api::status::ApiError;
use berth_store::Expect;

use super::Call;
use super::delete::{Deleted, Deletion};
use crate::admission::Operation;
use crate::attributes::Action;
use crate::storage::{READ_ERRORS_OPTION, READ_ERRORS_VERB, Stored, Written};

impl Call {
    /// Deletes an object that cannot be decoded.
    pub(super) async fn delete_unreadable(
        &self,
        stored: Arc<Stored>,
        deletion: &Deletion,
    ) -> Result<Deleted, ApiError> {
        check_alone(deletion)?;
        self.authorize_action(Action::Other(READ_ERRORS_VERB))?;
        let readable = match stored.value() {
            Ok(value) => self.row.strategy.read(&value).is_ok(),
            Err(_) => false,
        };
        if readable {
            let error = FieldError::invalid(
                &FieldPath::new(READ_ERRORS_OPTION),
                true,
                "is exclusively used to delete corrupt object(s), try again by removing this option",
            );
            return Err(ApiError::invalid(
                &self.row.group,
                &self.row.kind,
                &stored.name,
                vec![error],
            ));
        }
        let attributes = self.admitted(Operation::Delete, "", &stored.name, None);
        self.api.admission.judge(&attributes).await?;
        let expect = Expect::Revision(stored.revision);
        let storage = &self.api.storage;
        let written = storage
            .remove(&self.row.storage, &stored.namespace, &stored.name, expect)
            .await?;
        match written {
            Written::Done(_) => {
                tracing::warn!(
                    storage = %stored.storage,
                    namespace = %stored.namespace,
                    name = %stored.name,
                    user = self.user.name,
                    "an object that could not be decoded was deleted"
                );
                Ok(Deleted::Unreadable(stored))
            }
            Written::Changed(_) => Err(self.modified(&stored.name)),
        }
    }
}

/// What the other options say cannot be heeded.
fn check_alone(deletion: &Deletion) -> Result<(), ApiError> {
    let others = [
        ("dryRun", deletion.dry_run),
        ("propagationPolicy", deletion.propagation.is_some()),
        ("gracePeriodSeconds", deletion.grace.is_some()),
        (
            "preconditions",
            deletion.uid.is_some() || deletion.resource_version.is_some(),
        ),
    ];
    let errors: Vec<FieldError> = others
        .iter()
        .filter(|(_, given)| *given)
        .map(|(field, _)| {
            FieldError::invalid(
                &FieldPath::new(READ_ERRORS_OPTION),
                true,
                format!("cannot be set together with {field}"),
            )
        })
        .collect();
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(
        "meta.k8s.io",
        "DeleteOptions",
        "",
        errors,
    ))
}

/// For requests that do not delete one object by its name.
pub(super) fn refuse_option(deletion: &Deletion) -> Result<(), ApiError> {
    if deletion.ignore_read_errors {
        return Err(ApiError::BadRequest(format!(
            "{READ_ERRORS_OPTION} is for the deletion of one object by its name"
        )));
    }
    Ok(())
}
