//! core/v1 PersistentVolume.

pub(super) mod source;

use berth_api::field::{FieldError, FieldPath, bounded};
use berth_api::names;
use berth_api::quantity::Quantity;
use k8s_openapi::api::core::v1::{
    PersistentVolume, PersistentVolumeSpec, PersistentVolumeStatus, VolumeNodeAffinity,
};

use super::access_modes;
use crate::Rules;
use crate::values::{default_text, one_of, one_of_if_set, text};
use berth_core::gates::FeatureGates;
use berth_core::meta::{self, Scope};

impl Rules for PersistentVolume {
    fn default(&mut self) {
        let spec = self.spec.get_or_insert_default();
        default_text(&mut spec.persistent_volume_reclaim_policy, "Retain");
        default_text(&mut spec.volume_mode, "Filesystem");
        source::set_defaults(spec);
        default_text(&mut self.status.get_or_insert_default().phase, "Pending");
    }

    fn prepare_create(&mut self, _gates: &FeatureGates) {
        self.status = Some(PersistentVolumeStatus {
            phase: Some("Pending".to_owned()),
            ..PersistentVolumeStatus::default()
        });
    }

    fn prepare_update(&mut self, old: &Self, _gates: &FeatureGates) {
        self.status.clone_from(&old.status);
    }

    fn prepare_status(&mut self, old: &Self) {
        self.spec.clone_from(&old.spec);
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = meta::validate(&self.metadata, Scope::Cluster, names::dns1123_subdomain);
        errors.extend(spec_errors(self));
        bounded(errors)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(spec_errors(self));
        let none = PersistentVolumeSpec::default();
        let (new, old) = (
            self.spec.as_ref().unwrap_or(&none),
            old.spec.as_ref().unwrap_or(&none),
        );
        let at = FieldPath::new("spec");
        if source::only(new) != source::only(old) {
            let at = at.child("persistentvolumesource");
            let why = "spec.persistentvolumesource is immutable after creation";
            errors.push(FieldError::forbidden(&at, why));
        }
        meta::immutable(
            &mut errors,
            &at.child("volumeMode"),
            &new.volume_mode,
            &old.volume_mode,
        );
        if old.node_affinity.is_some() {
            let at = at.child("nodeAffinity");
            meta::immutable(&mut errors, &at, &new.node_affinity, &old.node_affinity);
        }
        bounded(errors)
    }

    fn validate_status(&self, old: &Self) -> Vec<FieldError> {
        meta::validate_update(&self.metadata, &old.metadata)
    }
}

fn spec_errors(volume: &PersistentVolume) -> Vec<FieldError> {
    let none = PersistentVolumeSpec::default();
    let spec = volume.spec.as_ref().unwrap_or(&none);
    let at = FieldPath::new("spec");
    let modes_at = at.child("accessModes");
    let mut errors = access_modes::validate(spec.access_modes.as_deref(), "", &modes_at);
    errors.extend(capacity_errors(spec, &at.child("capacity")));
    let policy_at = at.child("persistentVolumeReclaimPolicy");
    let policy = text(&spec.persistent_volume_reclaim_policy);
    one_of(
        &mut errors,
        &policy_at,
        policy,
        &["Delete", "Recycle", "Retain"],
    );
    if let Some(affinity) = &spec.node_affinity {
        affinity_errors(&mut errors, affinity, &at.child("nodeAffinity"));
    }
    errors.extend(source::validate(spec, &at));
    let host_root = spec
        .host_path
        .as_ref()
        .is_some_and(|host| host.path.trim_end_matches('/').is_empty());
    if host_root && policy == "Recycle" {
        let why = "may not be 'recycle' for a hostPath mount of '/'";
        errors.push(FieldError::forbidden(&policy_at, why));
    }
    let class = text(&spec.storage_class_name);
    if !class.is_empty() {
        let at = at.child("storageClassName");
        meta::extend_invalid(&mut errors, &at, class, names::dns1123_subdomain(class));
    }
    if let Some(class) = spec.volume_attributes_class_name.as_deref() {
        let at = at.child("volumeAttributesClassName");
        if class.is_empty() {
            errors.push(FieldError::required(&at, "an empty string is disallowed"));
        }
        if spec.csi.is_none() {
            let why = "has to be specified when using volumeAttributesClassName";
            errors.push(FieldError::required(
                &FieldPath::new("spec").child("csi"),
                why,
            ));
        }
    }
    let mode = spec.volume_mode.as_deref();
    one_of_if_set(
        &mut errors,
        &at.child("volumeMode"),
        mode,
        &["Block", "Filesystem"],
    );
    errors
}

fn capacity_errors(spec: &PersistentVolumeSpec, at: &FieldPath) -> Vec<FieldError> {
    let Some(capacity) = spec.capacity.as_ref().filter(|c| !c.is_empty()) else {
        return vec![FieldError::required(at, "")];
    };
    if capacity.len() != 1 || !capacity.contains_key("storage") {
        return vec![FieldError::not_supported(at, capacity, &["storage"])];
    }
    let mut errors = Vec::new();
    for (name, amount) in capacity {
        positive_quantity(&mut errors, &amount.0, &at.key(name));
    }
    errors
}

/// An amount of storage: more than nothing.
pub(super) fn positive_quantity(errors: &mut Vec<FieldError>, amount: &str, at: &FieldPath) {
    match amount.parse::<Quantity>() {
        Ok(quantity) if quantity.is_negative() || quantity.is_zero() => {
            errors.push(FieldError::invalid(at, amount, "must be greater than zero"));
        }
        Ok(_) => {}
        Err(error) => errors.push(FieldError::invalid(at, amount, error.to_string())),
    }
}

fn affinity_errors(errors: &mut Vec<FieldError>, affinity: &VolumeNodeAffinity, at: &FieldPath) {
    let at = at.child("required");
    match &affinity.required {
        None => {
            let why = "must specify required node constraints";
            errors.push(FieldError::required(&at, why));
        }
        Some(selector) => {
            errors.extend(crate::pod::validate_node_selector(selector, &at));
        }
    }
}
