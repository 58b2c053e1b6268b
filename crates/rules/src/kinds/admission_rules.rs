//! Which requests an admission webhook or policy is about.

use std::collections::HashSet;

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MatchResources, NamedRuleWithOperations, RuleWithOperations,
};

use crate::values::{default_text, is_full, one_of_if_set};
use berth_core::meta;

const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const SCOPES: [&str; 3] = ["*", "Cluster", "Namespaced"];
const MAX_CONDITIONS: usize = 64;

/// A rule, with or without names of objects.
pub(super) struct Rule<'a> {
    operations: &'a [String],
    groups: &'a [String],
    versions: &'a [String],
    resources: &'a [String],
    scope: Option<&'a str>,
}

/// The rule of a webhook.
pub(super) fn of(rule: &RuleWithOperations) -> Rule<'_> {
    Rule {
        operations: rule.operations.as_deref().unwrap_or_default(),
        groups: rule.api_groups.as_deref().unwrap_or_default(),
        versions: rule.api_versions.as_deref().unwrap_or_default(),
        resources: rule.resources.as_deref().unwrap_or_default(),
        scope: rule.scope.as_deref(),
    }
}

fn of_named(rule: &NamedRuleWithOperations) -> Rule<'_> {
    Rule {
        operations: rule.operations.as_deref().unwrap_or_default(),
        groups: rule.api_groups.as_deref().unwrap_or_default(),
        versions: rule.api_versions.as_deref().unwrap_or_default(),
        resources: rule.resources.as_deref().unwrap_or_default(),
        scope: rule.scope.as_deref(),
    }
}

/// All lists are there, and `*` stands alone in them.
pub(super) fn validate(errors: &mut Vec<FieldError>, rule: &Rule<'_>, at: &FieldPath) {
    if is_full(errors) {
        return;
    }
    for (name, list, any) in [
        (
            "operations",
            rule.operations,
            "if '*' is present, must not specify other operations",
        ),
        (
            "apiGroups",
            rule.groups,
            "if '*' is present, must not specify other API groups",
        ),
        (
            "apiVersions",
            rule.versions,
            "if '*' is present, must not specify other API versions",
        ),
        ("resources", rule.resources, ""),
    ] {
        let at = at.child(name);
        if list.is_empty() {
            errors.push(FieldError::required(&at, ""));
        }
        if list.len() > 1 && !any.is_empty() && list.iter().any(|item| item == "*") {
            errors.push(FieldError::invalid(&at, list, any));
        }
        for (i, item) in list.iter().enumerate() {
            if item.is_empty() && name != "apiGroups" {
                errors.push(FieldError::required(&at.index(i), ""));
            }
        }
    }
    for (i, operation) in rule.operations.iter().enumerate() {
        let at = at.child("operations").index(i);
        one_of_if_set(
            errors,
            &at,
            Some(operation)
                .filter(|o| !o.is_empty())
                .map(String::as_str),
            &OPERATIONS,
        );
    }
    one_of_if_set(errors, &at.child("scope"), rule.scope, &SCOPES);
}

/// Names that are there once; whether the expressions are CEL is for who evaluates them.
pub(super) fn match_conditions(
    errors: &mut Vec<FieldError>,
    conditions: &[MatchCondition],
    at: &FieldPath,
) {
    if conditions.len() > MAX_CONDITIONS {
        errors.push(FieldError::too_many(at, conditions.len(), MAX_CONDITIONS));
        return;
    }
    let mut before = HashSet::new();
    for (i, condition) in conditions.iter().enumerate() {
        let at = at.index(i);
        if condition.expression.trim().is_empty() {
            errors.push(FieldError::required(&at.child("expression"), ""));
        }
        let (name, at) = (&condition.name, at.child("name"));
        if name.is_empty() {
            errors.push(FieldError::required(&at, ""));
        } else {
            meta::extend_invalid(errors, &at, name, names::qualified_name(name));
            if !before.insert(name) {
                errors.push(FieldError::duplicate(&at, name));
            }
        }
    }
}

/// Defaults of what a policy is about.
pub(super) fn set_defaults(resources: &mut MatchResources) {
    default_text(&mut resources.match_policy, "Equivalent");
    resources.namespace_selector.get_or_insert_default();
    resources.object_selector.get_or_insert_default();
    let rules = resources.resource_rules.iter_mut().flatten();
    for rule in rules.chain(resources.exclude_resource_rules.iter_mut().flatten()) {
        default_text(&mut rule.scope, "*");
    }
}

/// What a policy or binding is about.
pub(super) fn validate_resources(
    errors: &mut Vec<FieldError>,
    resources: &MatchResources,
    at: &FieldPath,
) {
    let policy = resources.match_policy.as_deref();
    one_of_if_set(
        errors,
        &at.child("matchPolicy"),
        policy,
        &["Equivalent", "Exact"],
    );
    for (name, selector) in [
        ("namespaceSelector", &resources.namespace_selector),
        ("objectSelector", &resources.object_selector),
    ] {
        if let Some(selector) = selector {
            errors.extend(meta::validate_label_selector(selector, &at.child(name)));
        }
    }
    for (name, rules) in [
        ("resourceRules", &resources.resource_rules),
        ("excludeResourceRules", &resources.exclude_resource_rules),
    ] {
        for (i, rule) in rules.iter().flatten().enumerate() {
            validate(errors, &of_named(rule), &at.child(name).index(i));
        }
    }
}
