//! Rollouts: the ReplicaSets of a Deployment, scaled up and down until all pods are of its template.
//!
//! One call of [`plan`] is one step of the stock deployment controller's `syncDeployment`. It works on the ReplicaSets as they were read; what it
//! changes comes back as their next state.

mod annotations;
mod history;
mod new_set;
mod rolling;
mod scale;
mod sets;
mod status;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use berth_core::selector::is_empty;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;

use crate::Event;
use sets::Limits;

pub use new_set::Taken;
pub use status::create_failed;

/// One change to a ReplicaSet or to the Deployment.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Create this ReplicaSet. Where its name is taken, ask [`Taken::of`].
    Create(Box<ReplicaSet>),
    /// Write these replicas and annotations, if the ReplicaSet is still as it was read.
    Update {
        /// As it was read.
        old: Arc<ReplicaSet>,
        /// `spec.replicas`.
        replicas: i32,
        /// `spec.minReadySeconds`.
        min_ready_seconds: Option<i32>,
        /// `metadata.annotations`.
        annotations: BTreeMap<String, String>,
    },
    /// Delete a ReplicaSet that only was kept for `kubectl rollout undo`.
    Delete(Arc<ReplicaSet>),
    /// Write these annotations of the Deployment.
    Annotate(BTreeMap<String, String>),
}

/// What is to be done now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In this order; the first that fails ends it.
    pub steps: Vec<Step>,
    /// The status after them; it is written when it differs.
    pub status: DeploymentStatus,
    /// Events about the Deployment, each once the steps are done.
    pub events: Vec<Event>,
    /// When to look again although nothing changed.
    pub next: Option<Duration>,
}

/// Decides the next step.
///
/// `sets` are the ReplicaSets that the Deployment controls, `pods` the pods of those.
#[must_use]
pub fn plan(
    deployment: &Deployment,
    sets: &[Arc<ReplicaSet>],
    pods: &[Arc<Pod>],
    now: Timestamp,
) -> Plan {
    let status = deployment.status.clone().unwrap_or_default();
    let Some(spec) = &deployment.spec else {
        return Plan {
            status,
            ..Plan::default()
        };
    };
    if is_empty(&spec.selector) {
        return Plan {
            status: DeploymentStatus {
                observed_generation: deployment.metadata.generation,
                ..status
            },
            events: vec![Event::warning(
                "SelectingAll",
                "This deployment is selecting all pods. A non-empty selector is required."
                    .to_owned(),
            )],
            ..Plan::default()
        };
    }
    let mut rollout = Rollout {
        deployment,
        spec,
        limits: Limits::of(spec),
        sets: sets::Sets::new(&spec.template, sets),
        conditions: status.conditions.clone().unwrap_or_default(),
        now,
        steps: Vec::new(),
        events: Vec::new(),
    };
    if deployment.metadata.deletion_timestamp.is_none() {
        rollout.advance(pods);
    } else {
        rollout.sets.find_new();
    }
    rollout.finish()
}

/// A rollout while it is being decided.
struct Rollout<'a> {
    deployment: &'a Deployment,
    spec: &'a k8s_openapi::api::apps::v1::DeploymentSpec,
    limits: Limits,
    sets: sets::Sets,
    conditions: Vec<k8s_openapi::api::apps::v1::DeploymentCondition>,
    now: Timestamp,
    steps: Vec<Step>,
    events: Vec<Event>,
}

impl Rollout<'_> {
    fn advance(&mut self, pods: &[Arc<Pod>]) {
        self.note_pause();
        let is_paused = self.spec.paused == Some(true);
        if is_paused || self.sets.is_scaling(self.limits.replicas) {
            self.sync_revision(false);
            if !self.scale() && is_paused {
                self.clean_up();
            }
            return;
        }
        let is_recreated =
            self.spec.strategy.as_ref().and_then(|s| s.type_.as_deref()) == Some("Recreate");
        let has_scaled = if is_recreated {
            self.recreate(pods)
        } else {
            self.sync_revision(true);
            self.roll()
        };
        if !has_scaled && self.is_complete() {
            self.clean_up();
        }
    }

    /// All old pods first, then all new ones. Whether something was scaled or is waited for.
    fn recreate(&mut self, pods: &[Arc<Pod>]) -> bool {
        self.sync_revision(false);
        if self.scale_old_to_zero() || self.sets.has_old_pods(pods) {
            return true;
        }
        self.sync_revision(true);
        let replicas = self.limits.replicas;
        if self.sets.new.is_some() {
            self.scale_new(replicas)
        } else {
            true
        }
    }
}
