//! core/v1 Endpoints: only what holds for all metadata.

use berth_api::field::FieldError;
use berth_api::names;
use k8s_openapi::api::core::v1::Endpoints;

use crate::Rules;
use berth_core::meta::{self, Scope};

impl Rules for Endpoints {
    fn validate(&self) -> Vec<FieldError> {
        meta::validate(&self.metadata, Scope::Namespaced, names::dns1123_subdomain)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        meta::validate_update(&self.metadata, &old.metadata)
    }
}
