//! StatefulSets: pods with a number, a name and claims of their own, made and replaced in order.
//!
//! One call of [`plan`] is one step of the stock controller's `updateStatefulSet`. With the policy `OrderedReady` a step ends at the first pod
//! that is waited for.

mod claims;
mod ordinals;
mod pod;
mod status;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{
    ControllerRevision, StatefulSet, StatefulSetSpec, StatefulSetStatus,
};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};

use crate::pod::{is_available, is_finished, is_ready, length, sooner, until_available};
use ordinals::ordinal_of;

pub use claims::Claim;

/// What a StatefulSet has.
#[derive(Clone, Copy, Debug)]
pub struct Owned<'a> {
    /// The pods that it controls.
    pub pods: &'a [Arc<Pod>],
    /// The claims of its namespace.
    pub claims: &'a [Arc<PersistentVolumeClaim>],
    /// The revision of its template as it is.
    pub update: &'a ControllerRevision,
    /// The revision that `status.currentRevision` names, or the same where there is none.
    pub current: &'a ControllerRevision,
}

/// What is to be done now, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Claims to create or change.
    pub claims: Vec<Claim>,
    /// Pods to create.
    pub create: Vec<Pod>,
    /// Pods to delete.
    pub delete: Vec<Arc<Pod>>,
    /// Pods that have ended, which a pod of this kind should not. They are deleted, so that they are made anew, later and later
    /// where it happens again and again.
    pub ended: Vec<Arc<Pod>>,
    /// Pods that get back these labels, which somebody took away.
    pub repair: Vec<(Arc<Pod>, BTreeMap<String, String>)>,
    /// The status, written when it differs.
    pub status: StatefulSetStatus,
    /// When to look again although nothing changed.
    pub next: Option<Duration>,
}

/// Decides the next step.
#[must_use]
pub fn plan(set: &StatefulSet, owned: &Owned<'_>, now: Timestamp) -> Plan {
    let Some(spec) = &set.spec else {
        return Plan {
            status: set.status.clone().unwrap_or_default(),
            ..Plan::default()
        };
    };
    let mut work = Work::new(set, spec, owned, now);
    if set.metadata.deletion_timestamp.is_none() {
        work.advance();
    }
    work.finish()
}

/// A StatefulSet while its next step is being decided.
struct Work<'a> {
    set: &'a StatefulSet,
    spec: &'a StatefulSetSpec,
    owned: &'a Owned<'a>,
    /// The pod of each number that is wanted, from the first.
    wanted: Vec<(i32, Option<Arc<Pod>>)>,
    /// Pods of other numbers, the highest first.
    condemned: Vec<(i32, Arc<Pod>)>,
    plan: Plan,
    now: Timestamp,
}

/// Whether a step goes on to the next pod.
#[derive(PartialEq, Eq)]
enum Flow {
    GoOn,
    Wait,
}

impl<'a> Work<'a> {
    fn new(
        set: &'a StatefulSet,
        spec: &'a StatefulSetSpec,
        owned: &'a Owned<'a>,
        now: Timestamp,
    ) -> Self {
        let start = spec.ordinals.as_ref().and_then(|o| o.start).unwrap_or(0);
        let number = spec.replicas.unwrap_or(1).max(0);
        let mut wanted: Vec<(i32, Option<Arc<Pod>>)> = (0..number)
            .map(|at| (start.saturating_add(at), None))
            .collect();
        let mut condemned = Vec::new();
        for pod in owned.pods {
            let Some(ordinal) = ordinal_of(&set.metadata, pod) else {
                continue;
            };
            let at = ordinal.checked_sub(start).filter(|at| *at >= 0);
            match at.and_then(|at| wanted.get_mut(length(at))) {
                Some(slot) => slot.1 = Some(Arc::clone(pod)),
                None => condemned.push((ordinal, Arc::clone(pod))),
            }
        }
        condemned.sort_by_key(|(ordinal, _)| std::cmp::Reverse(*ordinal));
        Self {
            set,
            spec,
            owned,
            wanted,
            condemned,
            plan: Plan::default(),
            now,
        }
    }

    fn is_ordered(&self) -> bool {
        self.spec.pod_management_policy.as_deref() != Some("Parallel")
    }

    fn is_available(&self, pod: &Pod) -> bool {
        is_available(pod, self.spec.min_ready_seconds.unwrap_or(0), self.now)
    }

    /// Running, ready, and not being deleted.
    fn is_healthy(pod: &Pod) -> bool {
        is_ready(pod) && crate::pod::phase(pod) == "Running" && !is_deleted(pod)
    }

    fn advance(&mut self) {
        for at in 0..self.wanted.len() {
            if self.keep(at) == Flow::Wait && self.is_ordered() {
                return;
            }
        }
        if self.condemn() == Flow::Wait && self.is_ordered() {
            return;
        }
        self.update();
    }

    /// One pod that is wanted.
    fn keep(&mut self, at: usize) -> Flow {
        let Some((ordinal, pod)) = self.wanted.get(at).cloned() else {
            return Flow::GoOn;
        };
        let Some(pod) = pod else {
            let claims = claims::missing(self.set, self.spec, ordinal, self.owned.claims);
            self.plan.claims.extend(claims);
            self.plan.create.push(self.new_pod(ordinal));
            return Flow::Wait;
        };
        if is_deleted(&pod) {
            return Flow::Wait;
        }
        if is_finished(&pod) {
            self.plan.ended.push(pod);
            return Flow::Wait;
        }
        self.plan.claims.extend(claims::missing(
            self.set,
            self.spec,
            ordinal,
            self.owned.claims,
        ));
        let lost = pod::lost_labels(&self.set.metadata, ordinal, &pod);
        if !lost.is_empty() {
            self.plan.repair.push((Arc::clone(&pod), lost));
        }
        self.wait_for(&pod)
    }

    fn wait_for(&mut self, pod: &Pod) -> Flow {
        if !Self::is_healthy(pod) {
            return Flow::Wait;
        }
        let seconds = self.spec.min_ready_seconds.unwrap_or(0);
        match until_available(pod, seconds, self.now) {
            Some(Duration::ZERO) => Flow::GoOn,
            left => {
                self.look_again_in(left);
                Flow::Wait
            }
        }
    }

    fn look_again_in(&mut self, left: Option<Duration>) {
        let left = left.filter(|left| !left.is_zero());
        self.plan.next = sooner(self.plan.next, left);
    }

    /// Removes pods that are too many: in order one at a time, each when those before it are well.
    fn condemn(&mut self) -> Flow {
        let condemned = self.condemned.clone();
        let is_ordered = self.is_ordered();
        // The lowest pod that is not well may be the one that is in the way.
        let first_unhealthy = self
            .wanted
            .iter()
            .filter_map(|(ordinal, pod)| Some((*ordinal, pod.clone()?)))
            .chain(condemned.iter().cloned())
            .filter(|(_, pod)| !Self::is_healthy(pod))
            .min_by_key(|(ordinal, _)| *ordinal)
            .map(|(ordinal, _)| ordinal);
        let mut flow = Flow::GoOn;
        for (ordinal, pod) in condemned {
            flow = Flow::Wait;
            if is_deleted(&pod) {
                if is_ordered {
                    return flow;
                }
                continue;
            }
            let is_in_the_way = first_unhealthy == Some(ordinal);
            if is_ordered && !is_in_the_way && self.wait_for(&pod) == Flow::Wait {
                return flow;
            }
            let owned = claims::of_condemned(self.spec, self.set, &pod, ordinal, self.owned.claims);
            self.plan.claims.extend(owned);
            self.plan.delete.push(pod);
            if is_ordered {
                return flow;
            }
        }
        flow
    }

    /// Replaces pods of the older template, the highest first, so many at a time.
    fn update(&mut self) {
        let strategy = self.spec.update_strategy.as_ref();
        if strategy.and_then(|s| s.type_.as_deref()) == Some("OnDelete") {
            return;
        }
        let rolling = strategy.and_then(|s| s.rolling_update.as_ref());
        let partition = length(rolling.and_then(|r| r.partition).unwrap_or(0));
        let most = rolling.and_then(|r| r.max_unavailable.as_ref());
        let replicas = self.spec.replicas.unwrap_or(1);
        let most = crate::intstr::scaled(most, replicas, false)
            .unwrap_or(1)
            .max(1);
        let update = name_of(self.owned.update);
        let unavailable = |(_, pod): &&(i32, Option<Arc<Pod>>)| {
            let pod = pod.as_ref();
            pod.is_none_or(|pod| !Self::is_healthy(pod) || !self.is_available(pod))
        };
        let mut room = length(most).saturating_sub(self.wanted.iter().filter(unavailable).count());
        let mut outdated = Vec::new();
        for (_, pod) in self.wanted.iter().skip(partition).rev() {
            let Some(pod) = pod else {
                continue;
            };
            if pod::revision_of(pod) == Some(&update) || is_deleted(pod) {
                continue;
            }
            let is_well = Self::is_healthy(pod) && self.is_available(pod);
            if !is_well {
                // Nothing is lost by replacing it.
                outdated.push(Arc::clone(pod));
            } else if room > 0 {
                room -= 1;
                outdated.push(Arc::clone(pod));
            } else {
                break;
            }
            if self.is_ordered() && most == 1 {
                break;
            }
        }
        outdated.retain(|pod| !self.plan.delete.contains(pod) && !self.plan.ended.contains(pod));
        self.plan.delete.extend(outdated);
    }

    /// Below the partition pods stay of the current template, also when they are made anew.
    fn new_pod(&self, ordinal: i32) -> Pod {
        let strategy = self.spec.update_strategy.as_ref();
        let rolling = strategy.and_then(|s| s.rolling_update.as_ref());
        let partition = rolling.and_then(|r| r.partition).unwrap_or(0);
        let start = self
            .spec
            .ordinals
            .as_ref()
            .and_then(|o| o.start)
            .unwrap_or(0);
        let is_on_delete = strategy.and_then(|s| s.type_.as_deref()) == Some("OnDelete");
        let is_old = !is_on_delete && ordinal < start.saturating_add(partition);
        let revision = if is_old {
            self.owned.current
        } else {
            self.owned.update
        };
        let template = crate::revision::template_of(revision);
        let template = template.unwrap_or_else(|| self.spec.template.clone());
        pod::new(self.set, self.spec, &template, ordinal, &name_of(revision))
    }
}

fn is_deleted(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

fn name_of(revision: &ControllerRevision) -> String {
    revision.metadata.name.clone().unwrap_or_default()
}
