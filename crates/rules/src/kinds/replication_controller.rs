//! core/v1 ReplicationController.

use berth_api::field::{FieldError, FieldPath, bounded};
use berth_api::names;
use k8s_openapi::api::core::v1::{ReplicationController, ReplicationControllerSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::replicas;
use crate::Rules;
use crate::pod::template;
use crate::rules::spec_and_status;
use crate::values::non_negative;
use berth_core::meta::{self, Scope};

impl Rules for ReplicationController {
    fn default(&mut self) {
        let Some(spec) = &mut self.spec else {
            return;
        };
        if let Some(made) = &mut spec.template {
            template::set_defaults(made);
            if let Some(labels) = template::labels(made) {
                if spec.selector.as_ref().is_none_or(|s| s.is_empty()) {
                    spec.selector = Some(labels.clone());
                }
                if self.metadata.labels.as_ref().is_none_or(|l| l.is_empty()) {
                    self.metadata.labels = Some(labels.clone());
                }
            }
        }
        spec.replicas.get_or_insert(1);
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
                terminating: None,
                observed_generation: status.observed_generation,
            }));
        }
        errors
    }
}

fn spec_errors(controller: &ReplicationController) -> Vec<FieldError> {
    let at = FieldPath::new("spec");
    let mut errors = Vec::new();
    let none = ReplicationControllerSpec::default();
    let spec = controller.spec.as_ref().unwrap_or(&none);
    non_negative(
        &mut errors,
        &at.child("minReadySeconds"),
        spec.min_ready_seconds,
    );
    let selector = spec.selector.as_ref().filter(|s| !s.is_empty());
    if selector.is_none() {
        errors.push(FieldError::required(&at.child("selector"), ""));
    }
    non_negative(&mut errors, &at.child("replicas"), spec.replicas);
    let at = at.child("template");
    match &spec.template {
        None => errors.push(FieldError::required(&at, "")),
        Some(made) => {
            let selector = selector.map(|labels| LabelSelector {
                match_labels: Some(labels.clone()),
                match_expressions: None,
            });
            let kind = "ReplicationController";
            let selector = selector.as_ref();
            errors.extend(template::validate_selected(made, selector, kind, &at));
        }
    }
    errors
}
