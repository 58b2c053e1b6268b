//! Whether a pod counts, is ready, is available.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;

pub use berth_core::pod::{condition, is_finished, is_ready, phase};

/// It neither has ended nor is being deleted.
#[must_use]
pub fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// It is being deleted, and has not ended.
#[must_use]
pub fn is_terminating(pod: &Pod) -> bool {
    !is_finished(pod) && pod.metadata.deletion_timestamp.is_some()
}

/// How long until a ready pod has been so for `min_ready_seconds`: zero for one that is available, none for one that isn't ready.
#[must_use]
pub fn until_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> Option<Duration> {
    let ready = condition(pod, "Ready").filter(|c| c.status == "True")?;
    if min_ready_seconds <= 0 {
        return Some(Duration::ZERO);
    }
    let since = ready.last_transition_time.as_ref()?.0;
    let at = since
        .checked_add(SignedDuration::from_secs(min_ready_seconds.into()))
        .ok()?;
    Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
}

/// It has been ready for long enough.
#[must_use]
pub fn is_available(pod: &Pod, min_ready_seconds: i32, now: Timestamp) -> bool {
    until_available(pod, min_ready_seconds, now) == Some(Duration::ZERO)
}

/// How many pods are ready, how many available, and when the next one becomes so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Pods whose condition Ready is True.
    pub ready: i32,
    /// Those that have been so for the minimum time.
    pub available: i32,
    /// When to look again.
    pub next: Option<Duration>,
}

impl Readiness {
    /// Of these pods.
    pub fn of<'a>(
        pods: impl IntoIterator<Item = &'a Pod>,
        min_ready_seconds: i32,
        now: Timestamp,
    ) -> Self {
        let mut all = Self::default();
        for pod in pods {
            match until_available(pod, min_ready_seconds, now) {
                Some(Duration::ZERO) => {
                    all.ready += 1;
                    all.available += 1;
                }
                Some(left) => {
                    all.ready += 1;
                    all.next = sooner(all.next, Some(left));
                }
                None if is_ready(pod) => all.ready += 1,
                None => {}
            }
        }
        all
    }
}

/// The earlier of two times to look again.
#[must_use]
pub fn sooner(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    [one, other].into_iter().flatten().min()
}

/// A count as the API has it.
pub(crate) fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// A number of replicas as a length; negative ones, which the API server refuses, count as none.
pub(crate) fn length(number: i32) -> usize {
    usize::try_from(number).unwrap_or(0)
}
