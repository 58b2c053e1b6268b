//! batch/v1 CronJob.

use berth_api::field::{FieldError, FieldPath, bounded};
use berth_api::names;
use k8s_openapi::api::batch::v1::{CronJob, JobTemplateSpec};

use super::job;
use crate::Rules;
use crate::pod::template;
use crate::rules::spec_and_status;
use crate::values::{default_text, non_negative, one_of, text};
use berth_core::meta::{self, Scope};

/// A job's name is this one and ten or eleven characters.
const MAX_NAME: usize = 52;

impl Rules for CronJob {
    fn default(&mut self) {
        let spec = &mut self.spec;
        default_text(&mut spec.concurrency_policy, "Allow");
        spec.suspend.get_or_insert(false);
        spec.successful_jobs_history_limit.get_or_insert(3);
        spec.failed_jobs_history_limit.get_or_insert(1);
        spec.job_template.metadata.get_or_insert_default();
        template::set_defaults(&mut spec.job_template.spec.get_or_insert_default().template);
    }

    spec_and_status!();

    fn validate(&self) -> Vec<FieldError> {
        let mut errors =
            meta::validate(&self.metadata, Scope::Namespaced, names::dns1123_subdomain);
        let name = text(&self.metadata.name);
        if name.len() > MAX_NAME {
            let why = format!("must be no more than {MAX_NAME} characters");
            errors.push(FieldError::invalid(
                &FieldPath::new("metadata.name"),
                name,
                why,
            ));
        }
        errors.extend(spec_errors(self));
        bounded(errors)
    }

    fn validate_update(&self, old: &Self) -> Vec<FieldError> {
        let mut errors = meta::validate_update(&self.metadata, &old.metadata);
        errors.extend(spec_errors(self));
        bounded(errors)
    }

    fn validate_status(&self, old: &Self) -> Vec<FieldError> {
        meta::validate_update(&self.metadata, &old.metadata)
    }
}

fn spec_errors(job: &CronJob) -> Vec<FieldError> {
    let spec = &job.spec;
    let at = FieldPath::new("spec");
    let mut errors = Vec::new();
    let schedule_at = at.child("schedule");
    if spec.schedule.is_empty() {
        errors.push(FieldError::required(&schedule_at, ""));
    } else if spec.schedule.contains("TZ") {
        let why = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        errors.push(FieldError::invalid(&schedule_at, &spec.schedule, why));
    } else if let Err(why) = berth_core::cron::Schedule::parse(&spec.schedule) {
        errors.push(FieldError::invalid(&schedule_at, &spec.schedule, why));
    }
    non_negative(
        &mut errors,
        &at.child("startingDeadlineSeconds"),
        spec.starting_deadline_seconds,
    );
    if let Some(zone) = &spec.time_zone {
        errors.extend(time_zone(zone, &at.child("timeZone")));
    }
    let policy = text(&spec.concurrency_policy);
    let policies = ["Allow", "Forbid", "Replace"];
    one_of(
        &mut errors,
        &at.child("concurrencyPolicy"),
        policy,
        &policies,
    );
    errors.extend(validate_template(
        &spec.job_template,
        &at.child("jobTemplate"),
    ));
    for (name, value) in [
        (
            "successfulJobsHistoryLimit",
            spec.successful_jobs_history_limit,
        ),
        ("failedJobsHistoryLimit", spec.failed_jobs_history_limit),
    ] {
        non_negative(&mut errors, &at.child(name), value);
    }
    errors
}

/// The name of a time zone has the form of one; whether it is known is for who computes with it.
fn time_zone(zone: &str, at: &FieldPath) -> Vec<FieldError> {
    if zone.is_empty() {
        let why = "timeZone must be nil or non-empty string";
        return vec![FieldError::invalid(at, zone, why)];
    }
    if zone.eq_ignore_ascii_case("local") {
        let why =
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        return vec![FieldError::invalid(at, zone, why)];
    }
    let is_name = |part: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+');
        part.bytes().next().is_some_and(|b| b.is_ascii_alphabetic()) && part.bytes().all(inner)
    };
    if !zone.split('/').all(is_name) {
        let why = format!("unknown time zone {zone}");
        return vec![FieldError::invalid(at, zone, why)];
    }
    Vec::new()
}

fn validate_template(made: &JobTemplateSpec, at: &FieldPath) -> Vec<FieldError> {
    let spec = made.spec.clone().unwrap_or_default();
    let at = at.child("spec");
    let mut errors = job::validate_spec(&spec, &at);
    if let Some(selector) = &spec.selector {
        let why = "`selector` will be auto-generated";
        errors.push(FieldError::invalid(&at.child("selector"), selector, why));
    }
    if spec.manual_selector == Some(true) {
        let at = at.child("manualSelector");
        errors.push(FieldError::not_supported(&at, true, &["nil", "false"]));
    }
    errors
}
