//! ResourceQuota: whether a new object still fits. What the others use is counted by [`berth_core::usage`].

use berth_api::quantity::Quantity;
use berth_core::gates::FeatureGates;
use berth_core::resource_list::WireList;
use berth_core::resources::{self, Amounts};
use berth_core::usage::{counts_pod, hard, pod_usage};
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};

use super::Rejection;

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
    use berth_core::usage::{Counts, used};
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
