//! apps/v1 DaemonSet.

use berth_api::field::{FieldError, FieldPath, bounded};
use berth_api::names;
use berth_core::selector;
use k8s_openapi::api::apps::v1::{
    DaemonSet, DaemonSetSpec, DaemonSetStatus, DaemonSetUpdateStrategy, RollingUpdateDaemonSet,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::Rules;
use crate::pod::template;
use crate::values::{
    at_most_all, default_text, int_or_percent, is_none_of_all, non_negative, not_decremented, text,
};
use berth_core::gates::FeatureGates;
use berth_core::meta::{self, Scope};

const ROLLING_UPDATE: &str = "RollingUpdate";
const ON_DELETE: &str = "OnDelete";
/// How many templates there have been; in apps/v1 an annotation.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

impl Rules for DaemonSet {
    fn default(&mut self) {
        let Some(spec) = &mut self.spec else {
            return;
        };
        template::set_defaults(&mut spec.template);
        let strategy = spec.update_strategy.get_or_insert_default();
        default_text(&mut strategy.type_, ROLLING_UPDATE);
        if strategy.type_.as_deref() == Some(ROLLING_UPDATE) {
            let rolling = strategy.rolling_update.get_or_insert_default();
            rolling.max_unavailable.get_or_insert(IntOrString::Int(1));
            rolling.max_surge.get_or_insert(IntOrString::Int(0));
        }
        spec.revision_history_limit.get_or_insert(10);
    }

    fn prepare_create(&mut self, _gates: &FeatureGates) {
        self.status = Some(DaemonSetStatus::default());
        set_template_generation(self, 1);
    }

    fn prepare_update(&mut self, old: &Self, _gates: &FeatureGates) {
        self.status.clone_from(&old.status);
        let template = |set: &Self| set.spec.as_ref().map(|s| s.template.clone());
        let is_new = template(self) != template(old);
        let annotations = old.metadata.annotations.as_ref();
        let before = annotations.and_then(|a| a.get(TEMPLATE_GENERATION));
        let before: i64 = before.and_then(|text| text.parse().ok()).unwrap_or(1);
        set_template_generation(self, before.saturating_add(i64::from(is_new)));
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
        if let (Some(new), Some(old)) = (&self.spec, &old.spec) {
            let at = FieldPath::new("spec.selector");
            meta::immutable(&mut errors, &at, &new.selector, &old.selector);
        }
        bounded(errors)
    }

    fn validate_status(&self, old: &Self) -> Vec<FieldError> {
        let none = DaemonSetStatus::default();
        let status = self.status.as_ref().unwrap_or(&none);
        let before = old.status.as_ref().unwrap_or(&none);
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        let at = FieldPath::new("status");
        for (name, value) in [
            (
                "currentNumberScheduled",
                Some(status.current_number_scheduled),
            ),
            ("numberMisscheduled", Some(status.number_misscheduled)),
            (
                "desiredNumberScheduled",
                Some(status.desired_number_scheduled),
            ),
            ("numberReady", Some(status.number_ready)),
            ("updatedNumberScheduled", status.updated_number_scheduled),
            ("numberAvailable", status.number_available),
            ("numberUnavailable", status.number_unavailable),
            ("collisionCount", status.collision_count),
        ] {
            non_negative(&mut errors, &at.child(name), value);
        }
        non_negative(
            &mut errors,
            &at.child("observedGeneration"),
            status.observed_generation,
        );
        not_decremented(
            &mut errors,
            &at.child("collisionCount"),
            status.collision_count,
            before.collision_count,
        );
        errors
    }
}

fn set_template_generation(set: &mut DaemonSet, generation: i64) {
    let annotations = set.metadata.annotations.get_or_insert_default();
    annotations.insert(TEMPLATE_GENERATION.to_owned(), generation.to_string());
}

fn spec_errors(set: &DaemonSet) -> Vec<FieldError> {
    let none = DaemonSetSpec::default();
    let spec = set.spec.as_ref().unwrap_or(&none);
    let at = FieldPath::new("spec");
    let mut errors = template::validate_selector(&spec.selector, &at.child("selector"));
    let selector = Some(&spec.selector).filter(|s| !selector::is_empty(s));
    let made_at = at.child("template");
    errors.extend(template::validate_selected(
        &spec.template,
        selector,
        "DaemonSet",
        &made_at,
    ));
    non_negative(
        &mut errors,
        &at.child("minReadySeconds"),
        spec.min_ready_seconds,
    );
    let none = DaemonSetUpdateStrategy::default();
    let strategy = spec.update_strategy.as_ref().unwrap_or(&none);
    errors.extend(validate_strategy(strategy, &at.child("updateStrategy")));
    non_negative(
        &mut errors,
        &at.child("revisionHistoryLimit"),
        spec.revision_history_limit,
    );
    errors
}

fn validate_strategy(strategy: &DaemonSetUpdateStrategy, at: &FieldPath) -> Vec<FieldError> {
    let rolling_at = at.child("rollingUpdate");
    match (text(&strategy.type_), &strategy.rolling_update) {
        (ON_DELETE, _) => Vec::new(),
        (ROLLING_UPDATE, None) => vec![FieldError::required(&rolling_at, "")],
        (ROLLING_UPDATE, Some(rolling)) => validate_rolling(rolling, &rolling_at),
        (_, _) => vec![FieldError::not_supported(
            at,
            strategy,
            &[ROLLING_UPDATE, ON_DELETE],
        )],
    }
}

fn validate_rolling(rolling: &RollingUpdateDaemonSet, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (unavailable, surge) = (rolling.max_unavailable.as_ref(), rolling.max_surge.as_ref());
    for (name, value) in [("maxUnavailable", unavailable), ("maxSurge", surge)] {
        if let Some(value) = value {
            int_or_percent(&mut errors, &at.child(name), value);
            at_most_all(&mut errors, &at.child(name), value);
        }
    }
    match (is_none_of_all(unavailable), is_none_of_all(surge)) {
        (false, false) => errors.push(FieldError::invalid(
            &at.child("maxSurge"),
            surge,
            "may not be set when maxUnavailable is non-zero",
        )),
        (true, true) => errors.push(FieldError::required(
            &at.child("maxUnavailable"),
            "cannot be 0 when maxSurge is 0",
        )),
        (true, false) | (false, true) => {}
    }
    errors
}
