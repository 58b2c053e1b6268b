//! StatefulSets.

use std::collections::BTreeSet;
use std::time::Duration;

use berth_core::selector::is_empty;
use berth_supervise::{Brief, Tasks};
use berth_workloads::Event;
use berth_workloads::owner::controller_of;
use berth_workloads::pod::sooner;
use berth_workloads::revision::REVISION_HASH;
use berth_workloads::stateful_set::{Claim, Owned, Plan, plan};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::time::Instant;

use super::Key;
use super::claim::{claim_all, wake_for_orphan};
use super::ended::Ended;
use super::keyed::{Keys, Looked};
use super::pods::Pods;
use super::revisions::{Present, Revisions};
use crate::Reflected;
use crate::server::{is_code, write_status};

struct Controller {
    sets: Reflected<StatefulSet>,
    pods: Reflected<Pod>,
    claims: Reflected<PersistentVolumeClaim>,
    control: Pods,
    revisions: Revisions,
    ended: Ended,
    keys: Keys,
}

/// Spawns the controller.
pub(super) fn spawn(
    tasks: &Tasks,
    sets: Reflected<StatefulSet>,
    pods: &Reflected<Pod>,
    claims: Reflected<PersistentVolumeClaim>,
    control: Pods,
    revisions: Revisions,
) {
    let keys = Keys::new("statefulset");
    let own = keys.clone();
    sets.listen(move |set| own.add(&Key::of(set)));
    let (own, known) = (keys.clone(), sets.clone());
    pods.listen(move |pod| match controller_of(&pod.metadata) {
        Some(owner) if owner.kind == "StatefulSet" => {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            own.add(&Key::new(namespace, &owner.name));
        }
        Some(_) => {}
        None => wake_for_orphan(&own, &known, pod, |set| Some(&set.spec.as_ref()?.selector)),
    });
    let controller = Controller {
        sets,
        pods: pods.clone(),
        claims,
        control,
        revisions,
        ended: Ended::default(),
        keys,
    };
    let stop = tasks.clone();
    tasks.spawn_essential("stateful set controller", async move {
        let controller = &controller;
        controller
            .keys
            .work(stop, "StatefulSet", |key| controller.look(key))
            .await;
    });
}

impl Controller {
    async fn look(&self, key: Key) -> Looked {
        let are_listed = self.pods.is_complete()
            && self.claims.is_complete()
            && self.revisions.all.is_complete();
        if !are_listed {
            return Ok(Some(super::NOT_LISTED));
        }
        let Some(set) = self.sets.get(&key.namespace, &key.name) else {
            self.control.written.forget(&key);
            let there = self.sets.all().iter().filter_map(|set| set.uid()).collect();
            self.ended.keep_only(&there);
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
        let Present::Is(update, history) = present else {
            let mut status = set.status.clone().unwrap_or_default();
            status.collision_count = Some(collisions.unwrap_or(0).saturating_add(1));
            return self.write_status(&set, status).await.map(|()| None);
        };
        let named = set
            .status
            .as_ref()
            .and_then(|s| s.current_revision.as_deref());
        let current = history
            .iter()
            .find(|revision| Some(revision.name_any().as_str()) == named)
            .unwrap_or(&update);
        let here = self.pods.in_namespace(&key.namespace);
        let owned = claim_all(&self.control.client, &*set, &spec.selector, here).await?;
        let claims = self.claims.in_namespace(&key.namespace);
        let all = Owned {
            pods: &owned,
            claims: &claims,
            update: &update,
            current,
        };
        let plan = plan(&set, &all, Timestamp::now());
        let next = self.carry_out(&set, plan).await?;
        let mut live: BTreeSet<String> = owned
            .iter()
            .filter_map(|pod| pod.labels().get(REVISION_HASH).cloned())
            .collect();
        live.extend([update.name_any(), current.name_any()]);
        self.revisions
            .clean_up(&history, &live, spec.revision_history_limit)
            .await?;
        Ok(next)
    }

    async fn carry_out(&self, set: &StatefulSet, plan: Plan) -> Looked {
        for claim in plan.claims {
            self.write_claim(set, claim).await?;
        }
        let (mut next, mut delete) = (plan.next, plan.delete);
        let uid = set.uid().unwrap_or_default();
        for pod in plan.ended {
            let name = pod.name_any();
            match self.ended.pause(&uid, &name, Instant::now()) {
                Duration::ZERO => {
                    let message = format!(
                        "StatefulSet {}/{} is recreating failed Pod {name}",
                        set.namespace().unwrap_or_default(),
                        set.name_any(),
                    );
                    let event = Event::warning("RecreatingFailedPod", message);
                    self.control.recorder.record(set, &event).await;
                    delete.push(pod);
                }
                left => next = sooner(next, Some(left)),
            }
        }
        for (pod, labels) in &plan.repair {
            let namespace = set.namespace().unwrap_or_default();
            let api: Api<Pod> = Api::namespaced(self.control.client.clone(), &namespace);
            let patch = json!({"metadata": {"uid": pod.uid(), "labels": labels}});
            let params = PatchParams::default();
            api.patch(&pod.name_any(), &params, &Patch::Merge(patch))
                .await?;
        }
        let created = self.control.create(set, plan.create).await;
        let deleted = self.control.delete(set, &delete).await;
        if set.status.as_ref() != Some(&plan.status) {
            self.write_status(set, plan.status).await?;
        }
        deleted?;
        match created {
            Err(error) if !super::pods::is_ending(&error) => Err(error),
            _ => Ok(next),
        }
    }

    async fn write_claim(&self, set: &StatefulSet, claim: Claim) -> kube::Result<()> {
        let namespace = set.namespace().unwrap_or_default();
        let api: Api<PersistentVolumeClaim> =
            Api::namespaced(self.control.client.clone(), &namespace);
        match claim {
            Claim::Create(claim) => {
                let name = claim.name_any();
                let event = match api.create(&PostParams::default(), &claim).await {
                    Ok(_) => Ok(Event::normal(
                        "SuccessfulCreate",
                        format!(
                            "create Claim {name} Pod in StatefulSet {} success",
                            set.name_any()
                        ),
                    )),
                    Err(error) if is_code(&error, &[409]) => return Ok(()),
                    Err(error) => Err(error),
                };
                let (event, result) = match event {
                    Ok(event) => (event, Ok(())),
                    Err(error) => (
                        Event::warning(
                            "FailedCreate",
                            format!(
                                "create Claim {name} for Pod in StatefulSet {} failed error: {}",
                                set.name_any(),
                                Brief(&error)
                            ),
                        ),
                        Err(error),
                    ),
                };
                self.control.recorder.record(set, &event).await;
                result
            }
            Claim::Own(old, owners) => {
                let patch = json!({"metadata": {
                    "uid": old.uid(), "resourceVersion": old.resource_version(), "ownerReferences": owners,
                }});
                let params = PatchParams::default();
                api.patch(&old.name_any(), &params, &Patch::Merge(patch))
                    .await
                    .map(drop)
            }
        }
    }

    async fn write_status(&self, set: &StatefulSet, status: StatefulSetStatus) -> kube::Result<()> {
        let mut changed = set.clone();
        changed.status = Some(status);
        write_status(&self.control.client, &changed).await.map(drop)
    }
}
