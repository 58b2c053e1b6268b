//! batch/v1 Job.

mod policies;
mod selector;
mod status;
mod update;

use berth_api::field::{FieldError, FieldPath, bounded};
use berth_api::names;
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};

use crate::Rules;
use crate::pod::template;
use crate::values::{default_text, non_negative, one_of_if_set, text};
use berth_core::gates::FeatureGates;
use berth_core::meta::{self, Scope};

const INDEXED: &str = "Indexed";
/// How many completions or parallel pods an indexed job has at most.
const MAX_INDEXES: i32 = 100_000;

impl Rules for Job {
    fn default(&mut self) {
        let Some(spec) = &mut self.spec else {
            return;
        };
        template::set_defaults(&mut spec.template);
        if spec.completions.is_none() && spec.parallelism.is_none() {
            spec.completions = Some(1);
            spec.parallelism = Some(1);
        }
        spec.parallelism.get_or_insert(1);
        let per_index = spec.backoff_limit_per_index.is_some();
        spec.backoff_limit
            .get_or_insert(if per_index { i32::MAX } else { 6 });
        default_text(&mut spec.completion_mode, "NonIndexed");
        spec.suspend.get_or_insert(false);
        spec.manual_selector.get_or_insert(false);
        let replaced = if spec.pod_failure_policy.is_some() {
            "Failed"
        } else {
            "TerminatingOrFailed"
        };
        default_text(&mut spec.pod_replacement_policy, replaced);
        policies::set_defaults(spec);
        if self
            .metadata
            .labels
            .as_ref()
            .is_none_or(|labels| labels.is_empty())
        {
            self.metadata.labels = template::labels(&spec.template).cloned();
        }
    }

    fn prepare_create(&mut self, _gates: &FeatureGates) {
        self.status = Some(JobStatus::default());
        selector::generate(self);
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
        errors.extend(selector::validate_generated(self));
        let spec = self.spec.clone().unwrap_or_default();
        errors.extend(validate_selected(&spec));
        errors.extend(index_names(self, &spec));
        bounded(errors)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        if let (Some(new), Some(before)) = (&self.spec, &old.spec) {
            errors.extend(validate_selected(new));
            errors.extend(update::validate(new, before, old.status.as_ref()));
        }
        bounded(errors)
    }

    fn validate_status(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(
            self.status
                .as_ref()
                .map(status::validate)
                .unwrap_or_default(),
        );
        bounded(errors)
    }
}

/// Pods of an indexed job are named after their index, and must have a name that is a host name.
fn index_names(job: &Job, spec: &JobSpec) -> Vec<FieldError> {
    let completions = spec.completions.filter(|c| *c > 0);
    let (true, Some(completions)) = (text(&spec.completion_mode) == INDEXED, completions) else {
        return Vec::new();
    };
    let name = text(&job.metadata.name);
    let pod = format!("{name}-{}", completions - 1);
    let wrong = names::dns1123_label(&pod).into_iter();
    let why = |w| format!("will not able to create pod with invalid DNS label {pod:?}: {w}");
    wrong
        .map(|w| FieldError::invalid(&FieldPath::new("metadata.name"), name, why(w)))
        .collect()
}

/// A spec with the selector that it has once it is stored.
fn validate_selected(spec: &JobSpec) -> Vec<FieldError> {
    let at = FieldPath::new("spec");
    let mut errors = validate_spec(spec, &at);
    match &spec.selector {
        None => errors.push(FieldError::required(&at.child("selector"), "")),
        Some(selector) => {
            errors.extend(meta::validate_label_selector(
                selector,
                &at.child("selector"),
            ));
            let labels = template::labels(&spec.template);
            if !berth_core::selector::label_selector_matches(selector, labels) {
                errors.push(template::mismatch(&spec.template, &at.child("template")));
            }
        }
    }
    errors
}

/// All of a spec but its selector.
pub(super) fn validate_spec(spec: &JobSpec, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (name, value) in [
        ("parallelism", spec.parallelism.map(i64::from)),
        ("completions", spec.completions.map(i64::from)),
        ("activeDeadlineSeconds", spec.active_deadline_seconds),
        ("backoffLimit", spec.backoff_limit.map(i64::from)),
        (
            "ttlSecondsAfterFinished",
            spec.ttl_seconds_after_finished.map(i64::from),
        ),
        (
            "backoffLimitPerIndex",
            spec.backoff_limit_per_index.map(i64::from),
        ),
        ("maxFailedIndexes", spec.max_failed_indexes.map(i64::from)),
    ] {
        non_negative(&mut errors, &at.child(name), value);
    }
    errors.extend(indexes(spec, at));
    if let Some(manager) = &spec.managed_by {
        errors.extend(managed_by(manager, &at.child("managedBy")));
    }
    errors.extend(policies::validate(spec, at));
    let template_at = at.child("template");
    errors.extend(template::validate(&spec.template, &template_at));
    let pods = spec.template.spec.as_ref();
    let policy = pods
        .and_then(|s| s.restart_policy.as_deref())
        .unwrap_or_default();
    let policy_at = template_at.child("spec.restartPolicy");
    if !matches!(policy, "OnFailure" | "Never") {
        errors.push(FieldError::not_supported(
            &policy_at,
            policy,
            &["OnFailure", "Never"],
        ));
    } else if spec.pod_failure_policy.is_some() && policy != "Never" {
        errors.push(FieldError::invalid(
            &policy_at,
            policy,
            "only \"Never\" is supported when podFailurePolicy is specified",
        ));
    }
    errors
}

/// What an indexed job must have, and what only such a job may have.
fn indexes(spec: &JobSpec, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mode = text(&spec.completion_mode);
    let mode_at = at.child("completionMode");
    one_of_if_set(
        &mut errors,
        &mode_at,
        Some(mode).filter(|m| !m.is_empty()),
        &["NonIndexed", INDEXED],
    );
    if mode == INDEXED {
        let completions_at = at.child("completions");
        if spec.completions.is_none() {
            let why = "when completion mode is Indexed";
            errors.push(FieldError::required(&completions_at, why));
        }
        let most =
            format!("must be less than or equal to {MAX_INDEXES} when completion mode is Indexed");
        if let Some(count) = spec.parallelism.filter(|p| *p > MAX_INDEXES) {
            errors.push(FieldError::invalid(&at.child("parallelism"), count, most));
        }
        let most = format!(
            "must be less than or equal to {MAX_INDEXES} when backoffLimitPerIndex or maxFailedIndexes is specified"
        );
        let per_index = spec.backoff_limit_per_index.is_some() || spec.max_failed_indexes.is_some();
        if let Some(count) = spec.completions.filter(|c| per_index && *c > MAX_INDEXES) {
            errors.push(FieldError::invalid(&completions_at, count, most));
        }
        if let (Some(failed), Some(completions)) = (spec.max_failed_indexes, spec.completions)
            && failed > completions
        {
            let why = "must be less than or equal to completions";
            errors.push(FieldError::invalid(
                &at.child("maxFailedIndexes"),
                failed,
                why,
            ));
        }
    } else {
        let why = "requires indexed completion mode";
        for (name, value) in [
            ("backoffLimitPerIndex", spec.backoff_limit_per_index),
            ("maxFailedIndexes", spec.max_failed_indexes),
        ] {
            if let Some(value) = value {
                errors.push(FieldError::invalid(&at.child(name), value, why));
            }
        }
    }
    if spec.max_failed_indexes.is_some() && spec.backoff_limit_per_index.is_none() {
        let why = "when maxFailedIndexes is specified";
        errors.push(FieldError::required(&at.child("backoffLimitPerIndex"), why));
    }
    let replaced = Some(text(&spec.pod_replacement_policy)).filter(|p| !p.is_empty());
    let policy_at = at.child("podReplacementPolicy");
    if spec.pod_failure_policy.is_some() {
        one_of_if_set(&mut errors, &policy_at, replaced, &["Failed"]);
    } else {
        one_of_if_set(
            &mut errors,
            &policy_at,
            replaced,
            &["Failed", "TerminatingOrFailed"],
        );
    }
    errors
}

/// `example.com/name`.
fn managed_by(manager: &str, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if manager.len() > 63 {
        errors.push(FieldError::too_long(at, 63));
    }
    match manager.split_once('/') {
        Some((domain, path)) if !domain.is_empty() && !path.is_empty() => {
            meta::extend_invalid(&mut errors, at, domain, names::dns1123_subdomain(domain));
        }
        _ => errors.push(FieldError::invalid(
            at,
            manager,
            "must be a domain-prefixed path (such as \"acme.io/foo\")",
        )),
    }
    errors
}
