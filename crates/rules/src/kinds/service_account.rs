//! core/v1 ServiceAccount.

use berth_api::field::FieldError;
use berth_api::names;
use k8s_openapi::api::core::v1::ServiceAccount;

use crate::Rules;
use berth_core::meta::{self, Scope};

impl Rules for ServiceAccount {
    fn validate(&self) -> Vec<FieldError> {
        meta::validate(&self.metadata, Scope::Namespaced, names::dns1123_subdomain)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(self.validate());
        errors
    }
}
