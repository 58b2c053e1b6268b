//! networking.k8s.io/v1 IngressClass.

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use k8s_openapi::api::networking::v1::{IngressClass, IngressClassParametersReference};

use crate::Rules;
use crate::values::{required, text};
use berth_core::meta::{self, Scope};

const MAX_CONTROLLER: usize = 250;

impl Rules for IngressClass {
    fn default(&mut self) {
        if let Some(parameters) = self.spec.as_mut().and_then(|s| s.parameters.as_mut()) {
            parameters.scope.get_or_insert_with(|| "Cluster".to_owned());
        }
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = meta::validate(&self.metadata, Scope::Cluster, names::dns1123_subdomain);
        errors.extend(spec_errors(self));
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        let controller = |class: &Self| class.spec.as_ref().and_then(|s| s.controller.clone());
        let at = FieldPath::new("spec.controller");
        meta::immutable(&mut errors, &at, &controller(self), &controller(old));
        errors.extend(spec_errors(self));
        errors
    }
}

fn spec_errors(class: &IngressClass) -> Vec<FieldError> {
    let at = FieldPath::new("spec");
    let mut errors = Vec::new();
    let spec = class.spec.clone().unwrap_or_default();
    let controller = text(&spec.controller);
    let controller_at = at.child("controller");
    if controller.len() > MAX_CONTROLLER {
        errors.push(FieldError::too_long(&controller_at, MAX_CONTROLLER));
    }
    errors.extend(domain_prefixed_path(controller, &controller_at));
    if let Some(parameters) = &spec.parameters {
        parameter_errors(&mut errors, parameters, &at.child("parameters"));
    }
    errors
}

/// `example.com/path`.
fn domain_prefixed_path(value: &str, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if value.is_empty() {
        return vec![FieldError::required(at, "")];
    }
    match value.split_once('/') {
        Some((domain, path)) if !domain.is_empty() && !path.is_empty() => {
            meta::extend_invalid(&mut errors, at, domain, names::dns1123_subdomain(domain));
            let known = |c: char| c.is_ascii_alphanumeric() || "/_-:.~!$&'()*+,;=@%".contains(c);
            if !path.chars().all(known) {
                let why = "Invalid path";
                errors.push(FieldError::invalid(at, path, why));
            }
        }
        _ => {
            let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            errors.push(FieldError::invalid(at, value, why));
        }
    }
    errors
}

fn parameter_errors(
    errors: &mut Vec<FieldError>,
    parameters: &IngressClassParametersReference,
    at: &FieldPath,
) {
    let group = text(&parameters.api_group);
    if !group.is_empty() {
        let at = at.child("apiGroup");
        meta::extend_invalid(errors, &at, group, names::dns1123_subdomain(group));
    }
    required(errors, &at.child("kind"), &parameters.kind);
    let name_at = at.child("name");
    if parameters.name.is_empty() {
        errors.push(FieldError::required(&name_at, ""));
    } else {
        let wrong = names::path_segment(&parameters.name);
        meta::extend_invalid(errors, &name_at, &parameters.name, wrong);
    }
    let namespace_at = at.child("namespace");
    match (text(&parameters.scope), &parameters.namespace) {
        ("Cluster", Some(_)) => errors.push(FieldError::forbidden(
            &namespace_at,
            "`parameters.scope` is set to 'Cluster'",
        )),
        ("Cluster", None) => {}
        ("Namespace", None) => errors.push(FieldError::required(
            &namespace_at,
            "`parameters.scope` is set to 'Namespace'",
        )),
        ("Namespace", Some(namespace)) => {
            meta::extend_invalid(
                errors,
                &namespace_at,
                namespace,
                names::dns1123_label(namespace),
            );
        }
        ("", _) => errors.push(FieldError::required(&at.child("scope"), "")),
        (other, _) => {
            let at = at.child("scope");
            errors.push(FieldError::not_supported(
                &at,
                other,
                &["Cluster", "Namespace"],
            ));
        }
    }
}
