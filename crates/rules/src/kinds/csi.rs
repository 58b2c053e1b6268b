//! storage.k8s.io/v1 CSIDriver and CSINode: only what holds for all metadata.

use berth_api::field::FieldError;
use berth_api::names;
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode};

use crate::Rules;
use berth_core::meta::{self, Scope};

impl Rules for CSIDriver {
    fn validate(&self) -> Vec<FieldError> {
        meta::validate(&self.metadata, Scope::Cluster, names::dns1123_subdomain)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        meta::validate_update(&self.metadata, &old.metadata)
    }
}

impl Rules for CSINode {
    fn validate(&self) -> Vec<FieldError> {
        meta::validate(&self.metadata, Scope::Cluster, names::dns1123_subdomain)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        meta::validate_update(&self.metadata, &old.metadata)
    }
}
