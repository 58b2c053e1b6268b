//! policy/v1 PodDisruptionBudget.

use berth_api::field::{FieldError, FieldPath, bounded};
use berth_api::names;
use k8s_openapi::api::policy::v1::{
    PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus,
};

use crate::Rules;
use crate::values::{at_most_all, int_or_percent, non_negative, one_of_if_set};
use berth_core::gates::FeatureGates;
use berth_core::meta::{self, Scope};

impl Rules for PodDisruptionBudget {
    fn prepare_create(&mut self, _gates: &FeatureGates) {
        self.status = Some(PodDisruptionBudgetStatus {
            current_healthy: Some(0),
            desired_healthy: Some(0),
            disruptions_allowed: Some(0),
            expected_pods: Some(0),
            ..PodDisruptionBudgetStatus::default()
        });
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
        errors.extend(self.spec.as_ref().map(spec_errors).unwrap_or_default());
        bounded(errors)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(self.spec.as_ref().map(spec_errors).unwrap_or_default());
        bounded(errors)
    }

    fn validate_status(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        let at = FieldPath::new("status");
        let none = PodDisruptionBudgetStatus::default();
        let status = self.status.as_ref().unwrap_or(&none);
        for (name, value) in [
            ("disruptionsAllowed", status.disruptions_allowed),
            ("currentHealthy", status.current_healthy),
            ("desiredHealthy", status.desired_healthy),
            ("expectedPods", status.expected_pods),
        ] {
            non_negative(&mut errors, &at.child(name), value);
        }
        errors
    }
}

fn spec_errors(spec: &PodDisruptionBudgetSpec) -> Vec<FieldError> {
    let at = FieldPath::new("spec");
    let mut errors = Vec::new();
    if spec.min_available.is_some() && spec.max_unavailable.is_some() {
        let why = "minAvailable and maxUnavailable cannot be both set";
        errors.push(FieldError::invalid(&at, spec, why));
    }
    for (name, value) in [
        ("minAvailable", &spec.min_available),
        ("maxUnavailable", &spec.max_unavailable),
    ] {
        if let Some(value) = value {
            int_or_percent(&mut errors, &at.child(name), value);
            at_most_all(&mut errors, &at.child(name), value);
        }
    }
    if let Some(selector) = &spec.selector {
        errors.extend(meta::validate_label_selector(
            selector,
            &at.child("selector"),
        ));
    }
    let policy = spec.unhealthy_pod_eviction_policy.as_deref();
    let policies = ["AlwaysAllow", "IfHealthyBudget"];
    one_of_if_set(
        &mut errors,
        &at.child("unhealthyPodEvictionPolicy"),
        policy,
        &policies,
    );
    errors
}
