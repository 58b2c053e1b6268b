//! The conditions of a Job: suspended, about to end, ended.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub(super) const SUSPENDED: &str = "Suspended";
const FAILURE_TARGET: &str = "FailureTarget";
const SUCCESS_CRITERIA_MET: &str = "SuccessCriteriaMet";
const FAILED: &str = "Failed";
const COMPLETE: &str = "Complete";

/// A condition as it is to be.
pub(super) struct Condition {
    pub(super) type_: &'static str,
    status: &'static str,
    reason: String,
    pub(super) message: String,
}

/// Why a Job ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It can't succeed any more.
    Failed {
        reason: &'static str,
        message: String,
    },
    /// It has succeeded.
    Succeeded {
        reason: &'static str,
        message: String,
    },
}

impl End {
    /// While its pods end.
    pub(super) fn interim(&self) -> Condition {
        self.condition(FAILURE_TARGET, SUCCESS_CRITERIA_MET)
    }

    /// When they have.
    pub(super) fn terminal(&self) -> Condition {
        self.condition(FAILED, COMPLETE)
    }

    fn condition(&self, failed: &'static str, succeeded: &'static str) -> Condition {
        let (type_, reason, message) = match self {
            Self::Failed { reason, message } => (failed, reason, message),
            Self::Succeeded { reason, message } => (succeeded, reason, message),
        };
        Condition {
            type_,
            status: "True",
            reason: (*reason).to_owned(),
            message: message.clone(),
        }
    }

    /// What an earlier look at the Job decided; it stays so.
    pub(super) fn of(status: &JobStatus) -> Option<Self> {
        let target = |type_| find(status, type_).filter(|c| c.status == "True");
        let message = |c: &JobCondition| c.message.clone().unwrap_or_default();
        if let Some(c) = target(FAILURE_TARGET) {
            return Some(Self::Failed {
                reason: failure_reason(c.reason.as_deref()),
                message: message(c),
            });
        }
        let c = target(SUCCESS_CRITERIA_MET)?;
        Some(Self::Succeeded {
            reason: match c.reason.as_deref() {
                Some("SuccessPolicy") => "SuccessPolicy",
                _ => "CompletionsReached",
            },
            message: message(c),
        })
    }
}

/// The reasons of a failure, as they are written.
fn failure_reason(reason: Option<&str>) -> &'static str {
    let known = [
        "PodFailurePolicy",
        "DeadlineExceeded",
        "MaxFailedIndexesExceeded",
        "FailedIndexes",
    ];
    let reason = known.into_iter().find(|known| reason == Some(known));
    reason.unwrap_or("BackoffLimitExceeded")
}

pub(super) fn suspended() -> Condition {
    Condition {
        type_: SUSPENDED,
        status: "True",
        reason: "JobSuspended".to_owned(),
        message: "Job suspended".to_owned(),
    }
}

pub(super) fn resumed() -> Condition {
    Condition {
        type_: SUSPENDED,
        status: "False",
        reason: "JobResumed".to_owned(),
        message: "Job resumed".to_owned(),
    }
}

fn find<'a>(status: &'a JobStatus, type_: &str) -> Option<&'a JobCondition> {
    let conditions = status.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == type_)
}

pub(super) fn is_true(status: &JobStatus, type_: &str) -> bool {
    find(status, type_).is_some_and(|c| c.status == "True")
}

/// It has a condition `Complete` or `Failed`.
#[must_use]
pub fn is_finished(job: &Job) -> bool {
    let status = job.status.as_ref();
    status.is_some_and(|status| is_true(status, COMPLETE) || is_true(status, FAILED))
}

/// Puts a condition in place of the older one of its type. One of the same status stays as it is.
pub(super) fn set(status: &mut JobStatus, new: Condition, now: Timestamp) {
    if find(status, new.type_).is_some_and(|old| old.status == new.status) {
        return;
    }
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|c| c.type_ != new.type_);
    conditions.push(JobCondition {
        type_: new.type_.to_owned(),
        status: new.status.to_owned(),
        reason: Some(new.reason),
        message: Some(new.message),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    });
}
