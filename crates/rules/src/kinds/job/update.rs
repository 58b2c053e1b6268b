//! What an update of a job may change.

use berth_api::field::{FieldError, FieldPath};
use k8s_openapi::api::batch::v1::{JobSpec, JobStatus};
use k8s_openapi::api::core::v1::{Affinity, PodTemplateSpec};

use super::INDEXED;
use crate::values::text;
use berth_core::meta::immutable;

pub(super) fn validate(
    new: &JobSpec,
    old: &JobSpec,
    status: Option<&JobStatus>,
) -> Vec<FieldError> {
    let at = FieldPath::new("spec");
    let mut errors = completions(new, old, &at);
    immutable(
        &mut errors,
        &at.child("selector"),
        &new.selector,
        &old.selector,
    );
    let waits = old.suspend == Some(true) && status.is_none_or(|s| s.start_time.is_none());
    let before = if waits {
        with_directives(&old.template, &new.template)
    } else {
        old.template.clone()
    };
    immutable(&mut errors, &at.child("template"), &new.template, &before);
    immutable(
        &mut errors,
        &at.child("completionMode"),
        &new.completion_mode,
        &old.completion_mode,
    );
    immutable(
        &mut errors,
        &at.child("podFailurePolicy"),
        &new.pod_failure_policy,
        &old.pod_failure_policy,
    );
    immutable(
        &mut errors,
        &at.child("backoffLimitPerIndex"),
        &new.backoff_limit_per_index,
        &old.backoff_limit_per_index,
    );
    immutable(
        &mut errors,
        &at.child("managedBy"),
        &new.managed_by,
        &old.managed_by,
    );
    immutable(
        &mut errors,
        &at.child("successPolicy"),
        &new.success_policy,
        &old.success_policy,
    );
    errors
}

/// An indexed job may be made larger or smaller, when it stays as parallel as it has completions.
fn completions(new: &JobSpec, old: &JobSpec, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let elastic = text(&new.completion_mode) == INDEXED;
    if new.completions == old.completions {
        return errors;
    }
    let at = at.child("completions");
    if elastic && new.completions.is_some() && old.completions.is_some() {
        if new.completions != new.parallelism {
            let why = format!(
                "can only be modified in tandem with {}",
                FieldPath::new("spec").child("parallelism")
            );
            errors.push(FieldError::invalid(&at, new.completions, why));
        }
    } else {
        immutable(&mut errors, &at, &new.completions, &old.completions);
    }
    errors
}

/// The old template with what of the new one says where its pods may run: a job that hasn't begun may still be placed.
fn with_directives(old: &PodTemplateSpec, new: &PodTemplateSpec) -> PodTemplateSpec {
    let mut allowed = old.clone();
    if let (Some(allowed), Some(new)) = (&mut allowed.spec, &new.spec) {
        let node_affinity = new.affinity.as_ref().and_then(|a| a.node_affinity.clone());
        let affinity = allowed.affinity.get_or_insert_default();
        affinity.node_affinity = node_affinity;
        if *affinity == Affinity::default() {
            allowed
                .affinity
                .clone_from(&new.affinity.clone().filter(|a| *a == Affinity::default()));
        }
        allowed.node_selector.clone_from(&new.node_selector);
        allowed.tolerations.clone_from(&new.tolerations);
        allowed.scheduling_gates.clone_from(&new.scheduling_gates);
    }
    if let (Some(allowed), Some(new)) = (&mut allowed.metadata, &new.metadata) {
        allowed.labels.clone_from(&new.labels);
        allowed.annotations.clone_from(&new.annotations);
    }
    allowed
}
