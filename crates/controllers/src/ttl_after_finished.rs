//! Finished Jobs are deleted when their time to live is over (`spec.ttlSecondsAfterFinished`), as by the stock
//! ttl-after-finished controller: in the foreground, so that a Job goes after its Pods.
//!
//! The watch says when to look. What is deleted is judged by the Job as it is at that moment, and deleted in that very
//! state: whoever lengthens the time to live of a Job just in time keeps it.

mod due;
mod retries;

use std::time::Duration;

use berth_supervise::Brief;
use berth_supervise::measures::WorkQueue;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{Api, DeleteParams, PropagationPolicy};
use kube::{Client, ResourceExt as _};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::retries::Retries;
use crate::Reflected;
use crate::server::{is_code, only_unchanged};

/// The longest time between two looks at all Jobs: clocks jump.
const MEASURES: WorkQueue = WorkQueue::new("ttl_jobs_to_delete");
const PERIOD: Duration = Duration::from_secs(60);

/// Runs until `shutdown`. `clock` says what time it is.
pub async fn run(
    client: Client,
    mut jobs: Reflected<Job>,
    clock: fn() -> Timestamp,
    shutdown: CancellationToken,
) {
    let mut retries = Retries::default();
    loop {
        let next = if jobs.is_complete() {
            sweep(&client, &jobs, &mut retries, clock).await
        } else {
            PERIOD
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = jobs.changed_or(next) => {}
        }
    }
}

/// Deletes what is due, and says how long there is nothing more to do.
async fn sweep(
    client: &Client,
    jobs: &Reflected<Job>,
    retries: &mut Retries,
    clock: fn() -> Timestamp,
) -> Duration {
    let all = jobs.all();
    retries.keep_only(all.iter().filter_map(|job| job.metadata.uid.as_deref()));
    let mut next = PERIOD;
    for job in all {
        let Some(uid) = job.metadata.uid.as_deref() else {
            continue;
        };
        let now = clock();
        let left = match due::time_left(&job, now) {
            Ok(Some(left)) => left.max(retries.time_left(uid, now)),
            Ok(None) => continue,
            Err(error) => {
                if retries.is_first(uid, now) {
                    warn!(namespace = job.namespace(), job = job.name_any(), %error, "a finished Job is kept");
                }
                continue;
            }
        };
        if !left.is_zero() {
            next = next.min(left);
            continue;
        }
        // Until the watch tells of the deletion, the Job here looks as before.
        next = next.min(retries.tried(uid, now));
        if let Err(error) = MEASURES.look(remove(client, &job, clock)).await {
            warn!(namespace = job.namespace(), job = job.name_any(), error = %Brief(&error), "cannot delete a finished Job yet");
        }
    }
    next
}

/// Deletes a Job if its time is over in the state in which the server has it.
async fn remove(client: &Client, known: &Job, clock: fn() -> Timestamp) -> kube::Result<()> {
    let (namespace, name) = (known.namespace().unwrap_or_default(), known.name_any());
    let api: Api<Job> = Api::namespaced(client.clone(), &namespace);
    let Some(job) = api.get_opt(&name).await? else {
        return Ok(());
    };
    let over = matches!(due::time_left(&job, clock()), Ok(Some(left)) if left.is_zero());
    if job.metadata.uid != known.metadata.uid || !over {
        return Ok(());
    }
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Foreground),
        ..only_unchanged(&job.metadata)
    };
    match api.delete(&name, &params).await {
        Ok(_) => {
            info!(
                namespace,
                job = name,
                "deleted a finished Job whose time to live is over"
            );
            Ok(())
        }
        // It is gone, or has changed since: that is an event.
        Err(error) if is_code(&error, &[404, 409]) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
