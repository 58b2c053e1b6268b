//! DaemonSets: a pod for each node that the template lets it onto.

mod nodes;
mod pod;
#[cfg(test)]
mod tests;
mod update;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod};

use crate::pod::{count, is_active, is_available, is_finished, is_ready, sooner, until_available};
use crate::revision::REVISION_HASH;
use nodes::Placement;

/// What is to be done now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Pods to create.
    pub create: Vec<Pod>,
    /// Pods to delete.
    pub delete: Vec<Arc<Pod>>,
    /// Pods that have ended, which a pod of this kind should not, with their nodes. They are deleted, later and later
    /// for a node where it happens again and again.
    pub ended: Vec<(String, Arc<Pod>)>,
    /// The status, written when it differs.
    pub status: DaemonSetStatus,
    /// When to look again although nothing changed.
    pub next: Option<Duration>,
}

/// Decides the next step. `pods` are those that the DaemonSet controls, `hash` is that of its newest revision.
#[must_use]
pub fn plan(
    set: &DaemonSet,
    hash: &str,
    pods: &[Arc<Pod>],
    nodes: &[Arc<Node>],
    now: Timestamp,
) -> Plan {
    let status = set.status.clone().unwrap_or_default();
    let Some(spec) = &set.spec else {
        return Plan {
            status,
            ..Plan::default()
        };
    };
    let mut work = Work {
        set,
        spec,
        hash,
        now,
        min_ready: spec.min_ready_seconds.unwrap_or(0),
        nodes: places(set, spec, pods, nodes),
        plan: Plan::default(),
    };
    if set.metadata.deletion_timestamp.is_none() {
        work.manage();
        work.update();
    }
    work.finish(status)
}

/// A node, or the name of one that is gone, and the pods for it.
struct Place {
    name: String,
    placement: Placement,
    pods: Vec<Arc<Pod>>,
}

fn places(
    set: &DaemonSet,
    spec: &DaemonSetSpec,
    pods: &[Arc<Pod>],
    nodes: &[Arc<Node>],
) -> Vec<Place> {
    let mut by_node: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
    for pod in pods {
        // One that has ended and is being deleted is as good as gone.
        let is_gone = is_finished(pod) && pod.metadata.deletion_timestamp.is_some();
        if let Some(node) = pod::target(pod).filter(|_| !is_gone) {
            by_node
                .entry(node.to_owned())
                .or_default()
                .push(Arc::clone(pod));
        }
    }
    let model = pod::model(set, spec);
    let mut places: Vec<Place> = nodes
        .iter()
        .map(|node| {
            let name = node.metadata.name.clone().unwrap_or_default();
            Place {
                placement: nodes::placement(&model, node),
                pods: by_node.remove(&name).unwrap_or_default(),
                name,
            }
        })
        .collect();
    places.extend(by_node.into_iter().map(|(name, pods)| Place {
        name,
        placement: Placement::Never,
        pods,
    }));
    for place in &mut places {
        place.pods.sort_by_key(|pod| pod::age(pod));
    }
    places
}

struct Work<'a> {
    set: &'a DaemonSet,
    spec: &'a DaemonSetSpec,
    hash: &'a str,
    now: Timestamp,
    min_ready: i32,
    nodes: Vec<Place>,
    plan: Plan,
}

impl Work<'_> {
    fn is_current(&self, pod: &Pod) -> bool {
        let labels = pod.metadata.labels.as_ref();
        labels
            .and_then(|l| l.get(REVISION_HASH))
            .map(String::as_str)
            == Some(self.hash)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        is_available(pod, self.min_ready, self.now)
    }

    /// A pod on each node that should have one, and none on the others.
    fn manage(&mut self) {
        let limits = self.limits();
        let mut plan = std::mem::take(&mut self.plan);
        for place in &self.nodes {
            match place.placement {
                Placement::Runs if place.pods.is_empty() => {
                    plan.create
                        .push(pod::new(self.set, self.spec, self.hash, &place.name));
                }
                Placement::Runs | Placement::Stays => {
                    let mut running = Vec::new();
                    for pod in &place.pods {
                        if is_finished(pod) {
                            plan.ended.push((place.name.clone(), Arc::clone(pod)));
                        } else if is_active(pod) {
                            running.push(pod);
                        }
                    }
                    plan.delete.extend(self.surplus(&running, limits.surge > 0));
                }
                Placement::Never => {
                    let all = place.pods.iter();
                    let there = all.filter(|pod| pod.metadata.deletion_timestamp.is_none());
                    plan.delete.extend(there.cloned());
                }
            }
        }
        self.plan = plan;
    }

    /// All but the oldest; with a surge all but the oldest of the old and of the new template.
    fn surplus(&self, running: &[&Arc<Pod>], has_surge: bool) -> Vec<Arc<Pod>> {
        if !has_surge {
            return running.iter().skip(1).map(|pod| Arc::clone(pod)).collect();
        }
        let (mut old, mut new) = (None, None);
        let mut surplus = Vec::new();
        for &pod in running {
            let kept = if self.is_current(pod) {
                &mut new
            } else {
                &mut old
            };
            match kept {
                None => *kept = Some(pod),
                Some(_) => surplus.push(Arc::clone(pod)),
            }
        }
        if let (Some(old), Some(new)) = (old, new)
            && (!is_ready(old) || self.is_available(new))
        {
            surplus.push(Arc::clone(old));
        }
        surplus
    }

    fn finish(mut self, old: DaemonSetStatus) -> Plan {
        let mut status = DaemonSetStatus {
            observed_generation: self.set.metadata.generation,
            collision_count: old.collision_count,
            conditions: old.conditions,
            ..DaemonSetStatus::default()
        };
        let (mut available, mut updated) = (0, 0);
        for place in &self.nodes {
            match (&place.placement, place.pods.first()) {
                (Placement::Runs, None) => status.desired_number_scheduled += 1,
                (Placement::Runs, Some(pod)) => {
                    status.desired_number_scheduled += 1;
                    status.current_number_scheduled += 1;
                    status.number_ready += i32::from(is_ready(pod));
                    available += i32::from(self.is_available(pod));
                    updated += i32::from(self.is_current(pod));
                    if let Some(left) = until_available(pod, self.min_ready, self.now)
                        && !left.is_zero()
                    {
                        self.plan.next = sooner(self.plan.next, Some(left));
                    }
                }
                (Placement::Stays | Placement::Never, Some(_)) => status.number_misscheduled += 1,
                (Placement::Stays | Placement::Never, None) => {}
            }
        }
        let unavailable = status.desired_number_scheduled - available;
        let some = |number: i32| (number != 0).then_some(number);
        status.number_available = some(available);
        status.updated_number_scheduled = some(updated);
        status.number_unavailable = some(unavailable);
        self.plan.status = status;
        self.plan
    }

    fn desired(&self) -> i32 {
        let all = self.nodes.iter();
        count(
            all.filter(|place| place.placement == Placement::Runs)
                .count(),
        )
    }
}
