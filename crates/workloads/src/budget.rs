//! PodDisruptionBudgets: how many pods may be evicted (KEP-85).

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{
    PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::intstr::scaled;
use crate::pod::{count, is_ready, sooner};

const CONDITION: &str = "DisruptionAllowed";
/// An eviction whose pod is still there after this time has come to nothing.
const PATIENCE: SignedDuration = SignedDuration::from_mins(2);

/// Whether the number of replicas of the pods' controllers has to be known.
#[must_use]
pub fn needs_scale(budget: &PodDisruptionBudget) -> bool {
    budget.spec.as_ref().is_some_and(is_relative)
}

fn is_relative(spec: &PodDisruptionBudgetSpec) -> bool {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    spec.max_unavailable.is_some() || matches!(spec.min_available, Some(IntOrString::String(_)))
}

/// The status, and when to look again although nothing changed.
///
/// `pods` are those that the budget selects. `scale` is how many pods their controllers want together, asked for where
/// [`needs_scale`]; an error says why nobody knows: then nothing may be evicted.
#[must_use]
pub fn status(
    budget: &PodDisruptionBudget,
    pods: &[&Pod],
    scale: Result<i32, String>,
    now: Timestamp,
) -> (PodDisruptionBudgetStatus, Option<Duration>) {
    let old = budget.status.clone().unwrap_or_default();
    let spec = budget.spec.clone().unwrap_or_default();
    let bounds = if is_relative(&spec) {
        scale.and_then(|scale| bounds(&spec, scale))
    } else {
        bounds(&spec, count(pods.len()))
    };
    let generation = budget.metadata.generation;
    let (expected, desired) = match bounds {
        Ok(bounds) => bounds,
        Err(why) => {
            let mut status = old;
            status.disruptions_allowed = Some(0);
            status.observed_generation = generation;
            set_condition(&mut status, generation, "SyncFailed", &why, now);
            return (status, None);
        }
    };
    let (disrupted, next) = still_expected(&old, pods, now);
    let healthy = pods.iter().filter(|pod| {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        is_ready(pod) && pod.metadata.deletion_timestamp.is_none() && !disrupted.contains_key(name)
    });
    let healthy = count(healthy.count());
    let allowed = match expected {
        0 => 0,
        _ => (healthy - desired).max(0),
    };
    let mut status = PodDisruptionBudgetStatus {
        conditions: old.conditions,
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        disrupted_pods: (!disrupted.is_empty()).then_some(disrupted),
        disruptions_allowed: Some(allowed),
        expected_pods: Some(expected),
        observed_generation: generation,
    };
    let reason = match allowed {
        0 => "InsufficientPods",
        _ => "SufficientPods",
    };
    set_condition(&mut status, generation, reason, "", now);
    (status, next)
}

/// How many pods there should be, and how many of them must be healthy.
fn bounds(spec: &PodDisruptionBudgetSpec, expected: i32) -> Result<(i32, i32), String> {
    let of = |value| {
        scaled(value, expected, true).ok_or_else(|| {
            "neither minAvailable nor maxUnavailable is a number or a percentage".to_owned()
        })
    };
    let desired = match &spec.max_unavailable {
        Some(most) => (expected - of(Some(most))?).max(0),
        None => match &spec.min_available {
            Some(least) => of(Some(least))?,
            // The server's default.
            None => 1,
        },
    };
    Ok((expected, desired))
}

/// Evictions that were allowed and whose pods are not being deleted yet, and until when they count.
fn still_expected(
    status: &PodDisruptionBudgetStatus,
    pods: &[&Pod],
    now: Timestamp,
) -> (BTreeMap<String, Time>, Option<Duration>) {
    let mut left = BTreeMap::new();
    let mut next: Option<Duration> = None;
    for (name, since) in status.disrupted_pods.iter().flatten() {
        let pod = pods
            .iter()
            .find(|pod| pod.metadata.name.as_ref() == Some(name));
        let Some(end) = since.0.checked_add(PATIENCE).ok().filter(|end| *end > now) else {
            continue;
        };
        if pod.is_some_and(|pod| pod.metadata.deletion_timestamp.is_none()) {
            left.insert(name.clone(), since.clone());
            let wait = Duration::try_from(end.duration_since(now)).unwrap_or_default();
            next = sooner(next, Some(wait));
        }
    }
    (left, next)
}

fn set_condition(
    status: &mut PodDisruptionBudgetStatus,
    generation: Option<i64>,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let conditions = status.conditions.get_or_insert_default();
    let is = if reason == "SufficientPods" {
        "True"
    } else {
        "False"
    };
    let old = conditions.iter().position(|c| c.type_ == CONDITION);
    let old = old.map(|at| conditions.remove(at));
    let since = old.filter(|old| old.status == is);
    conditions.push(Condition {
        type_: CONDITION.to_owned(),
        status: is.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: generation,
        last_transition_time: since.map_or(Time(now), |old| old.last_transition_time),
    });
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::tests::{at, object, ready_pod};

    fn budget(spec: Value) -> PodDisruptionBudget {
        object(json!({"metadata": {"name": "b", "generation": 3}, "spec": spec}))
    }

    #[test]
    fn how_many_may_go() {
        let pods: Vec<Pod> = (0..5).map(|i| ready_pod(&i.to_string(), 0)).collect();
        let all: Vec<&Pod> = pods.iter().collect();
        for (spec, scale, wanted) in [
            (json!({"minAvailable": 3}), 9, (5, 3, 2)),
            (json!({"minAvailable": 7}), 9, (5, 7, 0)),
            (json!({"minAvailable": "50%"}), 5, (5, 3, 2)),
            (json!({"maxUnavailable": 1}), 5, (5, 4, 1)),
            (json!({"maxUnavailable": "30%"}), 5, (5, 3, 2)),
            // More are wanted than there are.
            (json!({"maxUnavailable": 1}), 10, (10, 9, 0)),
            (json!({"maxUnavailable": 0}), 5, (5, 5, 0)),
            (json!({"maxUnavailable": 3}), 0, (0, 0, 0)),
        ] {
            let (status, _) = status(&budget(spec.clone()), &all, Ok(scale), at(0));
            let found = (
                status.expected_pods.unwrap_or(-1),
                status.desired_healthy.unwrap_or(-1),
                status.disruptions_allowed.unwrap_or(-1),
            );
            assert_eq!(found, wanted, "{spec}");
            assert_eq!(status.observed_generation, Some(3));
            let condition = &status.conditions.expect("conditions")[0];
            assert_eq!(condition.status == "True", wanted.2 > 0, "{spec}");
        }
    }

    #[test]
    fn what_nobody_knows_allows_nothing() {
        let mut budget = budget(json!({"maxUnavailable": 1}));
        budget.status.get_or_insert_default().disruptions_allowed = Some(4);
        let why = "no controller of its pods has a scale".to_owned();
        let (status, _) = status(&budget, &[], Err(why.clone()), at(0));
        assert_eq!(status.disruptions_allowed, Some(0));
        let condition = &status.conditions.expect("conditions")[0];
        assert_eq!(
            (condition.reason.as_str(), &condition.message),
            ("SyncFailed", &why)
        );
    }

    #[test]
    fn evictions_on_their_way_count() {
        let pods: Vec<Pod> = (0..3).map(|i| ready_pod(&i.to_string(), 0)).collect();
        let all: Vec<&Pod> = pods.iter().collect();
        let mut budget = budget(json!({"minAvailable": 1}));
        let old = budget.status.get_or_insert_default();
        old.disrupted_pods = Some(BTreeMap::from([
            ("0".to_owned(), Time(at(0))),
            ("gone".to_owned(), Time(at(0))),
        ]));
        let (first, next) = status(&budget, &all, Ok(0), at(30));
        assert_eq!(
            (first.current_healthy, first.disruptions_allowed),
            (Some(2), Some(1))
        );
        assert_eq!(next, Some(Duration::from_secs(90)));
        assert_eq!(first.disrupted_pods.map(|pods| pods.len()), Some(1));
        let (later, next) = status(&budget, &all, Ok(0), at(120));
        assert_eq!(
            (later.current_healthy, next),
            (Some(3), None),
            "it has come to nothing"
        );
    }
}
