//! Pods that fail as soon as they are made: the node can't run their handler, or refuses them for another reason.
//!
//! Replicas are restarted in place, so that a pod of theirs fails only when its node refuses or evicts it. The stock controller
//! replaces it at once and without end. Here the first failures are answered so, too, as many as there are replicas; then the
//! controller waits, twice as long each time, and says why.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::Failure;
use crate::pod::{condition, is_active, phase};

/// After as many failures as there are replicas once more.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);

/// How long no pod is to be made, and why.
pub(super) fn pause(
    owned: &[Arc<Pod>],
    wanted: usize,
    now: Timestamp,
) -> Option<(Duration, Failure)> {
    let created = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|t| t.0);
    // What runs since shows that it can be done.
    let last_success = owned
        .iter()
        .filter(|pod| is_active(pod) && condition(pod, "Ready").is_some_and(|c| c.status == "True"))
        .filter_map(|pod| created(pod))
        .max();
    let failed: Vec<_> = owned
        .iter()
        .filter(|pod| phase(pod) == "Failed" && created(pod) > last_success)
        .collect();
    let rounds = failed.len().checked_div(wanted)?;
    let doublings = u32::try_from(rounds.checked_sub(1)?).unwrap_or(u32::MAX);
    if failed.len() <= wanted {
        return None;
    }
    let last = failed.iter().max_by_key(|pod| created(pod))?;
    let pause = FIRST
        .saturating_mul(2_u32.saturating_pow(doublings))
        .min(LONGEST);
    // A clock that was put back must not make it wait for longer than that.
    let passed = Duration::try_from(now.duration_since(created(last)?)).unwrap_or_default();
    let left = pause.checked_sub(passed).filter(|left| !left.is_zero())?;
    let status = last.status.as_ref();
    let reason = status.and_then(|s| s.reason.as_deref()).unwrap_or("Failed");
    let message = status.and_then(|s| s.message.as_deref());
    let name = last.metadata.name.as_deref().unwrap_or_default();
    Some((
        left,
        Failure {
            reason: "PodsFail",
            message: format!(
                "{} pods have failed since one ran; the last, \"{name}\": {}",
                failed.len(),
                message.unwrap_or(reason),
            ),
        },
    ))
}
