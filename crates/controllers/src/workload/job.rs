//! Jobs.

use std::sync::Arc;

use berth_supervise::Tasks;
use berth_workloads::job::{
    FINALIZER, Plan, has_finalizer, is_finished, is_managed_by_another, plan,
};
use berth_workloads::owner::controller_of;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::Key;
use super::claim::{claim_all, wake_for_orphan};
use super::keyed::{Keys, Looked, first_error};
use super::pods::Pods;
use super::seen::Written;
use crate::Reflected;
use crate::reflect::revision_of;
use crate::server::{is_code, write_status};

struct Controller {
    jobs: Reflected<Job>,
    pods: Reflected<Pod>,
    control: Pods,
    /// Statuses that were written.
    written: Written,
    keys: Keys,
}

/// Spawns the controller.
pub(super) fn spawn(tasks: &Tasks, jobs: Reflected<Job>, pods: &Reflected<Pod>, control: Pods) {
    let keys = Keys::new("job");
    let own = keys.clone();
    jobs.listen(move |job| own.add(&Key::of(job)));
    let (own, known) = (keys.clone(), jobs.clone());
    pods.listen(move |pod| match controller_of(&pod.metadata) {
        // Without a Job, too: the finalizer is to be removed.
        Some(owner) if owner.kind == "Job" => {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            own.add(&Key::new(namespace, &owner.name));
        }
        Some(_) => {}
        None => wake_for_orphan(&own, &known, pod, |job| {
            job.spec.as_ref()?.selector.as_ref()
        }),
    });
    let controller = Controller {
        jobs,
        pods: pods.clone(),
        control,
        written: Written::default(),
        keys,
    };
    let stop = tasks.clone();
    tasks.spawn_essential("job controller", async move {
        let controller = &controller;
        controller
            .keys
            .work(stop, "Job", |key| controller.look(key))
            .await;
    });
}

impl Controller {
    async fn look(&self, key: Key) -> Looked {
        if !self.pods.is_complete() || !self.jobs.is_complete() {
            return Ok(Some(super::NOT_LISTED));
        }
        let job = self.jobs.get(&key.namespace, &key.name);
        self.release_orphans(&key, job.as_deref()).await?;
        let Some(job) = job else {
            self.control.written.forget(&key);
            self.written.forget(&key);
            return Ok(None);
        };
        if is_managed_by_another(&job) {
            return Ok(None);
        }
        let pods = self.control.written.is_awaited(&key, self.pods.revision());
        if let Some(wait) = pods.or(self.written.is_awaited(&key, self.jobs.revision())) {
            return Ok(Some(wait));
        }
        let Some(selector) = job.spec.as_ref().and_then(|spec| spec.selector.clone()) else {
            return Ok(None);
        };
        let here = self.pods.in_namespace(&key.namespace);
        let owned = if is_finished(&job) {
            let uid = job.uid().unwrap_or_default();
            let is_own =
                |pod: &Arc<Pod>| berth_workloads::owner::is_controlled_by(&pod.metadata, &uid);
            here.into_iter().filter(is_own).collect()
        } else {
            claim_all(&self.control.client, &*job, &selector, here).await?
        };
        let plan = plan(&job, &owned, Timestamp::now());
        self.carry_out(&job, plan).await
    }

    /// Pods whose Job is gone, or has been followed by another of its name, wait for nobody any more.
    async fn release_orphans(&self, key: &Key, job: Option<&Job>) -> kube::Result<()> {
        let uid = job.and_then(|job| job.metadata.uid.as_ref());
        let is_orphan = |pod: &Arc<Pod>| {
            let owner = controller_of(&pod.metadata).filter(|o| o.kind == "Job");
            has_finalizer(pod)
                && owner.is_some_and(|owner| owner.name == key.name && Some(&owner.uid) != uid)
        };
        let here = self.pods.in_namespace(&key.namespace).into_iter();
        let orphans: Vec<_> = here.filter(is_orphan).collect();
        self.release(key, &orphans).await
    }

    async fn carry_out(&self, job: &Job, plan: Plan) -> Looked {
        let key = Key::of(job);
        let deleted = self.control.delete(job, &plan.delete).await;
        let wanted = plan.create.len();
        let created = self.control.create(job, plan.create).await;
        let mut status = plan.status;
        if created.is_err() {
            // How many there are now the watch will say.
            let active = status.active.unwrap_or(0);
            let fewer = active.saturating_sub(i32::try_from(wanted).unwrap_or(i32::MAX));
            status.active = Some(fewer.max(0)).filter(|active| *active > 0);
        }
        if job.status.as_ref() != Some(&status) {
            let mut changed = job.clone();
            changed.status = Some(status);
            let written = write_status(&self.control.client, &changed).await?;
            self.written.note(&key, revision_of(&written.metadata));
        }
        self.release(&key, &plan.release).await?;
        for event in &plan.events {
            self.control.recorder.record(job, event).await;
        }
        deleted?;
        match created {
            Err(error) if !super::pods::is_ending(&error) => Err(error),
            _ => Ok(plan.next),
        }
    }

    /// Removes the finalizer of pods; their UIDs are in the Job's status by now.
    async fn release(&self, key: &Key, pods: &[Arc<Pod>]) -> kube::Result<()> {
        let held = pods.iter().filter(|pod| has_finalizer(pod));
        let releasing = held.map(|pod| self.release_one(key, pod));
        match first_error(futures::future::join_all(releasing).await) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    async fn release_one(&self, key: &Key, pod: &Pod) -> kube::Result<()> {
        let api: Api<Pod> = Api::namespaced(self.control.client.clone(), &key.namespace);
        let patch = json!({"metadata": {
            "uid": pod.uid(),
            "$deleteFromPrimitiveList/finalizers": [FINALIZER],
        }});
        let params = PatchParams::default();
        match api
            .patch(&pod.name_any(), &params, &Patch::Strategic(patch))
            .await
        {
            Ok(_) => Ok(()),
            // It is gone, or another pod has its name.
            Err(error) if is_code(&error, &[404, 409, 422]) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
