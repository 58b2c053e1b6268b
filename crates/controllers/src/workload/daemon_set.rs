//! DaemonSets.

use std::collections::HashMap;
use std::time::Duration;

use berth_core::selector::is_empty;
use berth_supervise::Tasks;
use berth_workloads::Event;
use berth_workloads::daemon_set::{Plan, plan};
use berth_workloads::owner::controller_of;
use berth_workloads::pod::sooner;
use berth_workloads::revision::{REVISION_HASH, hash_of};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::ResourceExt as _;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::Key;
use super::claim::{claim_all, wake_for_orphan};
use super::ended::Ended;
use super::keyed::{Keys, Looked};
use super::pods::Pods;
use super::revisions::{Present, Revisions};
use crate::Reflected;
use crate::server::write_status;

struct Controller {
    sets: Reflected<DaemonSet>,
    pods: Reflected<Pod>,
    nodes: Reflected<Node>,
    control: Pods,
    revisions: Revisions,
    ended: Ended,
    keys: Keys,
}

/// Spawns the controller.
pub(super) fn spawn(
    tasks: &Tasks,
    sets: Reflected<DaemonSet>,
    pods: &Reflected<Pod>,
    nodes: &Reflected<Node>,
    control: Pods,
    revisions: Revisions,
) {
    let keys = Keys::new("daemonset");
    let own = keys.clone();
    sets.listen(move |set| own.add(&Key::of(set)));
    let (own, known) = (keys.clone(), sets.clone());
    pods.listen(move |pod| match controller_of(&pod.metadata) {
        Some(owner) if owner.kind == "DaemonSet" => {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            own.add(&Key::new(namespace, &owner.name));
        }
        Some(_) => {}
        None => wake_for_orphan(&own, &known, pod, |set| Some(&set.spec.as_ref()?.selector)),
    });
    let (own, known) = (keys.clone(), sets.clone());
    // What a node reports of itself every few seconds changes nothing; its labels and taints may.
    let seen: Mutex<HashMap<String, Placement>> = Mutex::default();
    nodes.listen(move |node| {
        let placement = Placement::of(node);
        let name = node.name_any();
        if seen.lock().insert(name, placement.clone()) != Some(placement) {
            known.all().iter().for_each(|set| own.add(&Key::of(&**set)));
        }
    });
    let controller = Controller {
        sets,
        pods: pods.clone(),
        nodes: nodes.clone(),
        control,
        revisions,
        ended: Ended::default(),
        keys,
    };
    let stop = tasks.clone();
    tasks.spawn_essential("daemon set controller", async move {
        let controller = &controller;
        controller
            .keys
            .work(stop, "DaemonSet", |key| controller.look(key))
            .await;
    });
}

/// What decides whether a pod goes onto a node.
#[derive(Clone, PartialEq)]
struct Placement {
    uid: Option<String>,
    is_deleted: bool,
    labels: Option<std::collections::BTreeMap<String, String>>,
    taints: Option<Vec<k8s_openapi::api::core::v1::Taint>>,
}

impl Placement {
    fn of(node: &Node) -> Self {
        Self {
            uid: node.uid(),
            is_deleted: node.metadata.deletion_timestamp.is_some(),
            labels: node.metadata.labels.clone(),
            taints: node.spec.as_ref().and_then(|s| s.taints.clone()),
        }
    }
}

impl Controller {
    async fn look(&self, key: Key) -> Looked {
        let are_listed =
            self.pods.is_complete() && self.nodes.is_complete() && self.revisions.all.is_complete();
        if !are_listed {
            return Ok(Some(super::NOT_LISTED));
        }
        let Some(set) = self.sets.get(&key.namespace, &key.name) else {
            self.control.written.forget(&key);
            self.forget_gone();
            return Ok(None);
        };
        if let Some(wait) = self.control.written.is_awaited(&key, self.pods.revision()) {
            return Ok(Some(wait));
        }
        let Some(spec) = set.spec.as_ref().filter(|spec| !is_empty(&spec.selector)) else {
            return Ok(None);
        };
        let collisions = set.status.as_ref().and_then(|s| s.collision_count);
        let present = self
            .revisions
            .present(&*set, &spec.selector, &spec.template, collisions)
            .await?;
        let Present::Is(present, history) = present else {
            let mut status = set.status.clone().unwrap_or_default();
            status.collision_count = Some(collisions.unwrap_or(0).saturating_add(1));
            return self.write_status(&set, status).await.map(|()| None);
        };
        let here = self.pods.in_namespace(&key.namespace);
        let owned = claim_all(&self.control.client, &*set, &spec.selector, here).await?;
        let hash = hash_of(&present).unwrap_or_default();
        let nodes = self.nodes.all();
        let plan = plan(&set, hash, &owned, &nodes, Timestamp::now());
        let next = self.carry_out(&set, plan).await?;
        let live = owned
            .iter()
            .filter_map(|pod| pod.labels().get(REVISION_HASH).cloned())
            .chain([hash.to_owned()]);
        self.revisions
            .clean_up(&history, &live.collect(), spec.revision_history_limit)
            .await?;
        Ok(next)
    }

    async fn carry_out(&self, set: &DaemonSet, plan: Plan) -> Looked {
        let mut next = plan.next;
        let mut delete = plan.delete;
        let uid = set.uid().unwrap_or_default();
        for (node, pod) in plan.ended {
            match self.ended.pause(&uid, &node, Instant::now()) {
                Duration::ZERO => {
                    self.tell_ended(set, &node, &pod).await;
                    delete.push(pod);
                }
                left => next = sooner(next, Some(left)),
            }
        }
        let deleted = self.control.delete(set, &delete).await;
        let created = self.control.create(set, plan.create).await;
        if set.status.as_ref() != Some(&plan.status) {
            self.write_status(set, plan.status).await?;
        }
        deleted?;
        match created {
            Err(error) if !super::pods::is_ending(&error) => Err(error),
            _ => Ok(next),
        }
    }

    async fn tell_ended(&self, set: &DaemonSet, node: &str, pod: &Pod) {
        let name = pod.name_any();
        let event = match berth_workloads::pod::phase(pod) {
            "Succeeded" => Event::normal(
                "SucceededDaemonPod",
                format!("Found succeeded daemon pod {name} on node {node}, will try to delete it"),
            ),
            _ => Event::warning(
                "FailedDaemonPod",
                format!("Found failed daemon pod {name} on node {node}, will try to kill it"),
            ),
        };
        self.control.recorder.record(set, &event).await;
    }

    fn forget_gone(&self) {
        let there = self.sets.all().iter().filter_map(|set| set.uid()).collect();
        self.ended.keep_only(&there);
    }

    async fn write_status(&self, set: &DaemonSet, status: DaemonSetStatus) -> kube::Result<()> {
        let mut changed = set.clone();
        changed.status = Some(status);
        write_status(&self.control.client, &changed).await.map(drop)
    }
}
