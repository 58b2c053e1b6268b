//! CronJobs.

use std::sync::Arc;
use std::time::Duration;

use berth_supervise::{Brief, Tasks};
use berth_workloads::Event;
use berth_workloads::cron_job::{Plan, plan, started};
use berth_workloads::owner::{controller_of, is_controlled_by};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use kube::api::{Api, DeleteParams, PostParams, PropagationPolicy};
use kube::{Client, ResourceExt as _};

use super::Key;
use super::keyed::{Keys, Looked};
use super::pods::is_ending;
use super::seen::Written;
use crate::Reflected;
use crate::record::Recorder;
use crate::reflect::revision_of;
use crate::server::{is_code, only, write_status};

/// The longest time between two looks: clocks jump.
const PERIOD: Duration = Duration::from_secs(60);

struct Controller {
    client: Client,
    crons: Reflected<CronJob>,
    jobs: Reflected<Job>,
    recorder: Arc<Recorder>,
    /// Statuses that were written.
    written: Written,
    keys: Keys,
}

/// Spawns the controller.
pub(super) fn spawn(
    tasks: &Tasks,
    client: &Client,
    crons: Reflected<CronJob>,
    jobs: &Reflected<Job>,
    recorder: Arc<Recorder>,
) {
    let keys = Keys::new("cronjob");
    let own = keys.clone();
    crons.listen(move |cron| own.add(&Key::of(cron)));
    let own = keys.clone();
    jobs.listen(move |job| {
        if let Some(owner) = controller_of(&job.metadata).filter(|o| o.kind == "CronJob") {
            let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
            own.add(&Key::new(namespace, &owner.name));
        }
    });
    let controller = Controller {
        client: client.clone(),
        crons,
        jobs: jobs.clone(),
        recorder,
        written: Written::default(),
        keys,
    };
    let stop = tasks.clone();
    tasks.spawn_essential("cron job controller", async move {
        let controller = &controller;
        controller
            .keys
            .work(stop, "CronJob", |key| controller.look(key))
            .await;
    });
}

impl Controller {
    async fn look(&self, key: Key) -> Looked {
        if !self.jobs.is_complete() {
            return Ok(Some(super::NOT_LISTED));
        }
        let Some(cron) = self.crons.get(&key.namespace, &key.name) else {
            self.written.forget(&key);
            return Ok(None);
        };
        if let Some(wait) = self.written.is_awaited(&key, self.crons.revision()) {
            return Ok(Some(wait));
        }
        let uid = cron.uid().unwrap_or_default();
        let mut jobs = self.jobs.in_namespace(&key.namespace);
        jobs.retain(|job| is_controlled_by(&job.metadata, &uid));
        let plan = plan(&cron, &jobs, Timestamp::now());
        self.carry_out(&cron, plan).await
    }

    async fn carry_out(&self, cron: &CronJob, plan: Plan) -> Looked {
        for event in &plan.events {
            self.recorder.record(cron, event).await;
        }
        for job in &plan.delete {
            self.delete(cron, job).await?;
        }
        let mut status = plan.status;
        if let Some((job, scheduled)) = &plan.create
            && let Some(made) = self.create(cron, job).await?
        {
            status = started(status, &made, *scheduled);
        }
        if cron.status.as_ref() != Some(&status) {
            self.write_status(cron, status).await?;
        }
        Ok(plan.next.map(|next| next.min(PERIOD)))
    }

    /// The Job, as it was made now or by an earlier attempt; nothing when its name is another's, or its namespace ends.
    async fn create(&self, cron: &CronJob, job: &Job) -> kube::Result<Option<Job>> {
        let api = self.jobs_in(cron);
        let name = job.name_any();
        let (event, result) = match api.create(&PostParams::default(), job).await {
            Ok(made) => (
                Event::normal("SuccessfulCreate", format!("Created job {name}")),
                Ok(Some(made)),
            ),
            Err(error) if is_code(&error, &[409]) => {
                let uid = cron.uid().unwrap_or_default();
                let there = api.get_opt(&name).await?;
                return Ok(there.filter(|job| is_controlled_by(&job.metadata, &uid)));
            }
            Err(error) if is_ending(&error) => return Ok(None),
            Err(error) => {
                let message = format!("Error creating job: {}", Brief(&error));
                (Event::warning("FailedCreate", message), Err(error))
            }
        };
        self.recorder.record(cron, &event).await;
        result
    }

    async fn delete(&self, cron: &CronJob, job: &Job) -> kube::Result<()> {
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            ..only(&job.metadata)
        };
        let name = job.name_any();
        match self.jobs_in(cron).delete(&name, &params).await {
            Ok(_) => {
                let event = Event::normal("SuccessfulDelete", format!("Deleted job {name}"));
                self.recorder.record(cron, &event).await;
                Ok(())
            }
            Err(error) if is_code(&error, &[404, 409]) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn jobs_in(&self, cron: &CronJob) -> Api<Job> {
        Api::namespaced(self.client.clone(), &cron.namespace().unwrap_or_default())
    }

    async fn write_status(&self, cron: &CronJob, status: CronJobStatus) -> kube::Result<()> {
        let mut changed = cron.clone();
        changed.status = Some(status);
        let written = write_status(&self.client, &changed).await?;
        self.written
            .note(&Key::of(cron), revision_of(&written.metadata));
        Ok(())
    }
}
