//! How long the next pod waits after others failed.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::pod::{condition, phase};

/// After the first failure; each further one doubles it.
const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(600);

/// How long is left of the pause after the failures since the last success among these pods.
///
/// It is read from the pods themselves, so that a restart of the controller forgets nothing.
pub(super) fn left<'a>(
    pods: impl IntoIterator<Item = &'a Arc<Pod>>,
    is_failed: impl Fn(&Pod) -> bool,
    now: Timestamp,
) -> Duration {
    let (mut failures, mut last_success) = (Vec::new(), None);
    for pod in pods {
        if phase(pod) == "Succeeded" {
            last_success = last_success.max(finished_at(pod));
        } else if is_failed(pod) {
            failures.extend(finished_at(pod));
        }
    }
    failures.retain(|at| Some(*at) > last_success);
    let Some(last) = failures.iter().max() else {
        return Duration::ZERO;
    };
    let pause = pause(failures.len());
    // A clock that was put back must not make it wait for longer than that.
    let passed = Duration::try_from(now.duration_since(*last)).unwrap_or_default();
    pause.saturating_sub(passed)
}

fn pause(failures: usize) -> Duration {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST
        .saturating_mul(2_u32.saturating_pow(doublings))
        .min(LONGEST)
}

/// When the last of its containers ended, or what comes nearest to that.
fn finished_at(pod: &Pod) -> Option<Timestamp> {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|s| s.container_statuses.as_ref());
    let ends = statuses.into_iter().flatten().filter_map(|container| {
        let terminated = container.state.as_ref()?.terminated.as_ref()?;
        Some(terminated.finished_at.as_ref()?.0)
    });
    let ready = condition(pod, "Ready").and_then(|c| c.last_transition_time.as_ref());
    let deleted = pod.metadata.deletion_timestamp.as_ref();
    let created = pod.metadata.creation_timestamp.as_ref();
    ends.max()
        .or(ready.map(|t| t.0))
        .or(deleted.map(|t| t.0))
        .or(created.map(|t| t.0))
}
