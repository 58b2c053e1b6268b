//! apps/v1 ReplicaSet.

use berth_api::field::{FieldError, FieldPath, bounded};
use berth_api::names;
use berth_core::selector;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetSpec};

use super::replicas;
use crate::Rules;
use crate::pod::template;
use crate::rules::spec_and_status;
use crate::values::non_negative;
use berth_core::meta::{self, Scope};

impl Rules for ReplicaSet {
    fn default(&mut self) {
        if let Some(spec) = &mut self.spec {
            template::set_defaults(spec.template.get_or_insert_default());
            spec.replicas.get_or_insert(1);
        }
    }

    spec_and_status!();

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
        if let Some(status) = &self.status {
            errors.extend(replicas::validate(&replicas::Counts {
                replicas: status.replicas,
                fully_labeled: status.fully_labeled_replicas,
                ready: status.ready_replicas,
                available: status.available_replicas,
                terminating: status.terminating_replicas,
                observed_generation: status.observed_generation,
            }));
        }
        errors
    }
}

fn spec_errors(set: &ReplicaSet) -> Vec<FieldError> {
    let at = FieldPath::new("spec");
    let mut errors = Vec::new();
    let none = ReplicaSetSpec::default();
    let spec = set.spec.as_ref().unwrap_or(&none);
    non_negative(&mut errors, &at.child("replicas"), spec.replicas);
    non_negative(
        &mut errors,
        &at.child("minReadySeconds"),
        spec.min_ready_seconds,
    );
    errors.extend(template::validate_selector(
        &spec.selector,
        &at.child("selector"),
    ));
    let selector = Some(&spec.selector).filter(|s| !selector::is_empty(s));
    let at = at.child("template");
    match &spec.template {
        None => errors.push(FieldError::required(&at, "")),
        Some(made) => {
            errors.extend(template::validate_selected(
                made,
                selector,
                "ReplicaSet",
                &at,
            ));
        }
    }
    errors
}
