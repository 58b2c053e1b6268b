//! resource.k8s.io/v1 DeviceClass, ResourceClaim, ResourceClaimTemplate and ResourceSlice, as objects: nothing is
//! allocated, expressions in CEL and the attributes of devices are not judged.

use std::collections::HashSet;

use berth_api::field::{FieldError, FieldPath, bounded};
use berth_api::names;
use k8s_openapi::api::resource::v1::{
    DeviceClass, DeviceRequest, ResourceClaim, ResourceClaimSpec, ResourceClaimStatus,
    ResourceClaimTemplate, ResourceSlice,
};

use crate::Rules;
use crate::values::{default_text, one_of_if_set, required, text};
use berth_core::gates::FeatureGates;
use berth_core::meta::{self, Scope};

const MAX_REQUESTS: usize = 32;
const MAX_DEVICES: usize = 128;
const MAX_RESERVED: usize = 256;
const MODES: [&str; 2] = ["All", "ExactCount"];

impl Rules for DeviceClass {
    fn validate(&self) -> Vec<FieldError> {
        let mut errors = meta::validate(&self.metadata, Scope::Cluster, names::dns1123_subdomain);
        errors.extend(class_errors(self));
        bounded(errors)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(class_errors(self));
        bounded(errors)
    }
}

fn class_errors(class: &DeviceClass) -> Vec<FieldError> {
    let at = FieldPath::new("spec");
    let mut errors = Vec::new();
    for (i, selector) in class.spec.selectors.iter().flatten().enumerate() {
        let at = at.child("selectors").index(i).child("cel");
        match &selector.cel {
            None => errors.push(FieldError::required(&at, "")),
            Some(cel) => required(&mut errors, &at.child("expression"), cel.expression.trim()),
        }
    }
    for (i, config) in class.spec.config.iter().flatten().enumerate() {
        let at = at.child("config").index(i).child("opaque");
        match &config.opaque {
            None => errors.push(FieldError::required(&at, "")),
            Some(opaque) => driver(&mut errors, &opaque.driver, &at.child("driver")),
        }
    }
    errors
}

fn driver(errors: &mut Vec<FieldError>, name: &str, at: &FieldPath) {
    if name.is_empty() {
        errors.push(FieldError::required(at, ""));
        return;
    }
    if name.len() > 63 {
        errors.push(FieldError::too_long(at, 63));
    }
    meta::extend_invalid(errors, at, name, names::dns1123_subdomain(name));
}

fn set_defaults(spec: &mut ResourceClaimSpec) {
    let Some(devices) = &mut spec.devices else {
        return;
    };
    for request in devices.requests.iter_mut().flatten() {
        if let Some(exactly) = &mut request.exactly {
            default_text(&mut exactly.allocation_mode, "ExactCount");
            if exactly.allocation_mode.as_deref() == Some("ExactCount") {
                exactly.count.get_or_insert(1);
            }
        }
        for choice in request.first_available.iter_mut().flatten() {
            default_text(&mut choice.allocation_mode, "ExactCount");
            if choice.allocation_mode.as_deref() == Some("ExactCount") {
                choice.count.get_or_insert(1);
            }
        }
    }
}

/// Whether a claim wants devices that others use, which only privileged namespaces may have.
#[must_use]
pub fn wants_admin_access(spec: &ResourceClaimSpec) -> bool {
    let requests = spec
        .devices
        .iter()
        .flat_map(|d| d.requests.iter().flatten());
    let mut exact = requests.filter_map(|request| request.exactly.as_ref());
    exact.any(|exactly| exactly.admin_access == Some(true))
}

impl Rules for ResourceClaim {
    fn default(&mut self) {
        set_defaults(&mut self.spec);
    }

    fn prepare_create(&mut self, _gates: &FeatureGates) {
        self.status = Some(ResourceClaimStatus::default());
    }

    fn prepare_update(&mut self, old: &Self, _gates: &FeatureGates) {
        self.status.clone_from(&old.status);
    }

    fn prepare_status(&mut self, old: &Self) {
        self.spec.clone_from(&old.spec);
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors =
            meta::validate(&self.metadata, Scope::Namespaced, names::dns1123_subdomain);
        errors.extend(claim_errors(&self.spec, &FieldPath::new("spec")));
        bounded(errors)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        meta::immutable(&mut errors, &FieldPath::new("spec"), &self.spec, &old.spec);
        bounded(errors)
    }

    fn validate_status(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        let at = FieldPath::new("status");
        let none = ResourceClaimStatus::default();
        let status = self.status.as_ref().unwrap_or(&none);
        let before = old.status.as_ref().unwrap_or(&none);
        let reserved = status.reserved_for.as_deref().unwrap_or_default();
        let reserved_at = at.child("reservedFor");
        if reserved.len() > MAX_RESERVED {
            errors.push(FieldError::too_many(
                &reserved_at,
                reserved.len(),
                MAX_RESERVED,
            ));
        }
        let mut uids = HashSet::new();
        for (i, consumer) in reserved.iter().enumerate() {
            let at = reserved_at.index(i);
            for (name, value) in [
                ("resource", &consumer.resource),
                ("name", &consumer.name),
                ("uid", &consumer.uid),
            ] {
                required(&mut errors, &at.child(name), value);
            }
            if !uids.insert(consumer.uid.as_str()) {
                errors.push(FieldError::duplicate(&at.child("uid"), &consumer.uid));
            }
        }
        if !reserved.is_empty() && status.allocation.is_none() {
            let why = "may not be specified when `allocated` is not set";
            errors.push(FieldError::forbidden(&reserved_at, why));
        }
        if status.allocation.is_some() && before.allocation.is_some() {
            let at = at.child("allocation");
            meta::immutable(&mut errors, &at, &status.allocation, &before.allocation);
        }
        bounded(errors)
    }
}

fn claim_errors(spec: &ResourceClaimSpec, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let requests = spec
        .devices
        .as_ref()
        .and_then(|d| d.requests.as_deref())
        .unwrap_or_default();
    let at = at.child("devices.requests");
    if requests.len() > MAX_REQUESTS {
        errors.push(FieldError::too_many(&at, requests.len(), MAX_REQUESTS));
        return errors;
    }
    let mut before = HashSet::new();
    for (i, request) in requests.iter().enumerate() {
        let at = at.index(i);
        if !before.insert(request.name.as_str()) {
            errors.push(FieldError::duplicate(&at.child("name"), &request.name));
        }
        request_errors(&mut errors, request, &at);
    }
    errors
}

fn request_errors(errors: &mut Vec<FieldError>, request: &DeviceRequest, at: &FieldPath) {
    let (name, name_at) = (&request.name, at.child("name"));
    if name.is_empty() {
        errors.push(FieldError::required(&name_at, ""));
    } else {
        meta::extend_invalid(errors, &name_at, name, names::dns1123_label(name));
    }
    let choices = request.first_available.as_deref().unwrap_or_default();
    match (&request.exactly, choices.is_empty()) {
        (None, true) => {
            let why = "exactly one of `exactly` or `firstAvailable` is required";
            errors.push(FieldError::required(at, why));
        }
        (Some(_), false) => {
            let why = "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set";
            errors.push(FieldError::invalid(at, "", why));
        }
        (Some(exactly), true) => {
            let mode = exactly.allocation_mode.as_deref();
            count_errors(
                errors,
                &exactly.device_class_name,
                mode,
                exactly.count,
                &at.child("exactly"),
            );
        }
        (None, false) => {
            for (i, choice) in choices.iter().enumerate() {
                let at = at.child("firstAvailable").index(i);
                let mode = choice.allocation_mode.as_deref();
                count_errors(errors, &choice.device_class_name, mode, choice.count, &at);
            }
        }
    }
}

fn count_errors(
    errors: &mut Vec<FieldError>,
    class: &str,
    mode: Option<&str>,
    count: Option<i64>,
    at: &FieldPath,
) {
    let class_at = at.child("deviceClassName");
    if class.is_empty() {
        errors.push(FieldError::required(&class_at, ""));
    } else {
        meta::extend_invalid(errors, &class_at, class, names::dns1123_subdomain(class));
    }
    one_of_if_set(errors, &at.child("allocationMode"), mode, &MODES);
    let at = at.child("count");
    match (mode, count) {
        (Some("All"), Some(count)) if count != 0 => {
            let why = "must not be specified when allocationMode is 'All'";
            errors.push(FieldError::invalid(&at, count, why));
        }
        (Some("ExactCount"), Some(count)) if count <= 0 => {
            errors.push(FieldError::invalid(&at, count, "must be greater than zero"));
        }
        (_, _) => {}
    }
}

impl Rules for ResourceClaimTemplate {
    fn default(&mut self) {
        set_defaults(&mut self.spec.spec);
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors =
            meta::validate(&self.metadata, Scope::Namespaced, names::dns1123_subdomain);
        errors.extend(claim_errors(&self.spec.spec, &FieldPath::new("spec.spec")));
        bounded(errors)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        meta::immutable(&mut errors, &FieldPath::new("spec"), &self.spec, &old.spec);
        bounded(errors)
    }
}

impl Rules for ResourceSlice {
    fn validate(&self) -> Vec<FieldError> {
        let mut errors = meta::validate(&self.metadata, Scope::Cluster, names::dns1123_subdomain);
        errors.extend(slice_errors(self));
        bounded(errors)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(slice_errors(self));
        let at = FieldPath::new("spec");
        let (new, old) = (&self.spec, &old.spec);
        meta::immutable(&mut errors, &at.child("driver"), &new.driver, &old.driver);
        meta::immutable(
            &mut errors,
            &at.child("pool.name"),
            &new.pool.name,
            &old.pool.name,
        );
        meta::immutable(
            &mut errors,
            &at.child("nodeName"),
            &new.node_name,
            &old.node_name,
        );
        bounded(errors)
    }
}

fn slice_errors(slice: &ResourceSlice) -> Vec<FieldError> {
    let at = FieldPath::new("spec");
    let mut errors = Vec::new();
    let spec = &slice.spec;
    driver(&mut errors, &spec.driver, &at.child("driver"));
    let (pool, pool_at) = (&spec.pool.name, at.child("pool.name"));
    if pool.is_empty() {
        errors.push(FieldError::required(&pool_at, ""));
    }
    for part in pool.split('/').filter(|_| !pool.is_empty()) {
        meta::extend_invalid(&mut errors, &pool_at, pool, names::dns1123_subdomain(part));
    }
    let count = spec.pool.resource_slice_count;
    if count <= 0 {
        let at = at.child("pool.resourceSliceCount");
        errors.push(FieldError::invalid(&at, count, "must be greater than zero"));
    }
    let places = [
        !text(&spec.node_name).is_empty(),
        spec.node_selector.is_some(),
        spec.all_nodes == Some(true),
        spec.per_device_node_selection == Some(true),
    ];
    let shares = spec
        .shared_counters
        .as_ref()
        .is_some_and(|counters| !counters.is_empty());
    match places.into_iter().filter(|is_set| *is_set).count() {
        0 if !shares => {
            let why = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
            errors.push(FieldError::required(&at, why));
        }
        0 | 1 => {}
        _ => {
            let why = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but \
                       multiple fields are set";
            errors.push(FieldError::invalid(&at, "", why));
        }
    }
    if let Some(selector) = &spec.node_selector {
        errors.extend(crate::pod::validate_node_selector(
            selector,
            &at.child("nodeSelector"),
        ));
    }
    let devices = spec.devices.as_deref().unwrap_or_default();
    let at = at.child("devices");
    if devices.len() > MAX_DEVICES {
        errors.push(FieldError::too_many(&at, devices.len(), MAX_DEVICES));
        return errors;
    }
    let mut before = HashSet::new();
    for (i, device) in devices.iter().enumerate() {
        let at = at.index(i).child("name");
        meta::extend_invalid(
            &mut errors,
            &at,
            &device.name,
            names::dns1123_label(&device.name),
        );
        if !before.insert(device.name.as_str()) {
            errors.push(FieldError::duplicate(&at, &device.name));
        }
    }
    errors
}
