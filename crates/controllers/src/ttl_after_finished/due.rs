//! When a Job is to be deleted.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;

/// Why nobody can say when a Job is to be deleted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum DueError {
    /// The condition has no time.
    #[error(
        "unable to find the time when the Job finished: its condition {condition} has no lastTransitionTime"
    )]
    NoTime { condition: String },
}

/// How long a Job is still to be kept, zero when it is to be deleted now; none for one that is not deleted for its age:
/// it goes already, has not finished, or has no time to live.
///
/// # Errors
/// When its status does not say when it finished.
pub(super) fn time_left(job: &Job, now: Timestamp) -> Result<Option<Duration>, DueError> {
    let ttl = job.spec.as_ref().and_then(|s| s.ttl_seconds_after_finished);
    let (Some(ttl), None) = (ttl, &job.metadata.deletion_timestamp) else {
        return Ok(None);
    };
    let Some(finished) = finished_at(job)? else {
        return Ok(None);
    };
    // What no clock can show never comes.
    let Ok(end) = finished.checked_add(SignedDuration::from_secs(ttl.max(0).into())) else {
        return Ok(None);
    };
    let left = Duration::try_from(end.duration_since(now)).unwrap_or_default();
    Ok(Some(left))
}

/// When a Job finished, none when it hasn't.
fn finished_at(job: &Job) -> Result<Option<Timestamp>, DueError> {
    let conditions = job.status.as_ref().and_then(|s| s.conditions.as_ref());
    let finished = conditions
        .into_iter()
        .flatten()
        .find(|c| c.status == "True" && matches!(c.type_.as_str(), "Complete" | "Failed"));
    let Some(condition) = finished else {
        return Ok(None);
    };
    match &condition.last_transition_time {
        Some(time) => Ok(Some(time.0)),
        None => Err(DueError::NoTime {
            condition: condition.type_.clone(),
        }),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A Job that finished at this time.
    pub(in super::super) fn job(ttl: Option<i32>, condition: Value) -> Job {
        serde_json::from_value(json!({
            "metadata": {"name": "j", "namespace": "n", "uid": "u", "resourceVersion": "7"},
            "spec": {"ttlSecondsAfterFinished": ttl, "template": {}},
            "status": {"conditions": [{"type": "Suspended", "status": "True"}, condition]},
        }))
        .expect("a Job")
    }

    pub(in super::super) fn condition(kind: &str, status: &str, at: &str) -> Value {
        json!({"type": kind, "status": status, "lastTransitionTime": at})
    }

    #[test]
    fn a_job_is_due_when_its_time_is_over() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().expect("a time");
        let at = "2026-01-01T00:00:30Z";
        let left = |ttl, kind, status, at: &str| {
            let left = time_left(&job(ttl, condition(kind, status, at)), now);
            left.expect("it has a time").map(|left| left.as_secs())
        };
        for (ttl, kind, status, at, want) in [
            (Some(40), "Complete", "True", at, Some(10)),
            (Some(40), "Failed", "True", at, Some(10)),
            (Some(30), "Complete", "True", at, Some(0)),
            (Some(0), "Complete", "True", at, Some(0)),
            (None, "Complete", "True", at, None),
            (Some(0), "Complete", "False", at, None),
            (Some(0), "SuccessCriteriaMet", "True", at, None),
            (Some(0), "FailureTarget", "True", at, None),
            // The clock of who wrote it is ahead.
            (
                Some(5),
                "Complete",
                "True",
                "2026-01-01T00:02:00Z",
                Some(65),
            ),
            (
                Some(i32::MAX),
                "Complete",
                "True",
                "9999-12-30T00:00:00Z",
                None,
            ),
        ] {
            assert_eq!(
                left(ttl, kind, status, at),
                want,
                "{ttl:?} {kind} {status} {at}"
            );
        }
    }

    #[test]
    fn a_job_that_goes_already_is_left_alone() {
        let mut job = job(
            Some(0),
            condition("Complete", "True", "2026-01-01T00:00:00Z"),
        );
        job.metadata.deletion_timestamp = Some(
            k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH),
        );
        assert_eq!(time_left(&job, Timestamp::MAX), Ok(None));
    }

    #[test]
    fn a_job_that_does_not_say_when_it_finished_is_kept() {
        let job = job(Some(0), json!({"type": "Complete", "status": "True"}));
        let error = time_left(&job, Timestamp::MAX).expect_err("no time");
        assert_eq!(
            error.to_string(),
            "unable to find the time when the Job finished: its condition Complete has no lastTransitionTime"
        );
    }
}
