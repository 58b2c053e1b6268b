//! apps/v1 Deployment.

use berth_api::field::{FieldError, FieldPath, bounded};
use berth_api::names;
use berth_core::selector;
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStatus, DeploymentStrategy, RollingUpdateDeployment,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::Rules;
use crate::pod::template;
use crate::values::{
    at_most_all, default_text, int_or_percent, is_none_of_all, non_negative, not_decremented,
    one_of,
};
use berth_core::gates::FeatureGates;
use berth_core::meta::{self, Scope};

const ROLLING_UPDATE: &str = "RollingUpdate";
const RECREATE: &str = "Recreate";

impl Rules for Deployment {
    fn default(&mut self) {
        let Some(spec) = &mut self.spec else {
            return;
        };
        template::set_defaults(&mut spec.template);
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(10);
        spec.progress_deadline_seconds.get_or_insert(600);
        let strategy = spec.strategy.get_or_insert_default();
        default_text(&mut strategy.type_, ROLLING_UPDATE);
        if strategy.type_.as_deref() == Some(ROLLING_UPDATE) {
            let quarter = || IntOrString::String("25%".to_owned());
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling.max_unavailable.get_or_insert_with(quarter);
            rolling.max_surge.get_or_insert_with(quarter);
        }
    }

    fn prepare_create(&mut self, _gates: &FeatureGates) {
        self.status = Some(DeploymentStatus::default());
    }

    fn prepare_update(&mut self, old: &Self, _gates: &FeatureGates) {
        self.status.clone_from(&old.status);
    }

    fn prepare_status(&mut self, old: &Self) {
        self.spec.clone_from(&old.spec);
        self.metadata.labels.clone_from(&old.metadata.labels);
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
        if let (Some(new), Some(old)) = (&self.spec, &old.spec) {
            let at = FieldPath::new("spec.selector");
            meta::immutable(&mut errors, &at, &new.selector, &old.selector);
        }
        bounded(errors)
    }

    fn validate_status(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        let (none, at) = (DeploymentStatus::default(), FieldPath::new("status"));
        let status = self.status.as_ref().unwrap_or(&none);
        let before = old.status.as_ref().unwrap_or(&none);
        errors.extend(validate_status(status));
        not_decremented(
            &mut errors,
            &at.child("collisionCount"),
            status.collision_count,
            before.collision_count,
        );
        errors
    }
}

fn spec_errors(deployment: &Deployment) -> Vec<FieldError> {
    let none = DeploymentSpec::default();
    validate_spec(deployment.spec.as_ref().unwrap_or(&none))
}

fn validate_spec(spec: &DeploymentSpec) -> Vec<FieldError> {
    let at = FieldPath::new("spec");
    let mut errors = Vec::new();
    non_negative(&mut errors, &at.child("replicas"), spec.replicas);
    errors.extend(template::validate_selector(
        &spec.selector,
        &at.child("selector"),
    ));
    let selector = Some(&spec.selector).filter(|s| !selector::is_empty(s));
    errors.extend(template::validate_selected(
        &spec.template,
        selector,
        "ReplicaSet",
        &at.child("template"),
    ));
    let none = DeploymentStrategy::default();
    let strategy = spec.strategy.as_ref().unwrap_or(&none);
    errors.extend(validate_strategy(strategy, &at.child("strategy")));
    non_negative(
        &mut errors,
        &at.child("minReadySeconds"),
        spec.min_ready_seconds,
    );
    non_negative(
        &mut errors,
        &at.child("revisionHistoryLimit"),
        spec.revision_history_limit,
    );
    let deadline_at = at.child("progressDeadlineSeconds");
    non_negative(&mut errors, &deadline_at, spec.progress_deadline_seconds);
    if let Some(deadline) = spec.progress_deadline_seconds
        && deadline <= spec.min_ready_seconds.unwrap_or(0)
    {
        let why = "must be greater than minReadySeconds";
        errors.push(FieldError::invalid(&deadline_at, deadline, why));
    }
    errors
}

fn validate_strategy(strategy: &DeploymentStrategy, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let rolling_at = at.child("rollingUpdate");
    match (
        strategy.type_.as_deref().unwrap_or_default(),
        &strategy.rolling_update,
    ) {
        (RECREATE, Some(_)) => errors.push(FieldError::forbidden(
            &rolling_at,
            "may not be specified when strategy `type` is 'Recreate'",
        )),
        (ROLLING_UPDATE, Some(rolling)) => errors.extend(validate_rolling(rolling, &rolling_at)),
        (other, _) => {
            one_of(
                &mut errors,
                &at.child("type"),
                other,
                &[RECREATE, ROLLING_UPDATE],
            );
        }
    }
    errors
}

fn validate_rolling(rolling: &RollingUpdateDeployment, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (unavailable_at, surge_at) = (at.child("maxUnavailable"), at.child("maxSurge"));
    let (unavailable, surge) = (rolling.max_unavailable.as_ref(), rolling.max_surge.as_ref());
    if let Some(value) = unavailable {
        int_or_percent(&mut errors, &unavailable_at, value);
    }
    if let Some(value) = surge {
        int_or_percent(&mut errors, &surge_at, value);
    }
    if is_none_of_all(unavailable) && is_none_of_all(surge) {
        let why = "may not be 0 when `maxSurge` is 0";
        errors.push(FieldError::invalid(&unavailable_at, unavailable, why));
    }
    if let Some(value) = unavailable {
        at_most_all(&mut errors, &unavailable_at, value);
    }
    errors
}

fn validate_status(status: &DeploymentStatus) -> Vec<FieldError> {
    let at = FieldPath::new("status");
    let mut errors = Vec::new();
    non_negative(
        &mut errors,
        &at.child("observedGeneration"),
        status.observed_generation,
    );
    let total = status.replicas.unwrap_or(0);
    for (name, value) in [
        ("replicas", status.replicas),
        ("updatedReplicas", status.updated_replicas),
        ("readyReplicas", status.ready_replicas),
        ("availableReplicas", status.available_replicas),
        ("unavailableReplicas", status.unavailable_replicas),
        ("terminatingReplicas", status.terminating_replicas),
        ("collisionCount", status.collision_count),
    ] {
        non_negative(&mut errors, &at.child(name), value);
        let is_part = matches!(
            name,
            "updatedReplicas" | "readyReplicas" | "availableReplicas"
        );
        if let Some(value) = value.filter(|value| is_part && *value > total) {
            let why = "cannot be greater than status.replicas";
            errors.push(FieldError::invalid(&at.child(name), value, why));
        }
    }
    let available = status.available_replicas.unwrap_or(0);
    if available > status.ready_replicas.unwrap_or(0) {
        let why = "cannot be greater than readyReplicas";
        errors.push(FieldError::invalid(
            &at.child("availableReplicas"),
            available,
            why,
        ));
    }
    errors
}
