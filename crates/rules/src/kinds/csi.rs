//! storage.k8s.io/v1 CSIDriver and CSINode.

use std::collections::{HashMap, HashSet};

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSINodeDriver};

use super::persistent_volume::source::driver_name;
use crate::Rules;
use crate::values::{default_text, is_full, non_negative, one_of_if_set, text};
use berth_core::meta::{self, Scope};

const MAX_NODE_ID: usize = 192;

impl Rules for CSIDriver {
    fn default(&mut self) {
        let spec = &mut self.spec;
        spec.attach_required.get_or_insert(true);
        spec.pod_info_on_mount.get_or_insert(false);
        spec.storage_capacity.get_or_insert(false);
        spec.requires_republish.get_or_insert(false);
        spec.se_linux_mount.get_or_insert(false);
        default_text(&mut spec.fs_group_policy, "ReadWriteOnceWithFSType");
        if spec
            .volume_lifecycle_modes
            .as_ref()
            .is_none_or(Vec::is_empty)
        {
            spec.volume_lifecycle_modes = Some(vec!["Persistent".to_owned()]);
        }
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = meta::validate(&self.metadata, Scope::Cluster, names::dns1123_subdomain);
        driver_name(
            &mut errors,
            text(&self.metadata.name),
            &FieldPath::new("metadata.name"),
        );
        errors.extend(spec_errors(self));
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(spec_errors(self));
        let at = FieldPath::new("spec");
        let (new, old) = (&self.spec, &old.spec);
        meta::immutable(
            &mut errors,
            &at.child("attachRequired"),
            &new.attach_required,
            &old.attach_required,
        );
        meta::immutable(
            &mut errors,
            &at.child("volumeLifecycleModes"),
            &new.volume_lifecycle_modes,
            &old.volume_lifecycle_modes,
        );
        errors
    }
}

fn spec_errors(driver: &CSIDriver) -> Vec<FieldError> {
    let at = FieldPath::new("spec");
    let mut errors = Vec::new();
    let spec = &driver.spec;
    let policy = spec.fs_group_policy.as_deref();
    let policies = ["File", "None", "ReadWriteOnceWithFSType"];
    one_of_if_set(&mut errors, &at.child("fsGroupPolicy"), policy, &policies);
    for mode in spec.volume_lifecycle_modes.iter().flatten() {
        let at = at.child("volumeLifecycleModes");
        one_of_if_set(&mut errors, &at, Some(mode), &["Ephemeral", "Persistent"]);
    }
    let mut audiences = HashSet::new();
    for (i, request) in spec.token_requests.iter().flatten().enumerate() {
        let at = at.child("tokenRequests").index(i);
        if !audiences.insert(request.audience.as_str()) {
            errors.push(FieldError::duplicate(
                &at.child("audience"),
                &request.audience,
            ));
        }
        if let Some(seconds) = request.expiration_seconds.filter(|s| *s < 600) {
            let why = "may not specify a duration less than 10 minutes";
            errors.push(FieldError::invalid(
                &at.child("expirationSeconds"),
                seconds,
                why,
            ));
        }
    }
    errors
}

impl Rules for CSINode {
    fn validate(&self) -> Vec<FieldError> {
        let mut errors = meta::validate(&self.metadata, Scope::Cluster, names::dns1123_subdomain);
        errors.extend(drivers(self));
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(drivers(self));
        let before: HashMap<&str, &CSINodeDriver> = old
            .spec
            .drivers
            .iter()
            .map(|d| (d.name.as_str(), d))
            .collect();
        // A driver may come and go, and not become another one under its name.
        for (i, driver) in self.spec.drivers.iter().enumerate() {
            let before = before.get(driver.name.as_str());
            let allowed = before.is_none_or(|before| {
                before.node_id == driver.node_id && before.topology_keys == driver.topology_keys
            });
            if !allowed {
                let at = FieldPath::new("spec.drivers").index(i);
                errors.push(FieldError::invalid(&at, driver, "field is immutable"));
            }
        }
        errors
    }
}

fn drivers(node: &CSINode) -> Vec<FieldError> {
    let at = FieldPath::new("spec.drivers");
    let mut errors = Vec::new();
    let mut seen = HashSet::new();
    for (i, driver) in node.spec.drivers.iter().enumerate() {
        let at = at.index(i);
        if !seen.insert(driver.name.as_str()) {
            errors.push(FieldError::duplicate(&at.child("name"), &driver.name));
        }
        validate_driver(&mut errors, driver, &at);
    }
    errors
}

fn validate_driver(errors: &mut Vec<FieldError>, driver: &CSINodeDriver, at: &FieldPath) {
    if is_full(errors) {
        return;
    }
    driver_name(errors, &driver.name, &at.child("name"));
    let id_at = at.child("nodeID");
    match driver.node_id.len() {
        0 => errors.push(FieldError::required(&id_at, "")),
        length if length > MAX_NODE_ID => errors.push(FieldError::too_long(&id_at, MAX_NODE_ID)),
        _ => {}
    }
    let allocatable = driver.allocatable.as_ref().and_then(|a| a.count);
    non_negative(errors, &at.child("allocatable.count"), allocatable);
    let mut keys = HashSet::new();
    for key in driver.topology_keys.iter().flatten() {
        let at = at.child("topologyKeys");
        if !keys.insert(key) {
            errors.push(FieldError::duplicate(&at, key));
        }
        meta::extend_invalid(errors, &at, key, names::qualified_name(key));
    }
}
