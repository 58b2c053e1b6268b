//! The status of a job.

use berth_api::field::{FieldError, FieldPath};
use k8s_openapi::api::batch::v1::JobStatus;

use crate::values::non_negative;

/// What holds for a status whatever was there before.
pub(super) fn validate(status: &JobStatus) -> Vec<FieldError> {
    let at = FieldPath::new("status");
    let mut errors = Vec::new();
    for (name, value) in [
        ("active", status.active),
        ("succeeded", status.succeeded),
        ("failed", status.failed),
        ("ready", status.ready),
        ("terminating", status.terminating),
    ] {
        non_negative(&mut errors, &at.child(name), value);
    }
    let (active, ready) = (status.active.unwrap_or(0), status.ready.unwrap_or(0));
    if ready > active {
        let why = "cannot set more ready pods than active";
        errors.push(FieldError::invalid(&at.child("ready"), ready, why));
    }
    if let (Some(start), Some(end)) = (&status.start_time, &status.completion_time)
        && end.0 < start.0
    {
        let why = "completionTime cannot be set before startTime";
        errors.push(FieldError::invalid(&at.child("completionTime"), end, why));
    }
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let is = |kind: &str| {
        conditions
            .iter()
            .any(|c| c.type_ == kind && c.status == "True")
    };
    let conditions_at = at.child("conditions");
    for (one, other) in [
        ("Complete", "Failed"),
        ("Complete", "FailureTarget"),
        ("SuccessCriteriaMet", "Failed"),
        ("SuccessCriteriaMet", "FailureTarget"),
    ] {
        if is(one) && is(other) {
            let why = format!("cannot set {one}=True and {other}=true conditions");
            errors.push(FieldError::invalid(&conditions_at, conditions, why));
        }
    }
    if is("Complete") && status.completion_time.is_none() {
        let why = "completionTime is required for Complete jobs";
        errors.push(FieldError::required(&at.child("completionTime"), why));
    }
    if (is("Complete") || is("Failed")) && active > 0 {
        let why = "active>0 is invalid for finished job";
        errors.push(FieldError::invalid(&at.child("active"), active, why));
    }
    errors
}
