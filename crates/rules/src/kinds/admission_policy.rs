//! admissionregistration.k8s.io/v1 policies in CEL, and their bindings. The expressions themselves are not compiled.

use std::collections::HashSet;

use berth_api::field::{FieldError, FieldPath, bounded};
use berth_api::names;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, ParamKind, ParamRef,
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, Variable,
};

use super::admission_rules;
use crate::Rules;
use crate::rules::spec_and_status;
use crate::values::{default_text, one_of, one_of_if_set, required, text};
use berth_core::meta::{self, Scope};

const FAILURE_POLICIES: [&str; 2] = ["Fail", "Ignore"];
const REASONS: [&str; 4] = [
    "Forbidden",
    "Invalid",
    "RequestEntityTooLarge",
    "Unauthorized",
];

impl Rules for ValidatingAdmissionPolicy {
    fn default(&mut self) {
        let spec = self.spec.get_or_insert_default();
        default_text(&mut spec.failure_policy, "Fail");
        if let Some(resources) = &mut spec.match_constraints {
            admission_rules::set_defaults(resources);
        }
    }

    spec_and_status!();

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = meta::validate(&self.metadata, Scope::Cluster, names::dns1123_subdomain);
        let spec = self.spec.clone().unwrap_or_default();
        let at = FieldPath::new("spec");
        let policy = spec.failure_policy.as_deref();
        one_of_if_set(
            &mut errors,
            &at.child("failurePolicy"),
            policy,
            &FAILURE_POLICIES,
        );
        param_kind(
            &mut errors,
            spec.param_kind.as_ref(),
            &at.child("paramKind"),
        );
        let resources_at = at.child("matchConstraints");
        match &spec.match_constraints {
            None => errors.push(FieldError::required(&resources_at, "")),
            Some(resources) => {
                admission_rules::validate_resources(&mut errors, resources, &resources_at);
                if resources.resource_rules.as_ref().is_none_or(Vec::is_empty) {
                    errors.push(FieldError::required(
                        &resources_at.child("resourceRules"),
                        "",
                    ));
                }
            }
        }
        let conditions = spec.match_conditions.as_deref().unwrap_or_default();
        admission_rules::match_conditions(&mut errors, conditions, &at.child("matchConditions"));
        let variables = spec.variables.as_deref().unwrap_or_default();
        validate_variables(&mut errors, variables, &at.child("variables"));
        let validations = spec.validations.as_deref().unwrap_or_default();
        let annotations = spec.audit_annotations.as_deref().unwrap_or_default();
        if validations.is_empty() && annotations.is_empty() {
            let why = "validations or auditAnnotations must contain at least one item";
            errors.push(FieldError::required(&at.child("validations"), why));
        }
        for (i, validation) in validations.iter().enumerate() {
            let at = at.child("validations").index(i);
            if validation.expression.trim().is_empty() {
                errors.push(FieldError::required(
                    &at.child("expression"),
                    "expression is not specified",
                ));
            }
            let reason = validation.reason.as_deref();
            one_of_if_set(&mut errors, &at.child("reason"), reason, &REASONS);
        }
        for (i, annotation) in annotations.iter().enumerate() {
            let at = at.child("auditAnnotations").index(i);
            meta::extend_invalid(
                &mut errors,
                &at.child("key"),
                &annotation.key,
                names::qualified_name(&annotation.key),
            );
            required(
                &mut errors,
                &at.child("valueExpression"),
                annotation.value_expression.trim(),
            );
        }
        bounded(errors)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(self.validate());
        bounded(errors)
    }

    fn validate_status(&self, old: &Self) -> Vec<FieldError> {
        meta::validate_update(&self.metadata, &old.metadata)
    }
}

impl Rules for MutatingAdmissionPolicy {
    fn default(&mut self) {
        let spec = self.spec.get_or_insert_default();
        default_text(&mut spec.failure_policy, "Fail");
        default_text(&mut spec.reinvocation_policy, "Never");
        if let Some(resources) = &mut spec.match_constraints {
            admission_rules::set_defaults(resources);
        }
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = meta::validate(&self.metadata, Scope::Cluster, names::dns1123_subdomain);
        let spec = self.spec.clone().unwrap_or_default();
        let at = FieldPath::new("spec");
        let policy = spec.failure_policy.as_deref();
        one_of_if_set(
            &mut errors,
            &at.child("failurePolicy"),
            policy,
            &FAILURE_POLICIES,
        );
        let policy = text(&spec.reinvocation_policy);
        one_of(
            &mut errors,
            &at.child("reinvocationPolicy"),
            policy,
            &["IfNeeded", "Never"],
        );
        param_kind(
            &mut errors,
            spec.param_kind.as_ref(),
            &at.child("paramKind"),
        );
        let resources_at = at.child("matchConstraints");
        match &spec.match_constraints {
            None => errors.push(FieldError::required(&resources_at, "")),
            Some(resources) => {
                admission_rules::validate_resources(&mut errors, resources, &resources_at);
            }
        }
        let conditions = spec.match_conditions.as_deref().unwrap_or_default();
        admission_rules::match_conditions(&mut errors, conditions, &at.child("matchConditions"));
        let variables = spec.variables.as_deref().unwrap_or_default();
        validate_variables(&mut errors, variables, &at.child("variables"));
        let mutations = spec.mutations.as_deref().unwrap_or_default();
        let at = at.child("mutations");
        if mutations.is_empty() {
            errors.push(FieldError::required(
                &at,
                "mutations must contain at least one item",
            ));
        }
        for (i, mutation) in mutations.iter().enumerate() {
            let at = at.index(i);
            let kinds = ["ApplyConfiguration", "JSONPatch"];
            one_of(
                &mut errors,
                &at.child("patchType"),
                &mutation.patch_type,
                &kinds,
            );
            let apply = mutation
                .apply_configuration
                .as_ref()
                .map(|a| text(&a.expression));
            let json = mutation.json_patch.as_ref().map(|j| text(&j.expression));
            for (name, kind, expression) in [
                ("applyConfiguration", "ApplyConfiguration", apply),
                ("jsonPatch", "JSONPatch", json),
            ] {
                let at = at.child(name);
                match expression {
                    None if mutation.patch_type == kind => {
                        errors.push(FieldError::required(
                            &at,
                            format!("must be specified when patchType is {kind}"),
                        ));
                    }
                    Some(_) if mutation.patch_type != kind => {
                        errors.push(FieldError::invalid(
                            &at,
                            "",
                            format!(
                                "must not be specified when patchType is {}",
                                mutation.patch_type
                            ),
                        ));
                    }
                    Some(expression) => {
                        required(&mut errors, &at.child("expression"), expression.trim())
                    }
                    None => {}
                }
            }
        }
        bounded(errors)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(self.validate());
        bounded(errors)
    }
}

impl Rules for ValidatingAdmissionPolicyBinding {
    fn default(&mut self) {
        if let Some(resources) = &mut self.spec.match_resources {
            admission_rules::set_defaults(resources);
        }
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = meta::validate(&self.metadata, Scope::Cluster, names::dns1123_subdomain);
        let spec = &self.spec;
        let at = FieldPath::new("spec");
        policy_name(&mut errors, &spec.policy_name, &at.child("policyName"));
        param_ref(&mut errors, spec.param_ref.as_ref(), &at.child("paramRef"));
        if let Some(resources) = &spec.match_resources {
            admission_rules::validate_resources(
                &mut errors,
                resources,
                &at.child("matchResources"),
            );
        }
        let actions_at = at.child("validationActions");
        let actions = &spec.validation_actions;
        if actions.is_empty() {
            errors.push(FieldError::required(
                &actions_at,
                "at least one validation action is required",
            ));
        }
        let mut before = HashSet::new();
        for action in actions {
            one_of_if_set(
                &mut errors,
                &actions_at,
                Some(action),
                &["Audit", "Deny", "Warn"],
            );
            if !before.insert(action.as_str()) {
                errors.push(FieldError::duplicate(&actions_at, action));
            }
        }
        if before.contains("Deny") && before.contains("Warn") {
            let why = "must not contain both Deny and Warn (repeating the same validation failure information in the \
                       API response and headers serves no purpose)";
            errors.push(FieldError::invalid(&actions_at, actions, why));
        }
        bounded(errors)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(self.validate());
        bounded(errors)
    }
}

impl Rules for MutatingAdmissionPolicyBinding {
    fn default(&mut self) {
        let spec = self.spec.get_or_insert_default();
        if let Some(resources) = &mut spec.match_resources {
            admission_rules::set_defaults(resources);
        }
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = meta::validate(&self.metadata, Scope::Cluster, names::dns1123_subdomain);
        let spec = self.spec.clone().unwrap_or_default();
        let at = FieldPath::new("spec");
        policy_name(
            &mut errors,
            text(&spec.policy_name),
            &at.child("policyName"),
        );
        param_ref(&mut errors, spec.param_ref.as_ref(), &at.child("paramRef"));
        if let Some(resources) = &spec.match_resources {
            admission_rules::validate_resources(
                &mut errors,
                resources,
                &at.child("matchResources"),
            );
        }
        bounded(errors)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(self.validate());
        bounded(errors)
    }
}

fn policy_name(errors: &mut Vec<FieldError>, name: &str, at: &FieldPath) {
    if name.is_empty() {
        errors.push(FieldError::required(at, ""));
    } else {
        meta::extend_invalid(errors, at, name, names::dns1123_subdomain(name));
    }
}

fn param_kind(errors: &mut Vec<FieldError>, kind: Option<&ParamKind>, at: &FieldPath) {
    let Some(kind) = kind else {
        return;
    };
    required(errors, &at.child("apiVersion"), text(&kind.api_version));
    let (name, at) = (text(&kind.kind), at.child("kind"));
    if name.is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else {
        let wrong = names::dns1035_label(&name.to_lowercase());
        meta::extend_invalid(errors, &at, name, wrong);
    }
}

fn param_ref(errors: &mut Vec<FieldError>, reference: Option<&ParamRef>, at: &FieldPath) {
    let Some(reference) = reference else {
        return;
    };
    let (name, selector) = (text(&reference.name), reference.selector.as_ref());
    match (name.is_empty(), selector) {
        (true, None) => {
            let why = "one of name or selector must be specified";
            errors.push(FieldError::required(at, why));
        }
        (false, Some(_)) => {
            let why = "name and selector are mutually exclusive";
            errors.push(FieldError::forbidden(&at.child("name"), why));
        }
        (false, None) => {
            meta::extend_invalid(errors, &at.child("name"), name, names::path_segment(name));
        }
        (true, Some(selector)) => {
            errors.extend(meta::validate_label_selector(
                selector,
                &at.child("selector"),
            ));
        }
    }
    let action = text(&reference.parameter_not_found_action);
    one_of(
        errors,
        &at.child("parameterNotFoundAction"),
        action,
        &["Allow", "Deny"],
    );
}

fn validate_variables(errors: &mut Vec<FieldError>, variables: &[Variable], at: &FieldPath) {
    let mut before = HashSet::new();
    for (i, variable) in variables.iter().enumerate() {
        let at = at.index(i);
        let name = variable.name.as_str();
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if name.is_empty() {
            errors.push(FieldError::required(
                &at.child("name"),
                "name is not specified",
            ));
        } else if !is_name {
            let why = "name is not a valid CEL identifier";
            errors.push(FieldError::invalid(&at.child("name"), name, why));
        } else if !before.insert(name) {
            errors.push(FieldError::duplicate(&at.child("name"), name));
        }
        if variable.expression.trim().is_empty() {
            errors.push(FieldError::required(
                &at.child("expression"),
                "expression is not specified",
            ));
        }
    }
}
