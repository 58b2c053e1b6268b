//! coordination.k8s.io Lease.

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};

use crate::Rules;
use berth_core::meta::{self, Scope};

impl Rules for Lease {
    fn validate(&self) -> Vec<FieldError> {
        let mut errors =
            meta::validate(&self.metadata, Scope::Namespaced, names::dns1123_subdomain);
        errors.extend(self.spec.as_ref().map(spec).unwrap_or_default());
        errors
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(self.spec.as_ref().map(spec).unwrap_or_default());
        errors
    }
}

fn spec(spec: &LeaseSpec) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let at = FieldPath::new("spec");
    if let Some(seconds) = spec.lease_duration_seconds.filter(|s| *s <= 0) {
        errors.push(FieldError::invalid(
            &at.child("leaseDurationSeconds"),
            seconds,
            "must be greater than 0",
        ));
    }
    if let Some(count) = spec.lease_transitions.filter(|t| *t < 0) {
        errors.push(FieldError::invalid(
            &at.child("leaseTransitions"),
            count,
            "must be greater than or equal to 0",
        ));
    }
    let preferred = spec.preferred_holder.as_deref().unwrap_or_default();
    let strategy = spec.strategy.as_deref().unwrap_or_default();
    if !preferred.is_empty() && strategy.is_empty() {
        errors.push(FieldError::forbidden(
            &at.child("preferredHolder"),
            "can only be specified if strategy is defined",
        ));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn leases() {
        for (spec, want) in [
            (json!(null), vec![]),
            (
                json!({"leaseDurationSeconds": 40, "holderIdentity": "n"}),
                vec![],
            ),
            (
                json!({"leaseDurationSeconds": 0}),
                vec!["FieldValueInvalid spec.leaseDurationSeconds"],
            ),
            (
                json!({"leaseTransitions": -1, "preferredHolder": "x"}),
                vec![
                    "FieldValueInvalid spec.leaseTransitions",
                    "FieldValueForbidden spec.preferredHolder",
                ],
            ),
        ] {
            let lease: Lease = serde_json::from_value(
                json!({"metadata": {"name": "a", "namespace": "b"}, "spec": spec}),
            )
            .unwrap();
            let got: Vec<_> = lease
                .validate()
                .iter()
                .map(|e| format!("{} {}", e.kind.reason(), e.field))
                .collect();
            assert_eq!(got, want, "{spec}");
        }
    }
}
