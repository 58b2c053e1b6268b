//! What objects use of a ResourceQuota, counted from the objects there are ([`used`]), so that nothing can drift.
//!
//! Overhead counts in the requests of a pod, and in its limits where it has some, unless its gate is off.

use std::collections::BTreeMap;

use berth_api::quantity::{Format, Quantity};
use k8s_openapi::api::core::v1::{Pod, PodSpec, ResourceQuota, ScopedResourceSelectorRequirement};

use crate::gates::{FeatureGates, Gate};
use crate::qos::{self, QosClass};
use crate::resource_list::{self, WireList};
use crate::resources::{self, Amounts, Overhead};

/// How many objects there are by the name a quota counts them under (see [`object_names`]).
pub type Counts = BTreeMap<String, i64>;

/// The names that objects of a resource are counted under: `count/deployments.apps`, for some of the core group
/// also the bare name.
#[must_use]
pub fn object_names(group: &str, resource: &str) -> Vec<String> {
    let counted = if group.is_empty() {
        format!("count/{resource}")
    } else {
        format!("count/{resource}.{group}")
    };
    let bare = group.is_empty()
        && matches!(
            resource,
            "services"
                | "replicationcontrollers"
                | "resourcequotas"
                | "secrets"
                | "configmaps"
                | "persistentvolumeclaims"
        );
    let mut names = vec![counted];
    if bare {
        names.push(resource.to_owned());
    }
    names
}

fn one() -> Quantity {
    Quantity::new(1, Format::DecimalSi)
}

/// Whether a pod has ended and uses nothing but its object.
fn ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// What a pod uses, by every name a quota can hold.
#[must_use]
pub fn pod_usage(pod: &Pod, gates: &FeatureGates) -> Amounts {
    let mut usage = Amounts::from([("count/pods".to_owned(), one())]);
    let Some(spec) = pod.spec.as_ref().filter(|_| !ended(pod)) else {
        return usage;
    };
    usage.insert("pods".to_owned(), one());
    let overhead = if gates.enabled(Gate::PodOverhead) {
        Overhead::Counted
    } else {
        Overhead::Ignored
    };
    for (name, amount) in resources::requests_of(pod, overhead) {
        let plain = matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage");
        if plain || resource_list::is_huge_page(&name) {
            usage.insert(name.clone(), amount.clone());
        }
        if plain || resource_list::is_huge_page(&name) || resource_list::is_extended(&name) {
            usage.insert(format!("requests.{name}"), amount);
        }
    }
    for (name, amount) in resources::pod_limits(spec, overhead) {
        if matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") {
            usage.insert(format!("limits.{name}"), amount);
        }
    }
    usage
}

/// Whether a quota counts a pod: all of its scopes match.
#[must_use]
pub fn counts_pod(quota: &ResourceQuota, pod: &Pod) -> bool {
    let (Some(quota), Some(spec)) = (&quota.spec, &pod.spec) else {
        return true;
    };
    let selected = quota
        .scope_selector
        .iter()
        .flat_map(|s| s.match_expressions.iter().flatten());
    quota.scopes.iter().flatten().all(|s| in_scope(s, spec))
        && selected.into_iter().all(|r| matches(r, spec))
}

fn in_scope(scope: &str, spec: &PodSpec) -> bool {
    match scope {
        "Terminating" => spec.active_deadline_seconds.is_some_and(|s| s >= 0),
        "NotTerminating" => spec.active_deadline_seconds.is_none(),
        "BestEffort" => qos::class(spec) == QosClass::BestEffort,
        "NotBestEffort" => qos::class(spec) != QosClass::BestEffort,
        "PriorityClass" => spec
            .priority_class_name
            .as_deref()
            .is_some_and(|n| !n.is_empty()),
        "CrossNamespacePodAffinity" => crosses_namespaces(spec),
        _ => false,
    }
}

fn matches(r: &ScopedResourceSelectorRequirement, spec: &PodSpec) -> bool {
    let values = r.values.as_deref().unwrap_or_default();
    let class = spec.priority_class_name.clone().unwrap_or_default();
    match (r.scope_name.as_str(), r.operator.as_str()) {
        ("PriorityClass", "In") => values.contains(&class),
        ("PriorityClass", "NotIn") => !values.contains(&class),
        ("PriorityClass", "DoesNotExist") => class.is_empty(),
        (scope, "Exists") => in_scope(scope, spec),
        _ => false,
    }
}

fn crosses_namespaces(spec: &PodSpec) -> bool {
    let Some(affinity) = &spec.affinity else {
        return false;
    };
    let near = affinity.pod_affinity.iter().flat_map(|a| {
        let preferred = a
            .preferred_during_scheduling_ignored_during_execution
            .iter()
            .flatten();
        let required = a
            .required_during_scheduling_ignored_during_execution
            .iter()
            .flatten();
        required.chain(preferred.map(|p| &p.pod_affinity_term))
    });
    let far = affinity.pod_anti_affinity.iter().flat_map(|a| {
        let preferred = a
            .preferred_during_scheduling_ignored_during_execution
            .iter()
            .flatten();
        let required = a
            .required_during_scheduling_ignored_during_execution
            .iter()
            .flatten();
        required.chain(preferred.map(|p| &p.pod_affinity_term))
    });
    let mut terms = near.chain(far);
    terms.any(|t| {
        t.namespaces.as_ref().is_some_and(|n| !n.is_empty()) || t.namespace_selector.is_some()
    })
}

/// What a quota allows.
#[must_use]
pub fn hard(quota: &ResourceQuota) -> Amounts {
    resources::amounts(quota.spec.as_ref().and_then(|s| s.hard.as_ref()))
}

/// What of a quota is used: by the pods that it counts, and by other objects. Where the requests of a pod cannot be read,
/// everything is used: what it takes is not known.
#[must_use]
pub fn used<'p>(
    quota: &ResourceQuota,
    pods: impl IntoIterator<Item = &'p Pod>,
    counts: &Counts,
    gates: &FeatureGates,
) -> Amounts {
    let mut used: Amounts = hard(quota)
        .into_keys()
        .map(|name| (name, Quantity::ZERO))
        .collect();
    for pod in pods.into_iter().filter(|p| counts_pod(quota, p)) {
        if !ended(pod)
            && pod
                .spec
                .as_ref()
                .is_some_and(|s| resources::unreadable_in(s).is_some())
        {
            for (name, limit) in hard(quota) {
                used.insert(name, limit);
            }
            return used;
        }
        for (name, amount) in pod_usage(pod, gates) {
            if let Some(sum) = used.get_mut(&name) {
                *sum += &amount;
            }
        }
    }
    for (name, count) in counts {
        if let Some(sum) = used.get_mut(name) {
            *sum += &Quantity::new(*count, Format::DecimalSi);
        }
    }
    used
}

/// [`used`] as the status of a quota holds it.
#[must_use]
pub fn wire(amounts: &Amounts) -> WireList {
    amounts
        .iter()
        .map(|(name, amount)| (name.clone(), amount.into()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn quota(spec: Value) -> ResourceQuota {
        serde_json::from_value(json!({"metadata": {"name": "q"}, "spec": spec})).unwrap()
    }

    fn pod(cpu: &str, more: Value) -> Pod {
        let mut spec = json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}}]});
        if let (Value::Object(spec), Value::Object(more)) = (&mut spec, more) {
            spec.extend(more);
        }
        serde_json::from_value(json!({"spec": spec})).unwrap()
    }

    #[test]
    fn what_is_used() {
        let mut done = pod("9", json!({}));
        done.status = serde_json::from_value(json!({"phase": "Succeeded"})).unwrap();
        let quota = quota(
            json!({"hard": {"cpu": "9", "pods": "9", "count/pods": "9", "secrets": "5", "count/deployments.apps": "3"}}),
        );
        let counts = Counts::from([("secrets".to_owned(), 2), ("count/secrets".to_owned(), 2)]);
        let got = wire(&used(
            &quota,
            &[done, pod("1", json!({}))],
            &counts,
            &FeatureGates::default(),
        ));
        assert_eq!(
            serde_json::to_value(got).unwrap(),
            json!({"cpu": "1", "pods": "1", "count/pods": "2", "secrets": "2", "count/deployments.apps": "0"})
        );
        assert_eq!(object_names("", "secrets"), ["count/secrets", "secrets"]);
        assert_eq!(
            object_names("apps", "deployments"),
            ["count/deployments.apps"]
        );
    }
}
