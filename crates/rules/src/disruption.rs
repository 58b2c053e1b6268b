//! What disruption budgets say of an eviction.

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use berth_core::pod::is_ready;
use berth_core::selector::label_selector_matches;

/// How many evictions a budget counts that its controller has not seen yet.
const MAX_DISRUPTED_PODS: usize = 2000;
const CONDITION: &str = "DisruptionAllowed";

/// What becomes of the eviction of a pod that a budget is about.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The pod counts for nothing, so it goes, if it is still as it was judged.
    Uncounted,
    /// It goes, and the budget is this from then on.
    Allowed(Box<PodDisruptionBudgetStatus>),
    /// It stays for now.
    Refused(String),
    /// The budget says nothing that could be held to.
    Broken(String),
}

/// Records on the pod that an eviction removes it (KEP-3329): whoever counts failures may leave such pods out.
pub fn mark(pod: &mut Pod, now: Time) {
    let status = pod.status.get_or_insert_default();
    let conditions = status.conditions.get_or_insert_default();
    let condition = PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
        reason: Some("EvictionByEvictionAPI".to_owned()),
        message: Some("Eviction API: evicting".to_owned()),
        last_transition_time: Some(now),
        ..PodCondition::default()
    };
    let there = conditions.iter_mut().find(|c| c.type_ == condition.type_);
    match there {
        Some(there) if there.status == condition.status => {
            there.reason = condition.reason;
            there.message = condition.message;
        }
        Some(there) => *there = condition,
        None => conditions.push(condition),
    }
}

/// Whether an eviction is a deletion like any other: the pod serves nobody, or is going already.
#[must_use]
pub fn is_free(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    let runs = !matches!(phase, Some("Succeeded" | "Failed" | "Pending"));
    !runs || pod.metadata.deletion_timestamp.is_some()
}

/// Whether a budget is about a pod. One without a selector is about none.
#[must_use]
pub fn covers(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|s| s.selector.as_ref());
    selector.is_some_and(|s| label_selector_matches(s, pod.metadata.labels.as_ref()))
}

/// Judges the eviction of a pod at a time.
#[must_use]
pub fn judge(budget: &PodDisruptionBudget, pod: &Pod, now: Time) -> Verdict {
    let name = budget.metadata.name.as_deref().unwrap_or_default();
    let status = budget.status.clone().unwrap_or_default();
    let healthy = status.current_healthy.unwrap_or(0);
    let desired = status.desired_healthy.unwrap_or(0);
    if !is_ready(pod) {
        let policy = budget.spec.as_ref();
        let policy = policy.and_then(|s| s.unhealthy_pod_eviction_policy.as_deref());
        if policy == Some("AlwaysAllow") || (healthy >= desired && desired > 0) {
            return Verdict::Uncounted;
        }
    }
    if status.observed_generation.unwrap_or(0) < budget.metadata.generation.unwrap_or(0) {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return Verdict::Refused(why);
    }
    let disrupted = status
        .disrupted_pods
        .as_ref()
        .map_or(0, std::collections::BTreeMap::len);
    if disrupted > MAX_DISRUPTED_PODS {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Verdict::Broken(why.to_owned());
    }
    match status.disruptions_allowed.unwrap_or(0) {
        allowed if allowed < 0 => Verdict::Broken("pdb disruptions allowed is negative".to_owned()),
        0 => Verdict::Refused(format!(
            "The disruption budget {name} needs {desired} healthy pods and has {healthy} currently"
        )),
        allowed => Verdict::Allowed(Box::new(counted(status, allowed - 1, pod, now))),
    }
}

/// The status with one more eviction in it.
fn counted(
    mut status: PodDisruptionBudgetStatus,
    left: i32,
    pod: &Pod,
    now: Time,
) -> PodDisruptionBudgetStatus {
    status.disruptions_allowed = Some(left);
    let name = pod.metadata.name.clone().unwrap_or_default();
    status
        .disrupted_pods
        .get_or_insert_default()
        .insert(name, now.clone());
    if left == 0 {
        let conditions = status.conditions.get_or_insert_default();
        conditions.retain(|condition| condition.type_ != CONDITION);
        conditions.push(Condition {
            type_: CONDITION.to_owned(),
            status: "False".to_owned(),
            reason: "InsufficientPods".to_owned(),
            message: String::new(),
            last_transition_time: now,
            observed_generation: status.observed_generation,
        });
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
        serde_json::from_value(
            json!({"metadata": {"name": "b", "generation": 2}, "spec": spec, "status": status}),
        )
        .unwrap()
    }

    fn pod(phase: &str, ready: &str) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "labels": {"a": "1"}},
            "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]}}))
        .unwrap()
    }

    #[test]
    fn budgets() {
        let now = Time(jiff::Timestamp::UNIX_EPOCH);
        let judged = |spec: Value, status: Value, ready: &str| {
            judge(&budget(spec, status), &pod("Running", ready), now.clone())
        };
        let full = json!({"observedGeneration": 2, "disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1});
        match judged(json!({}), full, "True") {
            Verdict::Allowed(status) => {
                assert_eq!(status.disruptions_allowed, Some(0));
                assert!(status.disrupted_pods.unwrap().contains_key("p"));
                assert_eq!(status.conditions.unwrap()[0].status, "False");
            }
            other => panic!("{other:?}"),
        }
        let none = json!({"observedGeneration": 2, "disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1});
        assert!(matches!(
            judged(json!({}), none.clone(), "True"),
            Verdict::Refused(_)
        ));
        assert_eq!(judged(json!({}), none, "False"), Verdict::Uncounted);
        let short = json!({"observedGeneration": 2, "currentHealthy": 0, "desiredHealthy": 1});
        assert!(matches!(
            judged(json!({}), short.clone(), "False"),
            Verdict::Refused(_)
        ));
        let always = json!({"unhealthyPodEvictionPolicy": "AlwaysAllow"});
        assert_eq!(judged(always, short, "False"), Verdict::Uncounted);
        // Nobody has looked at it yet.
        assert!(matches!(
            judged(json!({}), json!({"disruptionsAllowed": 5}), "True"),
            Verdict::Refused(_)
        ));
        let odd = json!({"observedGeneration": 2, "disruptionsAllowed": -1});
        assert!(matches!(judged(json!({}), odd, "True"), Verdict::Broken(_)));
        assert!(is_free(&pod("Pending", "False")) && !is_free(&pod("Running", "False")));
        assert!(covers(
            &budget(json!({"selector": {}}), json!({})),
            &pod("Running", "True")
        ));
        assert!(!covers(
            &budget(json!({}), json!({})),
            &pod("Running", "True")
        ));
    }
}
