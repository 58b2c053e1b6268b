//! The status of a Deployment: counts, and the conditions Available, Progressing and ReplicaFailure.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet, ReplicaSetCondition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Plan, Rollout};

const AVAILABLE: &str = "Available";
pub(super) const PROGRESSING: &str = "Progressing";
const FAILURE: &str = "ReplicaFailure";
const COMPLETE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";

/// A condition that holds now.
pub(super) struct Condition {
    pub(super) type_: &'static str,
    pub(super) status: &'static str,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

pub(super) fn find<'a>(
    conditions: &'a [DeploymentCondition],
    type_: &str,
) -> Option<&'a DeploymentCondition> {
    conditions.iter().find(|c| c.type_ == type_)
}

/// The status when the server refused the new ReplicaSet.
#[must_use]
pub fn create_failed(
    deployment: &Deployment,
    set: &ReplicaSet,
    reason: &str,
    now: Timestamp,
) -> DeploymentStatus {
    let mut status = deployment.status.clone().unwrap_or_default();
    let conditions = status.conditions.get_or_insert_default();
    let name = set.metadata.name.as_deref().unwrap_or_default();
    let condition = Condition {
        type_: PROGRESSING,
        status: "False",
        reason: "ReplicaSetCreateError",
        message: format!("Failed to create new replica set \"{name}\": {reason}"),
    };
    set_in(conditions, condition, now);
    status
}

/// Puts a condition in place of the older one of its type. One that says the same stays as it is.
fn set_in(conditions: &mut Vec<DeploymentCondition>, new: Condition, now: Timestamp) {
    let old = find(conditions, new.type_);
    if old.is_some_and(|old| old.status == new.status && old.reason.as_deref() == Some(new.reason))
    {
        return;
    }
    let since = old.filter(|old| old.status == new.status);
    let since = since.and_then(|old| old.last_transition_time.clone());
    conditions.retain(|c| c.type_ != new.type_);
    conditions.push(DeploymentCondition {
        type_: new.type_.to_owned(),
        status: new.status.to_owned(),
        reason: Some(new.reason.to_owned()),
        message: Some(new.message),
        last_update_time: Some(Time(now)),
        last_transition_time: since.or(Some(Time(now))),
    });
}

impl Rollout<'_> {
    /// Whether the API server's `progressDeadlineSeconds` is set; its largest number says that there is none.
    pub(super) fn has_deadline(&self) -> bool {
        let seconds = self.spec.progress_deadline_seconds;
        seconds.is_some_and(|s| s != i32::MAX)
    }

    pub(super) fn set_condition(&mut self, new: Condition) {
        set_in(&mut self.conditions, new, self.now);
    }

    fn remove_condition(&mut self, type_: &str) {
        self.conditions.retain(|c| c.type_ != type_);
    }

    /// A pause stops the clock of the progress deadline.
    pub(super) fn note_pause(&mut self) {
        let reason = find(&self.conditions, PROGRESSING).and_then(|c| c.reason.as_deref());
        if !self.has_deadline() || reason == Some(TIMED_OUT) {
            return;
        }
        let was = reason == Some(PAUSED);
        let (reason, message) = match (self.spec.paused == Some(true), was) {
            (true, false) => (PAUSED, "Deployment is paused"),
            (false, true) => ("DeploymentResumed", "Deployment is resumed"),
            (true, true) | (false, false) => return,
        };
        self.set_condition(Condition {
            type_: PROGRESSING,
            status: "Unknown",
            reason,
            message: message.to_owned(),
        });
    }

    /// All pods are of the new ReplicaSet and available, as far as its status says.
    pub(super) fn is_complete(&self) -> bool {
        self.counts_are_complete(&self.counts())
    }

    fn counts_are_complete(&self, status: &DeploymentStatus) -> bool {
        let wanted = self.limits.replicas;
        [
            status.updated_replicas,
            status.replicas,
            status.available_replicas,
        ]
        .into_iter()
        .all(|number| number.unwrap_or(0) == wanted)
            && status.observed_generation >= self.deployment.metadata.generation
    }

    /// The numbers, from the statuses of the ReplicaSets.
    fn counts(&self) -> DeploymentStatus {
        let sum = |of: fn(&k8s_openapi::api::apps::v1::ReplicaSetStatus) -> Option<i32>| {
            let statuses = self
                .sets
                .all()
                .filter_map(|set| set.read.status.as_ref().and_then(of));
            some(statuses.sum())
        };
        let available = sum(|s| s.available_replicas);
        let new = self.sets.new.as_ref();
        let updated = new.and_then(|set| set.read.status.as_ref());
        let unavailable = self.sets.replicas() - available.unwrap_or(0);
        let old = self.deployment.status.as_ref();
        DeploymentStatus {
            observed_generation: self.deployment.metadata.generation,
            replicas: sum(|s| Some(s.replicas)),
            updated_replicas: updated.and_then(|s| some(s.replicas)),
            ready_replicas: sum(|s| s.ready_replicas),
            available_replicas: available,
            unavailable_replicas: some(unavailable.max(0)),
            terminating_replicas: Some(sum(|s| s.terminating_replicas).unwrap_or(0)),
            collision_count: old.and_then(|s| s.collision_count),
            conditions: None,
        }
    }

    /// The plan as it has become.
    pub(super) fn finish(mut self) -> Plan {
        let steps: Vec<_> = self.sets.all().filter_map(super::sets::Set::step).collect();
        self.steps.extend(steps);
        let mut status = self.counts();
        self.note_available(&status);
        self.note_progress(&status);
        self.note_failure();
        let next = self.until_deadline(&status);
        status.conditions = (!self.conditions.is_empty()).then_some(self.conditions);
        Plan {
            steps: self.steps,
            status,
            events: self.events,
            next,
        }
    }

    fn note_available(&mut self, status: &DeploymentStatus) {
        let least = self.limits.replicas - self.limits.unavailable;
        let is_enough = status.available_replicas.unwrap_or(0) >= least;
        self.set_condition(if is_enough {
            Condition {
                type_: AVAILABLE,
                status: "True",
                reason: "MinimumReplicasAvailable",
                message: "Deployment has minimum availability.".to_owned(),
            }
        } else {
            Condition {
                type_: AVAILABLE,
                status: "False",
                reason: "MinimumReplicasUnavailable",
                message: "Deployment does not have minimum availability.".to_owned(),
            }
        });
    }

    fn note_progress(&mut self, status: &DeploymentStatus) {
        if !self.has_deadline() {
            self.remove_condition(PROGRESSING);
            return;
        }
        // Paused and being scaled is no progress, and being deleted neither.
        if self.spec.paused == Some(true) || self.deployment.metadata.deletion_timestamp.is_some() {
            return;
        }
        let current = find(&self.conditions, PROGRESSING).cloned();
        let reason = current.as_ref().and_then(|c| c.reason.as_deref());
        if status.replicas == status.updated_replicas && reason == Some(COMPLETE) {
            return;
        }
        let what = match &self.sets.new {
            Some(new) => format!("ReplicaSet \"{}\"", new.name()),
            None => format!(
                "Deployment \"{}\"",
                self.deployment.metadata.name.as_deref().unwrap_or_default()
            ),
        };
        let condition = |status, reason, words| Condition {
            type_: PROGRESSING,
            status,
            reason,
            message: format!("{what} {words}"),
        };
        if self.counts_are_complete(status) {
            self.set_condition(condition("True", COMPLETE, "has successfully progressed."));
        } else if self.has_progressed(status) {
            // Each step starts the deadline anew.
            let since = current.filter(|c| c.status == "True");
            let since = since.and_then(|c| c.last_transition_time);
            self.remove_condition(PROGRESSING);
            self.set_condition(condition("True", "ReplicaSetUpdated", "is progressing."));
            if let (Some(since), Some(last)) = (since, self.conditions.last_mut()) {
                last.last_transition_time = Some(since);
            }
        } else if self.has_timed_out() {
            self.set_condition(condition("False", TIMED_OUT, "has timed out progressing."));
        }
    }

    fn has_progressed(&self, new: &DeploymentStatus) -> bool {
        let old = self.deployment.status.clone().unwrap_or_default();
        let of = |number: Option<i32>| number.unwrap_or(0);
        let outdated = |s: &DeploymentStatus| of(s.replicas) - of(s.updated_replicas);
        of(new.updated_replicas) > of(old.updated_replicas)
            || outdated(new) < outdated(&old)
            || of(new.ready_replicas) > of(old.ready_replicas)
            || of(new.available_replicas) > of(old.available_replicas)
    }

    fn has_timed_out(&self) -> bool {
        let Some(condition) = find(&self.conditions, PROGRESSING) else {
            return false;
        };
        match condition.reason.as_deref() {
            Some(COMPLETE) => false,
            Some(TIMED_OUT) => true,
            _ => self.deadline(condition).is_some_and(|at| at < self.now),
        }
    }

    fn deadline(&self, condition: &DeploymentCondition) -> Option<Timestamp> {
        let seconds = self.spec.progress_deadline_seconds?;
        let from = condition.last_update_time.as_ref()?.0;
        from.checked_add(SignedDuration::from_secs(seconds.into()))
            .ok()
    }

    /// When the progress deadline will be over: nothing changes then but the time.
    fn until_deadline(&self, status: &DeploymentStatus) -> Option<Duration> {
        if !self.has_deadline() || self.counts_are_complete(status) {
            return None;
        }
        let condition = find(&self.conditions, PROGRESSING)?;
        let reason = condition.reason.as_deref();
        if self.spec.paused == Some(true) || matches!(reason, Some(COMPLETE | TIMED_OUT)) {
            return None;
        }
        let left = self.deadline(condition)?.duration_since(self.now);
        Some(Duration::try_from(left).unwrap_or_default() + Duration::from_secs(1))
    }

    /// Why a ReplicaSet could not make its pods: that of the new one rather than of another.
    fn note_failure(&mut self) {
        let sets = self.sets.new.iter().chain(&self.sets.old);
        let failure: Option<ReplicaSetCondition> = sets
            .filter_map(|set| set.read.status.as_ref()?.conditions.as_ref())
            .flatten()
            .find(|c| c.type_ == FAILURE)
            .cloned();
        self.remove_condition(FAILURE);
        let Some(failure) = failure else {
            return;
        };
        self.conditions.push(DeploymentCondition {
            type_: failure.type_,
            status: failure.status,
            reason: failure.reason,
            message: failure.message,
            last_transition_time: failure.last_transition_time.clone(),
            last_update_time: failure.last_transition_time,
        });
    }
}

fn some(number: i32) -> Option<i32> {
    (number != 0).then_some(number)
}
