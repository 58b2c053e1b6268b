//! apps/v1 ControllerRevision.

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use k8s_openapi::api::apps::v1::ControllerRevision;

use crate::Rules;
use crate::values::non_negative;
use berth_core::meta::{self, Scope};

impl Rules for ControllerRevision {
    fn validate(&self) -> Vec<FieldError> {
        let mut errors =
            meta::validate(&self.metadata, Scope::Namespaced, names::dns1123_subdomain);
        errors.extend(content(self));
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(content(self));
        meta::immutable(&mut errors, &FieldPath::new("data"), &self.data, &old.data);
        errors
    }
}

fn content(revision: &ControllerRevision) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if revision.data.as_ref().is_none_or(|data| data.0.is_null()) {
        let at = FieldPath::new("data");
        errors.push(FieldError::required(&at, "data is mandatory"));
    }
    non_negative(
        &mut errors,
        &FieldPath::new("revision"),
        Some(revision.revision),
    );
    errors
}
