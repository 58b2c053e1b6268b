//! Defaults and validation of Role, ClusterRole and their bindings.

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};

use super::GROUP;
use crate::Rules;
use berth_core::meta::{self, Scope};

impl Rules for Role {
    fn validate(&self) -> Vec<FieldError> {
        let mut errors = meta::validate(&self.metadata, Scope::Namespaced, names::path_segment);
        errors.extend(validate_rules(self.rules.as_deref(), Scope::Namespaced));
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = self.validate();
        errors.extend(meta::validate_update(&self.metadata, &old.metadata));
        errors
    }
}

impl Rules for ClusterRole {
    fn validate(&self) -> Vec<FieldError> {
        let mut errors = meta::validate(&self.metadata, Scope::Cluster, names::path_segment);
        errors.extend(validate_rules(self.rules.as_deref(), Scope::Cluster));
        if let Some(aggregation) = &self.aggregation_rule {
            let at = FieldPath::new("aggregationRule.clusterRoleSelectors");
            let selectors = aggregation
                .cluster_role_selectors
                .as_deref()
                .unwrap_or_default();
            if selectors.is_empty() {
                errors.push(FieldError::required(
                    &at,
                    "at least one clusterRoleSelector required if aggregationRule is non-nil",
                ));
            }
            for (i, selector) in selectors.iter().enumerate() {
                errors.extend(meta::validate_label_selector(selector, &at.index(i)));
            }
        }
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = self.validate();
        errors.extend(meta::validate_update(&self.metadata, &old.metadata));
        errors
    }
}

impl Rules for RoleBinding {
    fn default(&mut self) {
        default_ref(&mut self.role_ref);
        default_subjects(self.subjects.as_deref_mut());
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = meta::validate(&self.metadata, Scope::Namespaced, names::path_segment);
        errors.extend(validate_ref(&self.role_ref, &["Role", "ClusterRole"]));
        errors.extend(validate_subjects(
            self.subjects.as_deref(),
            Scope::Namespaced,
        ));
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = self.validate();
        errors.extend(meta::validate_update(&self.metadata, &old.metadata));
        errors.extend(unchanged_ref(&self.role_ref, &old.role_ref));
        errors
    }
}

impl Rules for ClusterRoleBinding {
    fn default(&mut self) {
        default_ref(&mut self.role_ref);
        default_subjects(self.subjects.as_deref_mut());
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = meta::validate(&self.metadata, Scope::Cluster, names::path_segment);
        errors.extend(validate_ref(&self.role_ref, &["ClusterRole"]));
        errors.extend(validate_subjects(self.subjects.as_deref(), Scope::Cluster));
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = self.validate();
        errors.extend(meta::validate_update(&self.metadata, &old.metadata));
        errors.extend(unchanged_ref(&self.role_ref, &old.role_ref));
        errors
    }
}

fn default_ref(role: &mut RoleRef) {
    if role.api_group.as_deref().unwrap_or_default().is_empty() {
        role.api_group = Some(GROUP.to_owned());
    }
}

fn default_subjects(subjects: Option<&mut [Subject]>) {
    for subject in subjects.into_iter().flatten() {
        let unset = subject.api_group.as_deref().unwrap_or_default().is_empty();
        if unset && matches!(subject.kind.as_str(), "User" | "Group") {
            subject.api_group = Some(GROUP.to_owned());
        }
    }
}

fn unchanged_ref(new: &RoleRef, old: &RoleRef) -> Option<FieldError> {
    (new != old)
        .then(|| FieldError::invalid(&FieldPath::new("roleRef"), new, "cannot change roleRef"))
}

fn validate_rules(rules: Option<&[PolicyRule]>, scope: Scope) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, rule) in rules.unwrap_or_default().iter().enumerate() {
        let at = FieldPath::new("rules").index(i);
        let empty = |l: &Option<Vec<String>>| l.as_ref().is_none_or(Vec::is_empty);
        if rule.verbs.is_empty() {
            errors.push(FieldError::required(
                &at.child("verbs"),
                "verbs must contain at least one value",
            ));
        }
        if !empty(&rule.non_resource_urls) {
            let at = at.child("nonResourceURLs");
            if scope == Scope::Namespaced {
                errors.push(FieldError::invalid(
                    &at,
                    &rule.non_resource_urls,
                    "namespaced rules cannot apply to non-resource URLs",
                ));
            }
            if !empty(&rule.api_groups) || !empty(&rule.resources) || !empty(&rule.resource_names) {
                errors.push(FieldError::invalid(
                    &at,
                    &rule.non_resource_urls,
                    "rules cannot apply to both regular resources and non-resource URLs",
                ));
            }
            continue;
        }
        if empty(&rule.api_groups) {
            errors.push(FieldError::required(
                &at.child("apiGroups"),
                "resource rules must supply at least one api group",
            ));
        }
        if empty(&rule.resources) {
            errors.push(FieldError::required(
                &at.child("resources"),
                "resource rules must supply at least one resource",
            ));
        }
    }
    errors
}

fn validate_ref(role: &RoleRef, kinds: &[&str]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let at = FieldPath::new("roleRef");
    let group = role.api_group.as_deref().unwrap_or_default();
    if group != GROUP {
        errors.push(FieldError::not_supported(
            &at.child("apiGroup"),
            group,
            &[GROUP],
        ));
    }
    if !kinds.contains(&role.kind.as_str()) {
        errors.push(FieldError::not_supported(
            &at.child("kind"),
            &role.kind,
            kinds,
        ));
    }
    if role.name.is_empty() {
        errors.push(FieldError::required(&at.child("name"), ""));
    } else {
        meta::extend_invalid(
            &mut errors,
            &at.child("name"),
            &role.name,
            names::path_segment(&role.name),
        );
    }
    errors
}

fn validate_subjects(subjects: Option<&[Subject]>, scope: Scope) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, subject) in subjects.unwrap_or_default().iter().enumerate() {
        let at = FieldPath::new("subjects").index(i);
        let group = subject.api_group.as_deref().unwrap_or_default();
        if subject.name.is_empty() {
            errors.push(FieldError::required(&at.child("name"), ""));
        }
        match subject.kind.as_str() {
            "ServiceAccount" => {
                if !subject.name.is_empty() {
                    let complaints = names::dns1123_subdomain(&subject.name);
                    meta::extend_invalid(&mut errors, &at.child("name"), &subject.name, complaints);
                }
                if !group.is_empty() {
                    errors.push(FieldError::not_supported(
                        &at.child("apiGroup"),
                        group,
                        &[""],
                    ));
                }
                if scope == Scope::Cluster
                    && subject.namespace.as_deref().unwrap_or_default().is_empty()
                {
                    errors.push(FieldError::required(&at.child("namespace"), ""));
                }
            }
            "User" | "Group" => {
                if group != GROUP {
                    errors.push(FieldError::not_supported(
                        &at.child("apiGroup"),
                        group,
                        &[GROUP],
                    ));
                }
            }
            other => errors.push(FieldError::not_supported(
                &at.child("kind"),
                other,
                &["ServiceAccount", "User", "Group"],
            )),
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn causes<T: Rules + serde::de::DeserializeOwned>(
        mut body: Value,
        namespaced: bool,
    ) -> Vec<String> {
        body["metadata"] = if namespaced {
            json!({"name": "a:b", "namespace": "n"})
        } else {
            json!({"name": "a:b"})
        };
        let mut object: T = berth_api::decode::from_value(&body).unwrap();
        object.default();
        object
            .validate()
            .iter()
            .map(|e| format!("{} {}", e.kind.reason(), e.field))
            .collect()
    }

    #[test]
    fn roles() {
        let rule = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]});
        let url = json!({"nonResourceURLs": ["/healthz"], "verbs": ["get"]});
        for (rules, namespaced, cluster) in [
            (json!([rule]), vec![], vec![]),
            (
                json!([url]),
                vec!["FieldValueInvalid rules[0].nonResourceURLs"],
                vec![],
            ),
            (
                json!([{}]),
                vec![
                    "FieldValueRequired rules[0].verbs",
                    "FieldValueRequired rules[0].apiGroups",
                    "FieldValueRequired rules[0].resources",
                ],
                vec![
                    "FieldValueRequired rules[0].verbs",
                    "FieldValueRequired rules[0].apiGroups",
                    "FieldValueRequired rules[0].resources",
                ],
            ),
            (
                json!([{"apiGroups": [""], "nonResourceURLs": ["/x"], "verbs": ["get"]}]),
                vec![
                    "FieldValueInvalid rules[0].nonResourceURLs",
                    "FieldValueInvalid rules[0].nonResourceURLs",
                ],
                vec!["FieldValueInvalid rules[0].nonResourceURLs"],
            ),
        ] {
            assert_eq!(
                causes::<Role>(json!({"rules": rules}), true),
                namespaced,
                "{rules}"
            );
            assert_eq!(
                causes::<ClusterRole>(json!({"rules": rules}), false),
                cluster,
                "{rules}"
            );
        }
        assert_eq!(
            causes::<ClusterRole>(json!({"aggregationRule": {}}), false),
            ["FieldValueRequired aggregationRule.clusterRoleSelectors"]
        );
    }

    #[test]
    fn bindings() {
        for (reference, subject, want) in [
            (
                json!({"kind": "ClusterRole", "name": "view"}),
                json!({"kind": "User", "name": "u"}),
                vec![],
            ),
            (
                json!({"kind": "Role", "name": "view"}),
                json!({"kind": "Group", "name": "u"}),
                vec!["FieldValueNotSupported roleRef.kind"],
            ),
            (
                json!({"kind": "ClusterRole", "name": ""}),
                json!({"kind": "Frob", "name": ""}),
                vec![
                    "FieldValueRequired roleRef.name",
                    "FieldValueRequired subjects[0].name",
                    "FieldValueNotSupported subjects[0].kind",
                ],
            ),
            (
                json!({"kind": "ClusterRole", "name": "x", "apiGroup": "y"}),
                json!({"kind": "ServiceAccount", "name": "sa"}),
                vec![
                    "FieldValueNotSupported roleRef.apiGroup",
                    "FieldValueRequired subjects[0].namespace",
                ],
            ),
        ] {
            let body = json!({"roleRef": reference, "subjects": [subject]});
            assert_eq!(
                causes::<ClusterRoleBinding>(body.clone(), false),
                want,
                "{body}"
            );
        }
    }
}
