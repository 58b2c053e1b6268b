//! core/v1 Pod: defaults, preparation, QoS class, validation.

pub mod binding;
mod default;
mod ephemeral;
mod prepare;
pub mod qos;
mod resize;
mod status;
mod update;
mod validate;
pub mod volume_kind;

use berth_api::field::{FieldError, bounded};
use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod};

use crate::gates::FeatureGates;
use crate::rules::Rules;

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
}

/// Whether a container of the init list keeps running beside the others (a sidecar).
#[must_use]
pub fn is_sidecar(init: &Container) -> bool {
    init.restart_policy.as_deref() == Some("Always")
}

/// An ephemeral container as a container: the fields that both have.
#[must_use]
pub fn as_container(ephemeral: EphemeralContainer) -> Container {
    let EphemeralContainer {
        args,
        command,
        env,
        env_from,
        image,
        image_pull_policy,
        lifecycle,
        liveness_probe,
        name,
        ports,
        readiness_probe,
        resize_policy,
        resources,
        restart_policy,
        restart_policy_rules,
        security_context,
        startup_probe,
        stdin,
        stdin_once,
        target_container_name: _,
        termination_message_path,
        termination_message_policy,
        tty,
        volume_devices,
        volume_mounts,
        working_dir,
    } = ephemeral;
    Container {
        args,
        command,
        env,
        env_from,
        image,
        image_pull_policy,
        lifecycle,
        liveness_probe,
        name,
        ports,
        readiness_probe,
        resize_policy,
        resources,
        restart_policy,
        restart_policy_rules,
        security_context,
        startup_probe,
        stdin,
        stdin_once,
        termination_message_path,
        termination_message_policy,
        tty,
        volume_devices,
        volume_mounts,
        working_dir,
    }
}
