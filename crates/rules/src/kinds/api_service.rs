//! apiregistration.k8s.io/v1 APIService.

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;

use crate::Rules;
use crate::rules::spec_and_status;
use crate::values::{one_of_if_set, required, text};
use berth_core::meta::{self, Scope};

const MAX_GROUP_PRIORITY: i32 = 20_000;
const MAX_VERSION_PRIORITY: i32 = 1000;

impl Rules for APIService {
    fn default(&mut self) {
        let service = self.spec.as_mut().and_then(|spec| spec.service.as_mut());
        if let Some(service) = service {
            service.port.get_or_insert(443);
        }
    }

    spec_and_status!();

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = meta::validate(&self.metadata, Scope::Cluster, names::path_segment);
        errors.extend(spec_errors(self));
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(spec_errors(self));
        errors
    }

    fn validate_status(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        let conditions = self
            .status
            .iter()
            .flat_map(|s| s.conditions.iter().flatten());
        for (i, condition) in conditions.enumerate() {
            let at = FieldPath::new("status").child("conditions").index(i);
            let known = ["False", "True", "Unknown"];
            one_of_if_set(
                &mut errors,
                &at.child("status"),
                Some(&condition.status),
                &known,
            );
        }
        errors
    }
}

fn spec_errors(service: &APIService) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = service.spec.clone().unwrap_or_default();
    let at = FieldPath::new("spec");
    let (group, version) = (text(&spec.group), text(&spec.version));
    let wanted = format!("{version}.{group}");
    let name = text(&service.metadata.name);
    if name != wanted {
        let why = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
        let at = FieldPath::new("metadata").child("name");
        errors.push(FieldError::invalid(&at, name, why));
    }
    if group.is_empty() {
        if version != "v1" {
            let why = "only v1 may have an empty group and it better be legacy kube";
            errors.push(FieldError::required(&at.child("group"), why));
        }
    } else {
        let wrong = names::dns1123_subdomain(group);
        meta::extend_invalid(&mut errors, &at.child("group"), group, wrong);
    }
    let wrong = names::dns1035_label(version);
    meta::extend_invalid(&mut errors, &at.child("version"), version, wrong);
    for (field, value, most) in [
        (
            "groupPriorityMinimum",
            spec.group_priority_minimum,
            MAX_GROUP_PRIORITY,
        ),
        (
            "versionPriority",
            spec.version_priority,
            MAX_VERSION_PRIORITY,
        ),
    ] {
        if !(1..=most).contains(&value) {
            let why = format!("must be positive and less than {most}");
            errors.push(FieldError::invalid(&at.child(field), value, why));
        }
    }
    let bundle = spec.ca_bundle.as_ref().map_or(0, |bundle| bundle.0.len());
    let insecure = spec.insecure_skip_tls_verify == Some(true);
    let Some(reference) = &spec.service else {
        if bundle > 0 {
            let why = "local APIServices may not have a caBundle";
            let shown = format!("{bundle} bytes");
            errors.push(FieldError::invalid(&at.child("caBundle"), shown, why));
        }
        if insecure {
            let why = "local APIServices may not have insecureSkipTLSVerify";
            let at = at.child("insecureSkipTLSVerify");
            errors.push(FieldError::invalid(&at, true, why));
        }
        return errors;
    };
    let service_at = at.child("service");
    required(
        &mut errors,
        &service_at.child("namespace"),
        text(&reference.namespace),
    );
    required(
        &mut errors,
        &service_at.child("name"),
        text(&reference.name),
    );
    let port = reference.port.unwrap_or(0);
    for why in names::port_number(i64::from(port)) {
        let why = format!("port is not valid: {why}");
        errors.push(FieldError::invalid(&service_at.child("port"), port, why));
    }
    if insecure && bundle > 0 {
        let why = "may not be true if caBundle is present";
        let at = at.child("insecureSkipTLSVerify");
        errors.push(FieldError::invalid(&at, true, why));
    }
    errors
}
