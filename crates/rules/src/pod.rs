//! core/v1 Pod: defaults, preparation, validation.

pub mod binding;
mod default;
mod ephemeral;
mod label_keys;
mod prepare;
mod resize;
mod status;
pub mod template;
mod update;
mod validate;
pub mod volume_kind;

use berth_api::field::{FieldError, FieldPath, bounded};
use k8s_openapi::api::core::v1::{NodeSelector, Pod};

use crate::{Rules, UnknownSubresource};
use berth_core::gates::FeatureGates;

pub use default::image_pull_policy;
pub use ephemeral::validate_ephemeral_containers;
pub use resize::{apply_resize, validate_resize};

impl Rules for Pod {
    fn default(&mut self) {
        default::pod(self);
    }

    fn prepare_create(&mut self, gates: &FeatureGates) {
        prepare::create(self, gates);
    }

    fn prepare_update(&mut self, old: &Self, gates: &FeatureGates) {
        prepare::update(self, old, gates);
    }

    fn prepare_status(&mut self, old: &Self) {
        prepare::status(self, old);
    }

    fn validate(&self) -> Vec<FieldError> {
        bounded(validate::create(self))
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        bounded(update::validate(self, old))
    }

    fn validate_status(&self, old: &Self) -> Vec<FieldError> {
        bounded(status::validate(self, old))
    }

    fn prepare_subresource(
        &mut self,
        subresource: &str,
        old: &Self,
    ) -> Result<(), UnknownSubresource> {
        match subresource {
            EPHEMERAL_CONTAINERS => prepare::ephemeral_containers(self, old),
            RESIZE => prepare::resize(self, old),
            other => return Err(UnknownSubresource(other.to_owned())),
        }
        Ok(())
    }

    fn validate_subresource(
        &self,
        subresource: &str,
        old: &Self,
    ) -> Result<Vec<FieldError>, UnknownSubresource> {
        match subresource {
            EPHEMERAL_CONTAINERS => Ok(validate_ephemeral_containers(self, old)),
            RESIZE => Ok(validate_resize(self, old)),
            other => Err(UnknownSubresource(other.to_owned())),
        }
    }
}

/// What is wrong with a selector of nodes, as volumes and pods hold it.
#[must_use]
pub fn validate_node_selector(selector: &NodeSelector, at: &FieldPath) -> Vec<FieldError> {
    validate::node_selector(selector, at)
}

/// The subresource that adds ephemeral containers.
pub const EPHEMERAL_CONTAINERS: &str = "ephemeralcontainers";
/// The subresource that changes the resources of running containers.
pub const RESIZE: &str = "resize";
