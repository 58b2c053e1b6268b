//! storage.k8s.io/v1 VolumeAttachment and CSIStorageCapacity.

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use berth_api::quantity::Quantity;
use k8s_openapi::api::storage::v1::{CSIStorageCapacity, VolumeAttachment, VolumeAttachmentStatus};

use super::persistent_volume::source::{self, driver_name};
use crate::Rules;
use berth_core::gates::FeatureGates;
use berth_core::meta::{self, Scope};

impl Rules for VolumeAttachment {
    fn prepare_create(&mut self, _gates: &FeatureGates) {
        self.status = Some(VolumeAttachmentStatus::default());
    }

    fn prepare_update(&mut self, old: &Self, _gates: &FeatureGates) {
        self.status.clone_from(&old.status);
    }

    fn prepare_status(&mut self, old: &Self) {
        self.spec.clone_from(&old.spec);
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = meta::validate(&self.metadata, Scope::Cluster, names::dns1123_subdomain);
        let at = FieldPath::new("spec");
        driver_name(&mut errors, &self.spec.attacher, &at.child("attacher"));
        let node = &self.spec.node_name;
        let node_at = at.child("nodeName");
        meta::extend_invalid(&mut errors, &node_at, node, names::dns1123_subdomain(node));
        let at = at.child("source");
        match (
            &self.spec.source.inline_volume_spec,
            &self.spec.source.persistent_volume_name,
        ) {
            (None, None) => {
                let why = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
                errors.push(FieldError::required(&at, why));
            }
            (Some(_), Some(_)) => {
                let why = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
                errors.push(FieldError::forbidden(&at, why));
            }
            (None, Some(name)) => {
                let at = at.child("persistentVolumeName");
                meta::extend_invalid(&mut errors, &at, name, names::dns1123_subdomain(name));
            }
            (Some(spec), None) => {
                if source::names(spec) != ["csi"] {
                    let at = at.child("inlineVolumeSpec");
                    let why = "only the source csi is supported";
                    errors.push(FieldError::required(&at.child("csi"), why));
                }
            }
        }
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        meta::immutable(&mut errors, &FieldPath::new("spec"), &self.spec, &old.spec);
        errors
    }
}

impl Rules for CSIStorageCapacity {
    fn validate(&self) -> Vec<FieldError> {
        let mut errors =
            meta::validate(&self.metadata, Scope::Namespaced, names::dns1123_subdomain);
        errors.extend(capacity_errors(self));
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(capacity_errors(self));
        let at = FieldPath::new("nodeTopology");
        meta::immutable(&mut errors, &at, &self.node_topology, &old.node_topology);
        let at = FieldPath::new("storageClassName");
        meta::immutable(
            &mut errors,
            &at,
            &self.storage_class_name,
            &old.storage_class_name,
        );
        errors
    }
}

fn capacity_errors(capacity: &CSIStorageCapacity) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let class = capacity.storage_class_name.as_str();
    let at = FieldPath::new("storageClassName");
    if class.is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else {
        meta::extend_invalid(&mut errors, &at, class, names::dns1123_subdomain(class));
    }
    for (name, amount) in [
        ("capacity", &capacity.capacity),
        ("maximumVolumeSize", &capacity.maximum_volume_size),
    ] {
        let Some(amount) = amount else {
            continue;
        };
        let at = FieldPath::new(name);
        match amount.0.parse::<Quantity>() {
            Ok(quantity) if quantity.is_negative() => {
                let why = "must be greater than or equal to 0";
                errors.push(FieldError::invalid(&at, &amount.0, why));
            }
            Ok(_) => {}
            Err(error) => errors.push(FieldError::invalid(&at, &amount.0, error.to_string())),
        }
    }
    if let Some(topology) = &capacity.node_topology {
        errors.extend(meta::validate_label_selector(
            topology,
            &FieldPath::new("nodeTopology"),
        ));
    }
    errors
}
