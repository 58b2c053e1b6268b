//! What became of the Jobs that were started.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Plan;
use crate::Event;
use crate::job::is_finished;
use crate::pod::length;

/// Takes what has ended or is gone out of the active ones, and has the oldest ended ones removed.
pub(super) fn take_in(plan: &mut Plan, cron: &CronJob, spec: &CronJobSpec, jobs: &[Arc<Job>]) {
    for job in jobs {
        let was_active = is_active(&plan.status, job);
        match ended(job) {
            None if !was_active && job.metadata.deletion_timestamp.is_none() => {
                // It was created, and then its creator died before it wrote so.
                plan.status
                    .active
                    .get_or_insert_default()
                    .push(super::reference(job));
            }
            None => {}
            Some(condition) => {
                if was_active {
                    remove_active(&mut plan.status, job);
                    let name = job.metadata.name.as_deref().unwrap_or_default();
                    plan.events.push(Event::normal(
                        "SawCompletedJob",
                        format!("Saw completed job: {name}, condition: {condition}"),
                    ));
                }
                if condition == "Complete" {
                    note_success(&mut plan.status, job);
                }
            }
        }
    }
    remove_gone(plan, jobs);
    if cron.metadata.deletion_timestamp.is_none() {
        let limit = spec.successful_jobs_history_limit;
        remove_oldest(plan, jobs, "Complete", limit.unwrap_or(3));
        let limit = spec.failed_jobs_history_limit;
        remove_oldest(plan, jobs, "Failed", limit.unwrap_or(1));
    }
}

fn is_active(status: &CronJobStatus, job: &Job) -> bool {
    let active = status.active.iter().flatten();
    active.into_iter().any(|one| one.uid == job.metadata.uid)
}

pub(super) fn remove_active(status: &mut CronJobStatus, job: &Job) {
    if let Some(active) = &mut status.active {
        active.retain(|one| one.uid != job.metadata.uid);
    }
    status.active = status.active.take().filter(|active| !active.is_empty());
}

/// `Complete` or `Failed`, for one that has ended.
fn ended(job: &Job) -> Option<&str> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let is_end = |type_: &str| matches!(type_, "Complete" | "Failed");
    let ended = conditions
        .iter()
        .find(|c| is_end(&c.type_) && c.status == "True")?;
    Some(&ended.type_)
}

fn note_success(status: &mut CronJobStatus, job: &Job) {
    let completed = job.status.as_ref().and_then(|s| s.completion_time.as_ref());
    let last = status.last_successful_time.as_ref();
    if let Some(completed) = completed
        && last.is_none_or(|last| last.0 < completed.0)
    {
        status.last_successful_time = Some(Time(completed.0));
    }
}

fn remove_gone(plan: &mut Plan, jobs: &[Arc<Job>]) {
    let Some(active) = plan.status.active.take() else {
        return;
    };
    let mut left = Vec::new();
    for one in active {
        if jobs.iter().any(|job| job.metadata.uid == one.uid) {
            left.push(one);
        } else {
            let name = one.name.as_deref().unwrap_or_default();
            plan.events.push(Event::normal(
                "MissingJob",
                format!("Active job went missing: {name}"),
            ));
        }
    }
    plan.status.active = (!left.is_empty()).then_some(left);
}

fn remove_oldest(plan: &mut Plan, jobs: &[Arc<Job>], condition: &str, limit: i32) {
    let of = jobs
        .iter()
        .filter(|job| ended(job) == Some(condition) && is_finished(job));
    let mut of: Vec<_> = of
        .filter(|job| job.metadata.deletion_timestamp.is_none())
        .collect();
    of.sort_by_key(|job| {
        let start = job.status.as_ref().and_then(|s| s.start_time.as_ref());
        (start.map(|time| time.0), job.metadata.name.clone())
    });
    let excess = of.len().saturating_sub(length(limit));
    plan.delete.extend(of.into_iter().take(excess).cloned());
}
