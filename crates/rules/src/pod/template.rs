//! Pod templates: what workloads make their pods from.

use std::collections::BTreeMap;

use berth_api::field::{FieldError, FieldPath};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::{default, validate};
use berth_core::{meta, selector};

const MISMATCH: &str = "`selector` does not match template `labels`";

/// The labels of the pods.
#[must_use]
pub fn labels(template: &PodTemplateSpec) -> Option<&BTreeMap<String, String>> {
    template.metadata.as_ref()?.labels.as_ref()
}

/// Sets the defaults of unset fields; those that only a pod itself has (such as requests that follow from limits) are
/// set when it is made.
pub fn set_defaults(template: &mut PodTemplateSpec) {
    let metadata = template.metadata.get_or_insert_default();
    metadata.labels.take_if(|labels| labels.is_empty());
    metadata
        .annotations
        .take_if(|annotations| annotations.is_empty());
    default::template(template.spec.get_or_insert_default());
}

/// What is wrong with a template, whatever the workload.
#[must_use]
pub fn validate(template: &PodTemplateSpec, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Some(metadata) = &template.metadata {
        if let Some(labels) = &metadata.labels {
            errors.extend(meta::validate_labels(labels, &at.child("labels")));
        }
        if let Some(annotations) = &metadata.annotations {
            errors.extend(meta::validate_annotations(
                annotations,
                &at.child("annotations"),
            ));
        }
    }
    errors.extend(validate::template(template, at));
    errors
}

/// A template of pods that run for ever, under a selector (none: there is none, which is reported elsewhere).
#[must_use]
pub fn validate_selected(
    template: &PodTemplateSpec,
    selector: Option<&LabelSelector>,
    kind: &str,
    at: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let matches = selector.is_some_and(|s| selector::label_selector_matches(s, labels(template)));
    if !matches {
        errors.push(mismatch(template, at));
    }
    errors.extend(validate(template, at));
    errors.extend(runs_for_ever(template, kind, at));
    errors
}

/// The error that the selector does not select the pods of the template.
#[must_use]
pub fn mismatch(template: &PodTemplateSpec, at: &FieldPath) -> FieldError {
    FieldError::invalid(&at.child("metadata.labels"), labels(template), MISMATCH)
}

/// Pods that are replaced when they end are always restarted, and have no deadline.
#[must_use]
pub fn runs_for_ever(template: &PodTemplateSpec, kind: &str, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = template.spec.as_ref();
    let policy = spec
        .and_then(|s| s.restart_policy.as_deref())
        .unwrap_or_default();
    let at = at.child("spec");
    if policy != "Always" {
        errors.push(FieldError::not_supported(
            &at.child("restartPolicy"),
            policy,
            &["Always"],
        ));
    }
    if spec.is_some_and(|s| s.active_deadline_seconds.is_some()) {
        let why = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.push(FieldError::forbidden(
            &at.child("activeDeadlineSeconds"),
            why,
        ));
    }
    errors
}

/// The selector of a workload: required, well formed and not empty. The wire cannot tell an absent one from an empty one.
#[must_use]
pub fn validate_selector(selector: &LabelSelector, at: &FieldPath) -> Vec<FieldError> {
    if selector::is_empty(selector) {
        return vec![FieldError::required(at, "")];
    }
    meta::validate_label_selector(selector, at)
}
