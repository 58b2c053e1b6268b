//! The status that both kinds have, under different types.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{ReplicationControllerCondition, ReplicationControllerStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Why pods could not be created or deleted: the reason (`FailedCreate`, `FailedDelete`) and the server's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// `FailedCreate` or `FailedDelete`.
    pub reason: &'static str,
    /// What the server said.
    pub message: String,
}

/// `status` of a ReplicaSet or a ReplicationController.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReplicaStatus {
    /// Pods that have neither ended nor are being deleted.
    pub replicas: i32,
    /// Those with all labels of the template.
    pub fully_labeled: i32,
    /// Those that are ready.
    pub ready: i32,
    /// Those that have been so for the minimum time.
    pub available: i32,
    /// Pods that are being deleted (KEP-3973; a ReplicationController does not say).
    pub terminating: i32,
    /// The generation that this is about.
    pub observed_generation: Option<i64>,
    /// `ReplicaFailure`, when pods could not be created or deleted.
    pub conditions: Vec<ReplicaSetCondition>,
}

const FAILURE: &str = "ReplicaFailure";

/// With the failure in them, or without an older one.
pub(super) fn conditions(
    old: &[ReplicaSetCondition],
    failure: Option<Failure>,
    now: Timestamp,
) -> Vec<ReplicaSetCondition> {
    let mut all: Vec<_> = old.iter().filter(|c| c.type_ != FAILURE).cloned().collect();
    let Some(failure) = failure else {
        return all;
    };
    // One that is there stays as it is: the first failure is told, not the last.
    let known = old.iter().find(|c| c.type_ == FAILURE).cloned();
    all.push(known.unwrap_or_else(|| ReplicaSetCondition {
        type_: FAILURE.to_owned(),
        status: "True".to_owned(),
        reason: Some(failure.reason.to_owned()),
        message: Some(failure.message),
        last_transition_time: Some(Time(now)),
    }));
    all
}

fn some(number: i32) -> Option<i32> {
    (number != 0).then_some(number)
}

impl From<&ReplicaSetStatus> for ReplicaStatus {
    fn from(status: &ReplicaSetStatus) -> Self {
        Self {
            replicas: status.replicas,
            fully_labeled: status.fully_labeled_replicas.unwrap_or(0),
            ready: status.ready_replicas.unwrap_or(0),
            available: status.available_replicas.unwrap_or(0),
            terminating: status.terminating_replicas.unwrap_or(0),
            observed_generation: status.observed_generation,
            conditions: status.conditions.clone().unwrap_or_default(),
        }
    }
}

impl From<ReplicaStatus> for ReplicaSetStatus {
    fn from(status: ReplicaStatus) -> Self {
        Self {
            replicas: status.replicas,
            fully_labeled_replicas: some(status.fully_labeled),
            ready_replicas: some(status.ready),
            available_replicas: some(status.available),
            terminating_replicas: Some(status.terminating),
            observed_generation: status.observed_generation,
            conditions: (!status.conditions.is_empty()).then_some(status.conditions),
        }
    }
}

impl From<&ReplicationControllerStatus> for ReplicaStatus {
    fn from(status: &ReplicationControllerStatus) -> Self {
        let conditions = status.conditions.iter().flatten();
        Self {
            replicas: status.replicas,
            fully_labeled: status.fully_labeled_replicas.unwrap_or(0),
            ready: status.ready_replicas.unwrap_or(0),
            available: status.available_replicas.unwrap_or(0),
            terminating: 0,
            observed_generation: status.observed_generation,
            conditions: conditions
                .map(|c| ReplicaSetCondition {
                    type_: c.type_.clone(),
                    status: c.status.clone(),
                    reason: c.reason.clone(),
                    message: c.message.clone(),
                    last_transition_time: c.last_transition_time.clone(),
                })
                .collect(),
        }
    }
}

impl From<ReplicaStatus> for ReplicationControllerStatus {
    fn from(status: ReplicaStatus) -> Self {
        let conditions: Vec<_> = status
            .conditions
            .into_iter()
            .map(|c| ReplicationControllerCondition {
                type_: c.type_,
                status: c.status,
                reason: c.reason,
                message: c.message,
                last_transition_time: c.last_transition_time,
            })
            .collect();
        Self {
            replicas: status.replicas,
            fully_labeled_replicas: some(status.fully_labeled),
            ready_replicas: some(status.ready),
            available_replicas: some(status.available),
            observed_generation: status.observed_generation,
            conditions: (!conditions.is_empty()).then_some(conditions),
        }
    }
}
