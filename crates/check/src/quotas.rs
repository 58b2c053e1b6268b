//! Pods and classes against quotas.

use k8s_openapi::api::core::v1::{Pod, PodSpec, ResourceQuota};
use k8s_openapi::api::node::v1::RuntimeClass;

use super::{Facts, Kind, Placed, Problem, text};
use berth_core::gates::FeatureGates;
use berth_core::resource_list::WireList;
use berth_core::resources::{self, Amounts, Overhead};
use berth_core::usage;
use berth_rules::admission::{Rejection, namespace_policy, quota};

/// Why a quota refuses a pod even when nothing else is in its namespace.
pub(super) fn of_pod(quota: &ResourceQuota, pod: &Pod, gates: &FeatureGates) -> Option<String> {
    let rejection = quota::check_pod(quota, &Amounts::new(), pod, gates).err()?;
    let share = match rejection {
        Rejection::QuotaExceeded { .. } => overhead_share(pod),
        _ => String::new(),
    };
    Some(format!("{rejection}{share}"))
}

/// Says how much of a pod's requests is overhead.
fn overhead_share(pod: &Pod) -> String {
    let Some(spec) = &pod.spec else {
        return String::new();
    };
    let empty = WireList::new();
    let overhead = resources::amounts(Some(spec.overhead.as_ref().unwrap_or(&empty)));
    if overhead.is_empty() {
        return String::new();
    }
    let whole = resources::pod_requests(spec, Overhead::Counted);
    let parts: Vec<String> = overhead
        .iter()
        .map(|(name, amount)| {
            format!(
                "{amount} of {} {name}",
                whole.get(name).cloned().unwrap_or_default()
            )
        })
        .collect();
    format!(" (overhead is {})", parts.join(", "))
}

/// The quotas that are smaller than the overhead of a class alone. Quotas of a scope count other pods, perhaps.
pub(super) fn of_class(facts: &Facts, class: &Placed<RuntimeClass>) -> Vec<Problem> {
    let name = text(&class.it.metadata.name);
    let overhead = class.it.overhead.as_ref().and_then(|o| o.pod_fixed.clone());
    if overhead.is_none() {
        return Vec::new();
    }
    let pod = Pod {
        spec: Some(PodSpec {
            overhead,
            ..PodSpec::default()
        }),
        ..Pod::default()
    };
    let mut usage = usage::pod_usage(&pod, &FeatureGates::default());
    usage.retain(|resource, _| !matches!(resource.as_str(), "pods" | "count/pods"));
    let unscoped = |quota: &&ResourceQuota| {
        let spec = quota.spec.as_ref();
        spec.is_none_or(|s| s.scopes.is_none() && s.scope_selector.is_none())
    };
    let mut problems = Vec::new();
    for quota in facts.quotas.iter().filter(unscoped) {
        let namespace = text(&quota.metadata.namespace);
        if !may_use(facts, namespace, name) {
            continue;
        }
        let refused = quota::check(quota, &Amounts::new(), &usage);
        if let Err(Rejection::QuotaExceeded {
            quota,
            requested,
            limited,
            ..
        }) = refused
        {
            problems.push(Problem::new(
                &class.place,
                &format!("RuntimeClass {name}"),
                Kind::Quota,
                format!(
                    "no pod of it fits into quota {namespace}/{quota}: overhead {requested}, limited: {limited}"
                ),
                "raise the quota, lower the overhead, or forbid the class in that namespace",
            ));
        }
    }
    problems
}

/// Whether the policy of a namespace allows a class.
fn may_use(facts: &Facts, namespace: &str, class: &str) -> bool {
    let found = facts
        .namespaces
        .iter()
        .find(|n| text(&n.it.metadata.name) == namespace);
    let annotations = found.and_then(|n| n.it.metadata.annotations.as_ref());
    annotations
        .and_then(|a| a.get(namespace_policy::ALLOWED))
        .is_none_or(|list| list.split(',').any(|c| c.trim() == class))
}
