//! ReplicaSet and ReplicationController: so many pods of one template.

mod failing;
mod status;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::pod::{count, is_active, length};
use crate::rank::sort_for_deletion;

pub use status::{Failure, ReplicaStatus};

/// The most pods that are created or deleted at a time.
const BURST: usize = 500;

/// What a ReplicaSet and a ReplicationController have in common.
#[derive(Clone, Copy, Debug)]
pub struct Replicas<'a> {
    /// `metadata.generation`.
    pub generation: Option<i64>,
    /// `spec.replicas`, with the default of 1.
    pub wanted: i32,
    /// `spec.minReadySeconds`.
    pub min_ready_seconds: i32,
    /// The labels of `spec.template`.
    pub template_labels: Option<&'a std::collections::BTreeMap<String, String>>,
}

/// How the number of pods is to change.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// There are as many as there should be.
    None,
    /// So many more.
    Create(usize),
    /// More are missing, but those that were made last have failed: none is made for so long.
    Wait(Duration, Failure),
    /// These are too many.
    Delete(Vec<Arc<Pod>>),
}

/// Compares the pods that a controller owns with what it wants. `related` are the pods of the whole workload, for the choice of those that
/// go (see [`sort_for_deletion`]).
#[must_use]
pub fn change<'a>(
    wanted: i32,
    owned: &[Arc<Pod>],
    related: impl IntoIterator<Item = &'a Pod>,
    now: Timestamp,
) -> Change {
    let mut active: Vec<Arc<Pod>> = owned.iter().filter(|p| is_active(p)).cloned().collect();
    let wanted = length(wanted);
    if active.len() < wanted {
        if let Some((left, failure)) = failing::pause(owned, wanted, now) {
            return Change::Wait(left, failure);
        }
        return Change::Create((wanted - active.len()).min(BURST));
    }
    let excess = (active.len() - wanted).min(BURST);
    if excess == 0 {
        return Change::None;
    }
    let related = related.into_iter().filter(|pod| is_active(pod));
    sort_for_deletion(&mut active, related, now);
    active.truncate(excess);
    Change::Delete(active)
}

/// The status, and when it changes by itself.
#[must_use]
pub fn status(
    replicas: &Replicas<'_>,
    owned: &[Arc<Pod>],
    failure: Option<Failure>,
    old: &ReplicaStatus,
    now: Timestamp,
) -> (ReplicaStatus, Option<Duration>) {
    let active: Vec<&Pod> = owned
        .iter()
        .map(Arc::as_ref)
        .filter(|p| is_active(p))
        .collect();
    let terminating = owned.iter().filter(|pod| crate::pod::is_terminating(pod));
    let has_all = |pod: &&&Pod| {
        let labels = pod.metadata.labels.as_ref();
        let wanted = replicas.template_labels.into_iter().flatten();
        wanted
            .into_iter()
            .all(|(key, value)| labels.and_then(|l| l.get(key)) == Some(value))
    };
    let readiness =
        crate::pod::Readiness::of(active.iter().copied(), replicas.min_ready_seconds, now);
    let status = ReplicaStatus {
        replicas: count(active.len()),
        fully_labeled: count(active.iter().filter(has_all).count()),
        ready: readiness.ready,
        available: readiness.available,
        terminating: count(terminating.count()),
        observed_generation: replicas.generation,
        conditions: status::conditions(&old.conditions, failure, now),
    };
    (status, readiness.next)
}
