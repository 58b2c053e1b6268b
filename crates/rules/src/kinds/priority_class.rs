//! scheduling.k8s.io PriorityClass.

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use k8s_openapi::api::scheduling::v1::PriorityClass;

use crate::Rules;
use crate::admission::priority::SYSTEM;
use berth_core::meta::{self, Scope};

/// The largest value that users may give; above are the classes of the system.
pub const HIGHEST_USER_VALUE: i32 = 1_000_000_000;

impl Rules for PriorityClass {
    fn default(&mut self) {
        let policy = self.preemption_policy.get_or_insert_default();
        if policy.is_empty() {
            "PreemptLowerPriority".clone_into(policy);
        }
    }

    fn validate(&self) -> Vec<FieldError> {
        let mut errors = meta::validate(&self.metadata, Scope::Cluster, names::dns1123_subdomain);
        let name = self.metadata.name.as_deref().unwrap_or_default();
        let value = self.value.unwrap_or(0);
        if name.starts_with("system-") {
            let known = SYSTEM.contains(&(name, value)) && self.global_default != Some(true);
            if !known {
                errors.push(FieldError::forbidden(
                    &FieldPath::new("metadata.name"),
                    "priority class names with 'system-' prefix are reserved for system use only",
                ));
            }
        } else if value > HIGHEST_USER_VALUE {
            errors.push(FieldError::forbidden(
                &FieldPath::new("value"),
                format!("maximum allowed value of a user defined priority is {HIGHEST_USER_VALUE}"),
            ));
        }
        let policy = self.preemption_policy.as_deref().unwrap_or_default();
        match policy {
            "PreemptLowerPriority" | "Never" => {}
            "" => errors.push(FieldError::required(
                &FieldPath::new("preemptionPolicy"),
                "",
            )),
            other => errors.push(FieldError::not_supported(
                &FieldPath::new("preemptionPolicy"),
                other,
                &["PreemptLowerPriority", "Never"],
            )),
        }
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        if self.value.unwrap_or(0) != old.value.unwrap_or(0) {
            errors.push(FieldError::forbidden(
                &FieldPath::new("value"),
                "may not be changed in an update.",
            ));
        }
        meta::immutable(
            &mut errors,
            &FieldPath::new("preemptionPolicy"),
            &self.preemption_policy,
            &old.preemption_policy,
        );
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn classes() {
        for (name, value, want) in [
            ("high", 1_000_000_000, vec![]),
            ("higher", 1_000_000_001, vec!["FieldValueForbidden value"]),
            ("system-node-critical", 2_000_001_000, vec![]),
            (
                "system-node-critical",
                5,
                vec!["FieldValueForbidden metadata.name"],
            ),
            ("system-x", 5, vec!["FieldValueForbidden metadata.name"]),
        ] {
            let mut class: PriorityClass =
                serde_json::from_value(json!({"metadata": {"name": name}, "value": value}))
                    .unwrap();
            class.default();
            let got: Vec<_> = class
                .validate()
                .iter()
                .map(|e| format!("{} {}", e.kind.reason(), e.field))
                .collect();
            assert_eq!(got, want, "{name} {value}");
        }
    }
}
