//! core/v1 ComponentStatus: read only.

use berth_api::field::{FieldError, FieldPath};
use k8s_openapi::api::core::v1::ComponentStatus;

use crate::Rules;

impl Rules for ComponentStatus {
    fn validate(&self) -> Vec<FieldError> {
        vec![FieldError::forbidden(
            &FieldPath::new("[]"),
            "objects of this kind are only read",
        )]
    }

    fn validate_update(&self, _old: &Self) -> Vec<FieldError> {
        self.validate()
    }
}
