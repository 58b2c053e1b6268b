//! `spec.podFailurePolicy`: what a failed pod means for the Job (KEP-3329).

use k8s_openapi::api::batch::v1::{
    PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement,
    PodFailurePolicyOnPodConditionsPattern,
};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use crate::pod::condition;

/// What a failed pod means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// It counts towards the back-off limit; the default.
    Count,
    /// It doesn't count.
    Ignore,
    /// The Job fails, with these words.
    FailJob(String),
    /// Its index fails.
    FailIndex,
}

/// The action of the first rule that matches.
pub(super) fn action(policy: Option<&PodFailurePolicy>, pod: &Pod) -> Action {
    let rules = policy.map(|p| p.rules.as_slice()).unwrap_or_default();
    for (at, rule) in rules.iter().enumerate() {
        let by_code = rule
            .on_exit_codes
            .as_ref()
            .and_then(|codes| matching_container(codes, pod));
        let conditions = rule.on_pod_conditions.as_deref().unwrap_or_default();
        let by_condition = conditions.iter().find(|c| matches(c, pod));
        if by_code.is_none() && by_condition.is_none() {
            continue;
        }
        return match rule.action.as_str() {
            "Ignore" => Action::Ignore,
            "FailIndex" => Action::FailIndex,
            "FailJob" => {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
                Action::FailJob(match (by_code, by_condition) {
                    (Some((container, code)), _) => format!(
                        "Container {container} for pod {namespace}/{name} failed with exit code {code} matching FailJob \
                         rule at index {at}"
                    ),
                    (None, Some(pattern)) => format!(
                        "Pod {namespace}/{name} has condition {} matching FailJob rule at index {at}",
                        pattern.type_
                    ),
                    (None, None) => continue,
                })
            }
            _ => Action::Count,
        };
    }
    Action::Count
}

/// The container whose exit code the rule names, with the code. 0 is no failure.
fn matching_container<'a>(
    rule: &PodFailurePolicyOnExitCodesRequirement,
    pod: &'a Pod,
) -> Option<(&'a str, i32)> {
    let status = pod.status.as_ref()?;
    let init = status.init_container_statuses.iter().flatten();
    let mut all = init.chain(status.container_statuses.iter().flatten());
    all.find_map(|container: &ContainerStatus| {
        let named = rule.container_name.as_deref();
        let code = container.state.as_ref()?.terminated.as_ref()?.exit_code;
        if named.is_some_and(|name| name != container.name) || code == 0 {
            return None;
        }
        let is_among = rule.values.contains(&code);
        let is_meant = match rule.operator.as_str() {
            "In" => is_among,
            "NotIn" => !is_among,
            _ => false,
        };
        is_meant.then_some((container.name.as_str(), code))
    })
}

fn matches(pattern: &PodFailurePolicyOnPodConditionsPattern, pod: &Pod) -> bool {
    let wanted = pattern.status.as_deref().unwrap_or("True");
    condition(pod, &pattern.type_).is_some_and(|c| c.status == wanted)
}
