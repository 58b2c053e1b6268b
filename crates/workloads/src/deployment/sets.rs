//! The ReplicaSets of a Deployment, and the numbers that bound a rollout.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DeploymentSpec, ReplicaSet};
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::Step;
use super::annotations::{self, DESIRED, MAX};
use crate::owner::controller_of;
use crate::pod::is_finished;
use crate::template::is_same;

/// How many pods there may and must be while a rollout goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) replicas: i32,
    /// So many more than `replicas` at most. 0 for Recreate.
    pub(super) surge: i32,
    /// So many fewer than `replicas` may be available. 0 for Recreate.
    pub(super) unavailable: i32,
    pub(super) is_rolling: bool,
}

impl Limits {
    /// A percentage is of `replicas`, rounded up for the surge and down for the other; both 0 would be a standstill.
    pub(super) fn of(spec: &DeploymentSpec) -> Self {
        let replicas = spec.replicas.unwrap_or(1);
        let strategy = spec.strategy.as_ref();
        let is_rolling = strategy.and_then(|s| s.type_.as_deref()) != Some("Recreate");
        if !is_rolling {
            return Self {
                replicas,
                surge: 0,
                unavailable: 0,
                is_rolling,
            };
        }
        let rolling = strategy.and_then(|s| s.rolling_update.as_ref());
        let surge = rolling.and_then(|r| r.max_surge.as_ref());
        let surge = scaled(surge, replicas, true);
        let unavailable = rolling.and_then(|r| r.max_unavailable.as_ref());
        let mut unavailable = scaled(unavailable, replicas, false);
        if surge == 0 && unavailable == 0 {
            unavailable = 1;
        }
        Self {
            replicas,
            surge,
            unavailable: unavailable.min(replicas),
            is_rolling,
        }
    }

    /// How many pods there may be.
    pub(super) fn most(self) -> i32 {
        self.replicas.saturating_add(self.surge)
    }
}

/// A number, or a percentage of `of`; 25% where nothing is said, the API's default.
fn scaled(value: Option<&IntOrString>, of: i32, up: bool) -> i32 {
    crate::intstr::scaled(value, of, up).unwrap_or_else(|| {
        crate::intstr::scaled(Some(&IntOrString::String("25%".to_owned())), of, up).unwrap_or(0)
    })
}

/// A ReplicaSet with the replicas that it will have.
#[derive(Clone, Debug)]
pub(super) struct Set {
    pub(super) read: Arc<ReplicaSet>,
    pub(super) replicas: i32,
    pub(super) min_ready_seconds: Option<i32>,
    pub(super) annotations: BTreeMap<String, String>,
    /// It is created in this plan.
    pub(super) is_created: bool,
}

impl Set {
    pub(super) fn new(read: Arc<ReplicaSet>) -> Self {
        Self {
            replicas: replicas(&read),
            min_ready_seconds: read.spec.as_ref().and_then(|s| s.min_ready_seconds),
            annotations: annotations::of(&read.metadata),
            is_created: false,
            read,
        }
    }

    pub(super) fn name(&self) -> &str {
        self.read.metadata.name.as_deref().unwrap_or_default()
    }

    pub(super) fn available(&self) -> i32 {
        let status = self.read.status.as_ref();
        status.and_then(|s| s.available_replicas).unwrap_or(0)
    }

    /// Scales it, and notes for how many replicas of the Deployment. Whether its number changes.
    pub(super) fn scale(&mut self, replicas: i32, limits: Limits) -> bool {
        let has_changed = self.replicas != replicas;
        self.replicas = replicas;
        self.note(limits);
        has_changed
    }

    pub(super) fn note(&mut self, limits: Limits) {
        for (name, number) in [(DESIRED, limits.replicas), (MAX, limits.most())] {
            self.annotations.insert(name.to_owned(), number.to_string());
        }
    }

    /// The change to it, if there is one.
    pub(super) fn step(&self) -> Option<Step> {
        let spec = self.read.spec.as_ref();
        let is_changed = self.replicas != replicas(&self.read)
            || self.min_ready_seconds.unwrap_or(0)
                != spec.and_then(|s| s.min_ready_seconds).unwrap_or(0)
            || self.annotations != annotations::of(&self.read.metadata);
        (is_changed && !self.is_created).then(|| Step::Update {
            old: Arc::clone(&self.read),
            replicas: self.replicas,
            min_ready_seconds: self.min_ready_seconds,
            annotations: self.annotations.clone(),
        })
    }
}

fn replicas(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
}

/// All of them, the oldest first.
pub(super) struct Sets {
    /// That of the Deployment's template.
    pub(super) new: Option<Set>,
    pub(super) old: Vec<Set>,
    template: PodTemplateSpec,
}

impl Sets {
    pub(super) fn new(template: &PodTemplateSpec, sets: &[Arc<ReplicaSet>]) -> Self {
        let mut old: Vec<Set> = sets.iter().cloned().map(Set::new).collect();
        old.sort_by(|a, b| age(&a.read).cmp(&age(&b.read)));
        Self {
            new: None,
            old,
            template: template.clone(),
        }
    }

    /// Takes the oldest of the Deployment's template out as the new one.
    pub(super) fn find_new(&mut self) {
        if self.new.is_some() {
            return;
        }
        let template_of = |set: &Set| set.read.spec.as_ref().and_then(|s| s.template.clone());
        let at = self
            .old
            .iter()
            .position(|set| template_of(set).is_some_and(|t| is_same(&t, &self.template)));
        self.new = at.map(|at| self.old.remove(at));
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Set> {
        self.old.iter().chain(self.new.as_ref())
    }

    /// Pods that the ReplicaSets are to have together.
    pub(super) fn replicas(&self) -> i32 {
        self.all().map(|set| set.replicas).sum()
    }

    pub(super) fn available(&self) -> i32 {
        self.all().map(Set::available).sum()
    }

    /// The Deployment's number of replicas has changed since a ReplicaSet was scaled last.
    pub(super) fn is_scaling(&self, wanted: i32) -> bool {
        self.all()
            .filter(|set| set.replicas > 0)
            .filter_map(|set| annotations::number(&set.read, DESIRED))
            .any(|desired| desired != wanted)
    }

    /// Whether pods of an old ReplicaSet still run.
    pub(super) fn has_old_pods(&self, pods: &[Arc<Pod>]) -> bool {
        let new = self.new.as_ref().and_then(|s| s.read.metadata.uid.as_ref());
        let old: HashSet<&String> = self
            .old
            .iter()
            .filter_map(|set| set.read.metadata.uid.as_ref())
            .filter(|uid| Some(*uid) != new)
            .collect();
        let is_old = |pod: &Pod| {
            let owner = controller_of(&pod.metadata);
            owner.is_some_and(|owner| old.contains(&owner.uid))
        };
        pods.iter().any(|pod| !is_finished(pod) && is_old(pod))
    }
}

pub(super) fn age(set: &ReplicaSet) -> (Option<jiff::Timestamp>, Option<&str>) {
    let created = set.metadata.creation_timestamp.as_ref().map(|t| t.0);
    (created, set.metadata.name.as_deref())
}
