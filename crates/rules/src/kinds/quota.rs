//! core/v1 ResourceQuota.

use std::collections::BTreeSet;

use berth_api::field::{ERRORS_LIMIT, FieldError, FieldPath};
use berth_api::names;
use k8s_openapi::api::core::v1::{ResourceQuota, ResourceQuotaSpec};

use crate::Rules;
use berth_core::gates::FeatureGates;
use berth_core::meta::{self, Scope};
use berth_core::resource_list::{self, WireList};

impl Rules for ResourceQuota {
    fn prepare_create(&mut self, _gates: &FeatureGates) {
        self.status = None;
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
        errors.extend(self.spec.as_ref().map(spec).unwrap_or_default());
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(self.spec.as_ref().map(spec).unwrap_or_default());
        let scopes = |q: &Self| -> BTreeSet<String> {
            q.spec
                .iter()
                .flat_map(|s| s.scopes.clone().unwrap_or_default())
                .collect()
        };
        meta::immutable(
            &mut errors,
            &FieldPath::new("spec.scopes"),
            &scopes(self),
            &scopes(old),
        );
        errors
    }

    fn validate_status(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        if let Some(status) = &self.status {
            errors.extend(list(status.hard.as_ref(), &FieldPath::new("status.hard")));
            errors.extend(list(status.used.as_ref(), &FieldPath::new("status.used")));
        }
        errors
    }
}

fn list(list: Option<&WireList>, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let empty = WireList::new();
    for (name, amount) in resource_list::parse(list.unwrap_or(&empty), at, &mut errors) {
        let at = at.key(&name);
        errors.extend(resource_list::validate_name(&name, &at));
        if !name.contains('/') && !resource_list::is_standard_quota(&name) {
            errors.push(FieldError::invalid(
                &at,
                &name,
                "must be a standard resource for quota",
            ));
        }
        errors.extend(resource_list::validate_amount(&name, &amount, &at));
    }
    errors
}

fn is_scope(name: &str) -> bool {
    matches!(
        name,
        "Terminating"
            | "NotTerminating"
            | "BestEffort"
            | "NotBestEffort"
            | "PriorityClass"
            | "CrossNamespacePodAffinity"
            | "VolumeAttributesClass"
    )
}

/// Which resources a quota of a scope may count.
fn scope_fits(scope: &str, resource: &str) -> bool {
    let compute = matches!(
        resource,
        "cpu" | "memory" | "limits.cpu" | "limits.memory" | "requests.cpu" | "requests.memory"
    );
    match scope {
        "BestEffort" => resource == "pods",
        "Terminating"
        | "NotTerminating"
        | "NotBestEffort"
        | "PriorityClass"
        | "CrossNamespacePodAffinity" => resource == "pods" || compute,
        "VolumeAttributesClass" => {
            matches!(resource, "persistentvolumeclaims" | "requests.storage")
        }
        _ => true,
    }
}

fn conflicting(scopes: &BTreeSet<&str>) -> bool {
    [
        ("BestEffort", "NotBestEffort"),
        ("Terminating", "NotTerminating"),
    ]
    .iter()
    .any(|(a, b)| scopes.contains(a) && scopes.contains(b))
}

fn spec(spec: &ResourceQuotaSpec) -> Vec<FieldError> {
    let mut errors = list(spec.hard.as_ref(), &FieldPath::new("spec.hard"));
    let hard: Vec<&str> = spec
        .hard
        .iter()
        .flatten()
        .map(|(n, _)| n.as_str())
        .collect();
    // An error shows all scopes, so as many as are reported are enough.
    let misfit = |scope: &str| {
        hard.iter()
            .filter(|r| resource_list::is_standard_quota(r) && !scope_fits(scope, r))
            .take(ERRORS_LIMIT)
            .count()
    };
    let at = FieldPath::new("spec.scopes");
    let scopes = spec.scopes.as_deref().unwrap_or_default();
    let mut before = BTreeSet::new();
    for scope in scopes.iter().filter(|scope| before.insert(scope.as_str())) {
        if errors.len() > ERRORS_LIMIT {
            break;
        }
        if !is_scope(scope) {
            errors.push(FieldError::invalid(&at, scopes, "unsupported scope"));
        }
        for _ in 0..misfit(scope) {
            errors.push(FieldError::invalid(
                &at,
                scopes,
                "unsupported scope applied to resource",
            ));
        }
    }
    if conflicting(&scopes.iter().map(String::as_str).collect()) {
        errors.push(FieldError::invalid(&at, scopes, "conflicting scopes"));
    }
    let at = FieldPath::new("spec.scopeSelector.matchExpressions");
    let requirements = spec
        .scope_selector
        .as_ref()
        .and_then(|s| s.match_expressions.as_deref())
        .unwrap_or_default();
    for requirement in requirements {
        let scope = requirement.scope_name.as_str();
        let values = requirement.values.as_deref().unwrap_or_default();
        if !is_scope(scope) {
            errors.push(FieldError::invalid(
                &at.child("scopeName"),
                scope,
                "unsupported scope",
            ));
        }
        if errors.len() > ERRORS_LIMIT {
            break;
        }
        for _ in 0..misfit(scope) {
            errors.push(FieldError::invalid(
                &at,
                requirement,
                "unsupported scope applied to resource",
            ));
        }
        let exists_only =
            is_scope(scope) && scope != "PriorityClass" && scope != "VolumeAttributesClass";
        if exists_only && requirement.operator != "Exists" {
            errors.push(FieldError::invalid(
                &at.child("operator"),
                &requirement.operator,
                format!("must be 'Exists' when scope is {scope}"),
            ));
        }
        match requirement.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => errors.push(FieldError::required(
                &at.child("values"),
                "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            )),
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::invalid(
                &at.child("values"),
                values,
                "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.push(FieldError::invalid(
                &at.child("operator"),
                other,
                "not a valid selector operator",
            )),
        }
    }
    if conflicting(&requirements.iter().map(|r| r.scope_name.as_str()).collect()) {
        errors.push(FieldError::invalid(&at, "", "conflicting scopes"));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn quotas() {
        for (body, want) in [
            (
                json!({"hard": {"cpu": "1", "requests.memory": "1Gi", "pods": "3", "count/widgets.example.com": "1"}}),
                vec![],
            ),
            (
                json!({"hard": {"frob": "1"}}),
                vec![
                    "FieldValueInvalid spec.hard[frob]",
                    "FieldValueInvalid spec.hard[frob]",
                ],
            ),
            (
                json!({"hard": {"cpu": "-1"}}),
                vec!["FieldValueInvalid spec.hard[cpu]"],
            ),
            (
                json!({"hard": {"pods": "1.5"}}),
                vec!["FieldValueInvalid spec.hard[pods]"],
            ),
            (
                json!({"hard": {"cpu": "1"}, "scopes": ["BestEffort"]}),
                vec!["FieldValueInvalid spec.scopes"],
            ),
            (
                json!({"scopes": ["BestEffort", "NotBestEffort"]}),
                vec!["FieldValueInvalid spec.scopes"],
            ),
            (
                json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In"}]}}),
                vec!["FieldValueRequired spec.scopeSelector.matchExpressions.values"],
            ),
        ] {
            let quota: ResourceQuota = serde_json::from_value(
                json!({"metadata": {"name": "a", "namespace": "b"}, "spec": body}),
            )
            .unwrap();
            let got: Vec<_> = quota
                .validate()
                .iter()
                .map(|e| format!("{} {}", e.kind.reason(), e.field))
                .collect();
            assert_eq!(got, want, "{body}");
        }
    }
}
