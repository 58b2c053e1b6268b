//! core/v1 PersistentVolumeClaim.

mod update;

use berth_api::field::{FieldError, FieldPath, bounded};
use berth_api::names;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimStatus,
    TypedLocalObjectReference, TypedObjectReference,
};

use super::access_modes;
use super::persistent_volume::positive_quantity;
use crate::Rules;
use crate::values::{default_text, one_of_if_set, required, text};
use berth_core::gates::FeatureGates;
use berth_core::meta::{self, Scope};
use berth_core::resource_list;

impl Rules for PersistentVolumeClaim {
    fn default(&mut self) {
        let spec = self.spec.get_or_insert_default();
        default_text(&mut spec.volume_mode, "Filesystem");
        spec.resources.get_or_insert_default();
        default_text(&mut self.status.get_or_insert_default().phase, "Pending");
    }

    fn prepare_create(&mut self, _gates: &FeatureGates) {
        self.status = Some(PersistentVolumeClaimStatus {
            phase: Some("Pending".to_owned()),
            ..PersistentVolumeClaimStatus::default()
        });
        if let Some(spec) = &mut self.spec {
            copy_data_source(spec);
        }
    }

    fn prepare_update(&mut self, old: &Self, _gates: &FeatureGates) {
        self.status.clone_from(&old.status);
        if let Some(spec) = &mut self.spec {
            copy_data_source(spec);
        }
    }

    fn prepare_status(&mut self, old: &Self) {
        self.spec.clone_from(&old.spec);
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors =
            meta::validate(&self.metadata, Scope::Namespaced, names::dns1123_subdomain);
        let none = PersistentVolumeClaimSpec::default();
        let spec = self.spec.as_ref().unwrap_or(&none);
        errors.extend(validate_spec(spec, &FieldPath::new("spec")));
        bounded(errors)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        let none = PersistentVolumeClaimSpec::default();
        let spec = self.spec.as_ref().unwrap_or(&none);
        errors.extend(validate_spec(spec, &FieldPath::new("spec")));
        errors.extend(update::validate(spec, old));
        bounded(errors)
    }

    fn validate_status(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        let at = FieldPath::new("status");
        let status = self.status.as_ref();
        for (name, list) in [
            ("capacity", status.and_then(|s| s.capacity.as_ref())),
            (
                "allocatedResources",
                status.and_then(|s| s.allocated_resources.as_ref()),
            ),
        ] {
            let at = at.child(name);
            if let Some(list) = list {
                for (resource, amount) in resource_list::parse(list, &at, &mut errors) {
                    errors.extend(resource_list::validate_amount(
                        &resource,
                        &amount,
                        &at.key(&resource),
                    ));
                }
            }
        }
        let phase = status.and_then(|s| s.phase.as_deref());
        one_of_if_set(
            &mut errors,
            &at.child("phase"),
            phase,
            &["Bound", "Lost", "Pending"],
        );
        bounded(errors)
    }
}

/// The older field and the newer one say the same, whichever of them a client knows.
fn copy_data_source(spec: &mut PersistentVolumeClaimSpec) {
    match (&spec.data_source, &spec.data_source_ref) {
        (Some(old), None) => {
            spec.data_source_ref = Some(TypedObjectReference {
                api_group: old.api_group.clone(),
                kind: old.kind.clone(),
                name: old.name.clone(),
                namespace: None,
            });
        }
        (None, Some(new)) if text(&new.namespace).is_empty() => {
            spec.data_source = Some(TypedLocalObjectReference {
                api_group: new.api_group.clone(),
                kind: new.kind.clone(),
                name: new.name.clone(),
            });
        }
        (_, _) => {}
    }
}

fn validate_spec(spec: &PersistentVolumeClaimSpec, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = access_modes::validate(
        spec.access_modes.as_deref(),
        "at least 1 access mode is required",
        &at.child("accessModes"),
    );
    if let Some(selector) = &spec.selector {
        errors.extend(meta::validate_label_selector(
            selector,
            &at.child("selector"),
        ));
    }
    let requests = spec.resources.as_ref().and_then(|r| r.requests.as_ref());
    let storage_at = at.child("resources").key("storage");
    match requests.and_then(|requests| requests.get("storage")) {
        None => errors.push(FieldError::required(&storage_at, "")),
        Some(amount) => positive_quantity(&mut errors, &amount.0, &storage_at),
    }
    let class = text(&spec.storage_class_name);
    if !class.is_empty() {
        let at = at.child("storageClassName");
        meta::extend_invalid(&mut errors, &at, class, names::dns1123_subdomain(class));
    }
    let mode = spec.volume_mode.as_deref();
    one_of_if_set(
        &mut errors,
        &at.child("volumeMode"),
        mode,
        &["Block", "Filesystem"],
    );
    let local = spec.data_source.as_ref();
    if let Some(source) = local {
        let group = source.api_group.as_deref();
        data_source(
            &mut errors,
            group,
            &source.kind,
            &source.name,
            &at.child("dataSource"),
        );
    }
    if let Some(source) = &spec.data_source_ref {
        let at_ref = at.child("dataSourceRef");
        let group = source.api_group.as_deref();
        data_source(&mut errors, group, &source.kind, &source.name, &at_ref);
        let namespace = text(&source.namespace);
        if !namespace.is_empty() {
            meta::extend_invalid(
                &mut errors,
                &at_ref.child("namespace"),
                namespace,
                names::dns1123_label(namespace),
            );
            if local.is_some() {
                let why = "may not be specified when dataSourceRef.namespace is specified";
                errors.push(FieldError::invalid(&at.child("dataSource"), local, why));
            }
        } else if local.is_some_and(|l| {
            l.kind != source.kind
                || l.name != source.name
                || text(&l.api_group) != text(&source.api_group)
        }) {
            let why = "must match dataSourceRef";
            errors.push(FieldError::invalid(&at.child("dataSource"), local, why));
        }
    }
    if let Some(class) = spec.volume_attributes_class_name.as_deref() {
        let at = at.child("volumeAttributesClassName");
        if !class.is_empty() {
            meta::extend_invalid(&mut errors, &at, class, names::dns1123_subdomain(class));
        }
    }
    errors
}

fn data_source(
    errors: &mut Vec<FieldError>,
    group: Option<&str>,
    kind: &str,
    name: &str,
    at: &FieldPath,
) {
    required(errors, &at.child("name"), name);
    required(errors, &at.child("kind"), kind);
    let group = group.unwrap_or_default();
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.push(FieldError::invalid(at, kind, why));
    }
    if !group.is_empty() {
        let at = at.child("apiGroup");
        meta::extend_invalid(errors, &at, group, names::dns1123_subdomain(group));
    }
}
