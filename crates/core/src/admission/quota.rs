//! ResourceQuota: what objects use, and whether a new one still fits.
//!
//! The caller counts from the objects there are ([`used`]), so nothing can drift. Overhead counts in the
//! requests of a pod, and in its limits where it has some, unless its gate is off.

use std::collections::BTreeMap;

use berth_api::quantity::{Format, Quantity};
use k8s_openapi::api::core::v1::{Pod, PodSpec, ResourceQuota, ScopedResourceSelectorRequirement};

use super::Rejection;
use crate::gates::{FeatureGates, Gate};
use crate::pod::qos::{self, QosClass};
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
    for (name, amount) in resources::pod_requests(spec, overhead) {
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

fn hard(quota: &ResourceQuota) -> Amounts {
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

/// A resource that a request takes over its limit: its name, what was requested, used and limited.
type Exceeded = (String, Quantity, Quantity, Quantity);

/// Whether a new pod fits into a quota of which `used` is used.
///
/// # Errors
/// [`Rejection::QuotaNeeds`] or [`Rejection::QuotaExceeded`].
pub fn check_pod(
    quota: &ResourceQuota,
    used: &Amounts,
    pod: &Pod,
    gates: &FeatureGates,
) -> Result<(), Rejection> {
    if !counts_pod(quota, pod) {
        return Ok(());
    }
    if let Some(what) = pod.spec.as_ref().and_then(resources::unreadable_in) {
        return Err(unreadable(quota, what));
    }
    needs(quota, pod)?;
    check(quota, used, &pod_usage(pod, gates))
}

fn unreadable(quota: &ResourceQuota, what: String) -> Rejection {
    let name = quota.metadata.name.as_deref().unwrap_or_default();
    Rejection::Unreadable {
        with: format!("quota {name}"),
        what,
    }
}

/// Whether a changed pod still fits into a quota of which `used` is used, its old state included. Only what it
/// takes in addition counts, so that a namespace over its quota can still be changed.
///
/// # Errors
/// [`Rejection::QuotaNeeds`] or [`Rejection::QuotaExceeded`].
pub fn check_pod_update(
    quota: &ResourceQuota,
    used: &Amounts,
    pod: &Pod,
    old: &Pod,
    gates: &FeatureGates,
) -> Result<(), Rejection> {
    if !counts_pod(quota, pod) {
        return Ok(());
    }
    let before = if counts_pod(quota, old) {
        pod_usage(old, gates)
    } else {
        Amounts::new()
    };
    if let Some(what) = pod.spec.as_ref().and_then(resources::unreadable_in) {
        return Err(unreadable(quota, what));
    }
    let mut more = Amounts::new();
    for (name, amount) in pod_usage(pod, gates) {
        match before.get(&name) {
            Some(had) if amount <= *had => {}
            Some(had) => {
                more.insert(name, amount - had);
            }
            None => {
                more.insert(name, amount);
            }
        }
    }
    if more.is_empty() {
        return Ok(());
    }
    needs(quota, pod)?;
    check(quota, used, &more)
}

/// Whether something that uses `more` fits.
///
/// # Errors
/// [`Rejection::QuotaExceeded`] with every resource that does not fit.
pub fn check(quota: &ResourceQuota, used: &Amounts, more: &Amounts) -> Result<(), Rejection> {
    let hard_list = quota.spec.as_ref().and_then(|s| s.hard.as_ref());
    if let Some((name, amount)) = resources::unreadable(hard_list) {
        let what = format!("spec.hard: {name}={amount:?} is no quantity");
        return Err(unreadable(quota, what));
    }
    let mut exceeded = Vec::new();
    for (name, limit) in hard(quota) {
        let Some(delta) = more.get(&name).filter(|d| !d.is_zero()) else {
            continue;
        };
        let before = used.get(&name).cloned().unwrap_or_default();
        if before.clone() + delta > limit {
            exceeded.push((name, delta.clone(), before, limit));
        }
    }
    if exceeded.is_empty() {
        return Ok(());
    }
    let list = |of: &dyn Fn(&Exceeded) -> Quantity| {
        let parts: Vec<_> = exceeded
            .iter()
            .map(|e| format!("{}={}", e.0, of(e)))
            .collect();
        parts.join(",")
    };
    Err(Rejection::QuotaExceeded {
        quota: quota.metadata.name.clone().unwrap_or_default(),
        requested: list(&|e| e.1.clone()),
        used: list(&|e| e.2.clone()),
        limited: list(&|e| e.3.clone()),
    })
}

/// A quota of cpu or memory demands that every container says how much of it it wants.
fn needs(quota: &ResourceQuota, pod: &Pod) -> Result<(), Rejection> {
    let Some(spec) = &pod.spec else {
        return Ok(());
    };
    let hard = hard(quota);
    let mut missing = Vec::new();
    for demanded in hard.keys() {
        let (of_limits, name) = match demanded.strip_prefix("limits.") {
            Some(name) => (true, name),
            None => (
                false,
                demanded.strip_prefix("requests.").unwrap_or(demanded),
            ),
        };
        if !matches!(name, "cpu" | "memory") {
            continue;
        }
        let says = |limits: Option<&WireList>, requests: Option<&WireList>| {
            let list = if of_limits { limits } else { requests };
            list.is_some_and(|l| l.contains_key(name))
        };
        if spec
            .resources
            .as_ref()
            .is_some_and(|r| says(r.limits.as_ref(), r.requests.as_ref()))
        {
            continue;
        }
        let silent: Vec<&str> = spec
            .containers
            .iter()
            .chain(spec.init_containers.iter().flatten())
            .filter(|c| {
                !c.resources
                    .as_ref()
                    .is_some_and(|r| says(r.limits.as_ref(), r.requests.as_ref()))
            })
            .map(|c| c.name.as_str())
            .collect();
        if !silent.is_empty() {
            missing.push(format!("{demanded} for: {}", silent.join(",")));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Rejection::QuotaNeeds {
        quota: quota.metadata.name.clone().unwrap_or_default(),
        missing: missing.join("; "),
    })
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
    fn fits_or_not() {
        let gates = FeatureGates::default();
        let off: FeatureGates = "PodOverhead=false".parse().unwrap();
        let there = vec![
            pod("1", json!({})),
            pod("1", json!({"overhead": {"cpu": "500m"}})),
        ];
        for (spec, new, gates, want) in [
            (
                json!({"hard": {"cpu": "4", "pods": "3"}}),
                pod("1", json!({})),
                gates,
                Ok(()),
            ),
            (
                json!({"hard": {"cpu": "3"}}),
                pod("1", json!({})),
                gates,
                Err("exceeded quota: q, requested: cpu=1, used: cpu=2500m, limited: cpu=3"),
            ),
            (
                json!({"hard": {"cpu": "3"}}),
                pod("1", json!({})),
                off,
                Ok(()),
            ),
            (
                json!({"hard": {"requests.cpu": "4"}}),
                pod("1", json!({"overhead": {"cpu": "600m"}})),
                gates,
                Err(
                    "exceeded quota: q, requested: requests.cpu=1600m, used: requests.cpu=2500m, limited: requests.cpu=4",
                ),
            ),
            (
                json!({"hard": {"pods": "2"}}),
                pod("1", json!({})),
                gates,
                Err("exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2"),
            ),
            (
                json!({"hard": {"pods": "2"}, "scopes": ["BestEffort"]}),
                pod("1", json!({})),
                gates,
                Ok(()),
            ),
            (
                json!({"hard": {"limits.memory": "1Gi", "requests.memory": "1Gi"}}),
                pod("1", json!({})),
                gates,
                Err("failed quota: q: must specify limits.memory for: c; requests.memory for: c"),
            ),
            (
                json!({"hard": {"pods": "0"}, "scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}}),
                pod("1", json!({"priorityClassName": "high"})),
                gates,
                Err("exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0"),
            ),
        ] {
            let quota = quota(spec.clone());
            let now = used(&quota, &there, &Counts::new(), &gates);
            let got = check_pod(&quota, &now, &new, &gates).map_err(|r| r.to_string());
            assert_eq!(got, want.map_err(str::to_owned), "{spec}");
        }
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

    #[test]
    fn what_cannot_be_read_does_not_fit() {
        let gates = FeatureGates::default();
        let bad = pod("one", json!({}));
        let good = pod("1", json!({}));
        let of_cpu = quota(json!({"hard": {"cpu": "10"}}));
        let none = used(&of_cpu, &[], &Counts::new(), &gates);
        let refused = |quota: &ResourceQuota, used: &Amounts, pod: &Pod| {
            check_pod(quota, used, pod, &gates).unwrap_err().to_string()
        };
        assert_eq!(
            refused(&of_cpu, &none, &bad),
            "cannot be compared with quota q: requests of container \"c\": cpu=\"one\" is no quantity"
        );
        // One that is there already leaves no room.
        let full = used(&of_cpu, &[bad], &Counts::new(), &gates);
        assert_eq!(
            refused(&of_cpu, &full, &good),
            "exceeded quota: q, requested: cpu=1, used: cpu=10, limited: cpu=10"
        );
        let broken = quota(json!({"hard": {"cpu": "ten"}}));
        let none = used(&broken, &[], &Counts::new(), &gates);
        assert_eq!(
            refused(&broken, &none, &good),
            "cannot be compared with quota q: spec.hard: cpu=\"ten\" is no quantity"
        );
    }

    #[test]
    fn a_change_counts_with_what_it_takes_in_addition() {
        let gates = FeatureGates::default();
        let used = |q: &ResourceQuota, pods: &[Pod]| used(q, pods, &Counts::new(), &gates);
        for (spec, old, new, fits) in [
            // over its quota, and yet it may be changed, and shrink
            (
                json!({"hard": {"cpu": "1"}}),
                pod("2", json!({})),
                pod("2", json!({})),
                true,
            ),
            (
                json!({"hard": {"cpu": "1"}}),
                pod("2", json!({})),
                pod("1500m", json!({})),
                true,
            ),
            (
                json!({"hard": {"cpu": "3"}}),
                pod("2", json!({})),
                pod("3", json!({})),
                true,
            ),
            (
                json!({"hard": {"cpu": "3"}}),
                pod("2", json!({})),
                pod("3001m", json!({})),
                false,
            ),
            // a deadline takes it into the scope
            (
                json!({"hard": {"pods": "0"}, "scopes": ["Terminating"]}),
                pod("1", json!({})),
                pod("1", json!({"activeDeadlineSeconds": 5})),
                false,
            ),
            (
                json!({"hard": {"pods": "0"}, "scopes": ["Terminating"]}),
                pod("1", json!({})),
                pod("1", json!({})),
                true,
            ),
        ] {
            let q = quota(spec.clone());
            let got = check_pod_update(
                &q,
                &used(&q, std::slice::from_ref(&old)),
                &new,
                &old,
                &gates,
            );
            assert_eq!(got.is_ok(), fits, "{spec} {got:?}");
        }
    }
}
