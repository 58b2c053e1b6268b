//! autoscaling HorizontalPodAutoscaler, stored as v2.

mod behavior;
mod metrics;
pub mod v1;

use berth_api::field::{FieldError, FieldPath, bounded};
use berth_api::names;
use k8s_openapi::api::autoscaling::v2::{
    CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus,
};

use crate::Rules;
use crate::values::{drop_empty, non_negative};
use berth_core::gates::FeatureGates;
use berth_core::meta::{self, Scope};

impl Rules for HorizontalPodAutoscaler {
    fn default(&mut self) {
        let spec = &mut self.spec;
        spec.min_replicas.get_or_insert(1);
        drop_empty(&mut spec.metrics);
        spec.metrics.get_or_insert_with(metrics::by_default);
        if let Some(given) = &mut spec.behavior {
            behavior::set_defaults(given);
        }
    }

    fn prepare_create(&mut self, _gates: &FeatureGates) {
        self.status = Some(HorizontalPodAutoscalerStatus::default());
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
        errors.extend(spec_errors(self));
        bounded(errors)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(spec_errors(self));
        bounded(errors)
    }

    fn validate_status(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        let at = FieldPath::new("status");
        let status = self.status.as_ref();
        let current = status.and_then(|s| s.current_replicas);
        non_negative(&mut errors, &at.child("currentReplicas"), current);
        let desired = status.map(|s| s.desired_replicas);
        non_negative(&mut errors, &at.child("desiredReplicas"), desired);
        errors
    }
}

fn spec_errors(scaler: &HorizontalPodAutoscaler) -> Vec<FieldError> {
    let at = FieldPath::new("spec");
    let mut errors = Vec::new();
    let spec = &scaler.spec;
    if let Some(least) = spec.min_replicas.filter(|least| *least < 1) {
        let why = "must be greater than or equal to 1";
        errors.push(FieldError::invalid(&at.child("minReplicas"), least, why));
    }
    let max_at = at.child("maxReplicas");
    if spec.max_replicas < 1 {
        errors.push(FieldError::invalid(
            &max_at,
            spec.max_replicas,
            "must be greater than 0",
        ));
    }
    if spec
        .min_replicas
        .is_some_and(|least| spec.max_replicas < least)
    {
        let why = "must be greater than or equal to `minReplicas`";
        errors.push(FieldError::invalid(&max_at, spec.max_replicas, why));
    }
    reference(
        &mut errors,
        &spec.scale_target_ref,
        &at.child("scaleTargetRef"),
    );
    errors.extend(metrics::validate(spec, &at.child("metrics")));
    if let Some(given) = &spec.behavior {
        errors.extend(behavior::validate(given, &at.child("behavior")));
    }
    errors
}

/// An object whose kind and name can be parts of a path.
fn reference(errors: &mut Vec<FieldError>, object: &CrossVersionObjectReference, at: &FieldPath) {
    for (name, value) in [("kind", &object.kind), ("name", &object.name)] {
        let at = at.child(name);
        if value.is_empty() {
            errors.push(FieldError::required(&at, ""));
        } else {
            meta::extend_invalid(errors, &at, value, names::path_segment(value));
        }
    }
    let version = object.api_version.as_deref().unwrap_or_default();
    if version.matches('/').count() > 1 {
        let why = format!("unexpected GroupVersion string: {version}");
        errors.push(FieldError::invalid(&at.child("apiVersion"), version, why));
    }
}
