//! storage.k8s.io/v1 StorageClass and VolumeAttributesClass.

use std::collections::{BTreeMap, HashSet};

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use k8s_openapi::api::storage::v1::{StorageClass, VolumeAttributesClass};

use super::persistent_volume::source::driver_name;
use crate::Rules;
use crate::values::{default_text, one_of, required, text};
use berth_core::meta::{self, Scope};

const MAX_PARAMETERS: usize = 512;
const MAX_PARAMETERS_SIZE: usize = 256 * 1024;

impl Rules for StorageClass {
    fn default(&mut self) {
        default_text(&mut self.reclaim_policy, "Delete");
        default_text(&mut self.volume_binding_mode, "Immediate");
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = meta::validate(&self.metadata, Scope::Cluster, names::dns1123_subdomain);
        errors.extend(class_errors(self));
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        let none = BTreeMap::new();
        let (new, before) = (self.parameters.as_ref(), old.parameters.as_ref());
        for (name, changed) in [
            (
                "parameters",
                new.unwrap_or(&none) != before.unwrap_or(&none),
            ),
            ("provisioner", self.provisioner != old.provisioner),
            ("reclaimPolicy", self.reclaim_policy != old.reclaim_policy),
        ] {
            if changed {
                let why = format!("updates to {name} are forbidden.");
                errors.push(FieldError::forbidden(&FieldPath::new(name), why));
            }
        }
        let at = FieldPath::new("volumeBindingMode");
        meta::immutable(
            &mut errors,
            &at,
            &self.volume_binding_mode,
            &old.volume_binding_mode,
        );
        errors.extend(class_errors(self));
        errors
    }
}

fn class_errors(class: &StorageClass) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let at = FieldPath::new("provisioner");
    required(&mut errors, &at, &class.provisioner);
    if !class.provisioner.is_empty() {
        let wrong = names::qualified_name(&class.provisioner.to_lowercase());
        meta::extend_invalid(&mut errors, &at, &class.provisioner, wrong);
    }
    if let Some(parameters) = &class.parameters {
        errors.extend(parameter_errors(parameters, true));
    }
    let policy = text(&class.reclaim_policy);
    one_of(
        &mut errors,
        &FieldPath::new("reclaimPolicy"),
        policy,
        &["Delete", "Retain"],
    );
    let mode = text(&class.volume_binding_mode);
    let modes = ["Immediate", "WaitForFirstConsumer"];
    one_of(
        &mut errors,
        &FieldPath::new("volumeBindingMode"),
        mode,
        &modes,
    );
    let terms = class.allowed_topologies.iter().flatten().enumerate();
    for (i, term) in terms {
        let at = FieldPath::new("allowedTopologies")
            .index(i)
            .child("matchLabelExpressions");
        let mut keys = HashSet::new();
        for (j, expression) in term.match_label_expressions.iter().flatten().enumerate() {
            let at = at.index(j);
            let key = &expression.key;
            meta::extend_invalid(
                &mut errors,
                &at.child("key"),
                key,
                names::qualified_name(key),
            );
            if !keys.insert(key) {
                errors.push(FieldError::duplicate(&at.child("key"), key));
            }
            if expression.values.is_empty() {
                errors.push(FieldError::required(&at.child("values"), ""));
            }
        }
    }
    errors
}

fn parameter_errors(parameters: &BTreeMap<String, String>, may_be_empty: bool) -> Vec<FieldError> {
    let at = FieldPath::new("parameters");
    let mut errors = Vec::new();
    if parameters.is_empty() && !may_be_empty {
        errors.push(FieldError::required(
            &at,
            "must contain at least one key/value pair",
        ));
    }
    if parameters.len() > MAX_PARAMETERS {
        errors.push(FieldError::too_many(&at, parameters.len(), MAX_PARAMETERS));
    }
    if parameters.contains_key("") {
        errors.push(FieldError::invalid(&at, "", "field can not be empty."));
    }
    let size: usize = parameters
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    if size > MAX_PARAMETERS_SIZE {
        errors.push(FieldError::too_long(&at, MAX_PARAMETERS_SIZE));
    }
    errors
}

impl Rules for VolumeAttributesClass {
    fn validate(&self) -> Vec<FieldError> {
        let mut errors = meta::validate(&self.metadata, Scope::Cluster, names::dns1123_subdomain);
        driver_name(
            &mut errors,
            &self.driver_name,
            &FieldPath::new("driverName"),
        );
        let none = BTreeMap::new();
        errors.extend(parameter_errors(
            self.parameters.as_ref().unwrap_or(&none),
            false,
        ));
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        let at = FieldPath::new("driverName");
        meta::immutable(&mut errors, &at, &self.driver_name, &old.driver_name);
        let at = FieldPath::new("parameters");
        meta::immutable(&mut errors, &at, &self.parameters, &old.parameters);
        errors
    }
}
