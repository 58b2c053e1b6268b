//! Jobs: pods that end, so many at a time, until enough have succeeded.
//!
//! A finished pod is counted exactly once, however often the controller dies: each pod has a finalizer; its UID is first written into
//! `status.uncountedTerminatedPods`, then the finalizer is removed, and only when that is seen the UID is replaced by a count
//! (KEP-2307). A Job ends in two steps: `FailureTarget` or `SuccessCriteriaMet` is set and the rest of its pods deleted, and `Failed` or
//! `Complete` when the last of them has ended (KEP-3939).

mod backoff;
mod conditions;
mod counts;
mod failure_policy;
mod indexes;
mod manage;
mod new_pod;
mod success_policy;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::Event;
use crate::pod::{count, is_active, is_ready, is_terminating, sooner};
use conditions::End;
use counts::Counts;

pub use conditions::is_finished;

/// Keeps a pod until it has been counted.
pub const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
/// The controller's own name in `spec.managedBy`.
const CONTROLLER: &str = "kubernetes.io/job-controller";

/// What is to be done now, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Pods to delete.
    pub delete: Vec<Arc<Pod>>,
    /// Pods to create.
    pub create: Vec<Pod>,
    /// The status, written when it differs.
    pub status: JobStatus,
    /// Pods whose finalizer is to be removed once the status is written.
    pub release: Vec<Arc<Pod>>,
    /// Events about the Job.
    pub events: Vec<Event>,
    /// When to look again although nothing changed.
    pub next: Option<Duration>,
}

/// Another controller has the Job (KEP-4368).
#[must_use]
pub fn is_managed_by_another(job: &Job) -> bool {
    let manager = job.spec.as_ref().and_then(|s| s.managed_by.as_deref());
    manager.is_some_and(|manager| manager != CONTROLLER)
}

/// A pod that waits to be counted.
#[must_use]
pub fn has_finalizer(pod: &Pod) -> bool {
    let finalizers = pod.metadata.finalizers.iter().flatten();
    finalizers.into_iter().any(|f| f == FINALIZER)
}

/// Decides the next step. `pods` are those that the Job controls.
#[must_use]
pub fn plan(job: &Job, pods: &[Arc<Pod>], now: Timestamp) -> Plan {
    let old = job.status.clone().unwrap_or_default();
    let Some(spec) = &job.spec else {
        return Plan {
            status: old,
            ..Plan::default()
        };
    };
    if is_finished(job) || job.metadata.deletion_timestamp.is_some() {
        return Plan {
            status: old,
            release: with_finalizer(pods),
            ..Plan::default()
        };
    }
    let mut work = Work {
        job,
        spec,
        pods,
        counts: Counts::new(spec, &old, pods),
        end: None,
        plan: Plan {
            status: old,
            ..Plan::default()
        },
        now,
    };
    work.advance();
    work.finish()
}

fn with_finalizer(pods: &[Arc<Pod>]) -> Vec<Arc<Pod>> {
    pods.iter().filter(|p| has_finalizer(p)).cloned().collect()
}

/// A Job while its next step is being decided.
struct Work<'a> {
    job: &'a Job,
    spec: &'a JobSpec,
    pods: &'a [Arc<Pod>],
    counts: Counts,
    /// Why it is ending, if it is.
    end: Option<End>,
    plan: Plan,
    now: Timestamp,
}

impl Work<'_> {
    fn advance(&mut self) {
        self.end = self.find_end();
        let is_suspended = self.spec.suspend == Some(true);
        if self.end.is_none() {
            self.note_suspension(is_suspended);
            if !is_suspended && self.plan.status.start_time.is_none() {
                self.plan.status.start_time = Some(Time(self.now));
            }
        }
        if self.end.is_some() || is_suspended {
            self.plan.delete = self.active().cloned().collect();
        } else {
            self.manage();
            if let Some(left) = self.until_deadline() {
                self.look_again_in(left);
            }
        }
    }

    fn active(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.iter().filter(|pod| is_active(pod))
    }

    fn look_again_in(&mut self, left: Duration) {
        self.plan.next = sooner(self.plan.next, Some(left));
    }

    /// How long until `activeDeadlineSeconds` is over.
    fn until_deadline(&self) -> Option<Duration> {
        let seconds = self.spec.active_deadline_seconds?;
        let start = self.plan.status.start_time.as_ref()?.0;
        let end = start.checked_add(SignedDuration::from_secs(seconds)).ok()?;
        Some(Duration::try_from(end.duration_since(self.now)).unwrap_or_default())
    }

    fn finish(mut self) -> Plan {
        let deleted = self.plan.delete.len();
        let active = self.active().count();
        let ready = self.active().filter(|pod| is_ready(pod)).count();
        let terminating = self.pods.iter().filter(|pod| is_terminating(pod)).count();
        let status = &mut self.plan.status;
        status.active = some(count(active - deleted.min(active) + self.plan.create.len()));
        status.ready = Some(count(ready));
        status.terminating = Some(count(terminating + deleted.min(active)));
        self.counts.write_to(self.spec, status);
        self.plan.release = self.counts.release.clone();
        if let Some(end) = self.end.take() {
            self.end_job(&end);
        }
        self.plan
    }

    /// The first of the two steps of an end, and the second when nothing is left of the Job's pods.
    fn end_job(&mut self, end: &End) {
        let is_quiet = self.plan.delete.is_empty()
            && self.plan.status.terminating == Some(0)
            && self.counts.is_settled();
        conditions::set(&mut self.plan.status, end.interim(), self.now);
        if !is_quiet {
            return;
        }
        conditions::set(&mut self.plan.status, end.terminal(), self.now);
        self.plan.status.active = None;
        // Whatever still has a finalizer has been counted or never will be.
        self.plan.release = with_finalizer(self.pods);
        match end {
            End::Failed { reason, message } => {
                self.plan
                    .events
                    .push(Event::warning(reason, message.clone()));
            }
            End::Succeeded { .. } => {
                self.plan.status.completion_time = Some(Time(self.now));
                let message = "Job completed".to_owned();
                self.plan.events.push(Event::normal("Completed", message));
            }
        }
    }

    fn note_suspension(&mut self, is_suspended: bool) {
        let was = conditions::is_true(&self.plan.status, conditions::SUSPENDED);
        if is_suspended == was {
            return;
        }
        let condition = if is_suspended {
            self.plan.status.start_time = None;
            conditions::suspended()
        } else {
            self.plan.status.start_time = Some(Time(self.now));
            conditions::resumed()
        };
        let event = Event::normal(
            if is_suspended { "Suspended" } else { "Resumed" },
            condition.message.clone(),
        );
        self.plan.events.push(event);
        conditions::set(&mut self.plan.status, condition, self.now);
    }
}

fn some(number: i32) -> Option<i32> {
    (number != 0).then_some(number)
}
