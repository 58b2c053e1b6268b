//! ResourceQuota: a pod that would take a namespace over its quota is refused.

use std::collections::BTreeMap;

use berth_api::quantity::{Format, Quantity as Amount};
use berth_api::status::ApiError;
use berth_core::gates::Gate;
use berth_core::resources::{self, Overhead};
use k8s_openapi::api::core::v1::{Pod, PodSpec, ResourceQuota};

use super::{forbidden, pod::name};
use crate::rest::Call;

type Usage = BTreeMap<String, Amount>;

/// Refuses a pod that does not fit.
pub(super) fn check(call: &Call, pod: &Pod) -> Result<(), ApiError> {
    let storage = &call.api.storage;
    let namespace = call.namespace();
    let quotas: Vec<ResourceQuota> = storage.read_all("core/resourcequotas", Some(namespace));
    if quotas.is_empty() {
        return Ok(());
    }
    let overhead = if call.api.gates.enabled(Gate::PodOverhead) {
        Overhead::Counted
    } else {
        Overhead::Ignored
    };
    let wanted = usage(pod, overhead);
    let mut used = Usage::new();
    for other in storage.read_all::<Pod>("core/pods", Some(namespace)) {
        if !finished(&other) {
            for (resource, amount) in usage(&other, overhead) {
                add(&mut used, resource, amount);
            }
        }
    }
    for quota in quotas {
        let quota_name = quota.metadata.name.clone().unwrap_or_default();
        let spec = quota.spec.unwrap_or_default();
        // Scoped quotas count some pods only; the scopes are not evaluated here.
        if spec.scopes.is_some_and(|s| !s.is_empty()) || spec.scope_selector.is_some() {
            continue;
        }
        let mut over = Vec::new();
        let mut missing = Vec::new();
        for (resource, hard) in spec.hard.iter().flatten() {
            let Ok(hard) = hard.0.parse::<Amount>() else {
                continue;
            };
            let key = canonical(resource);
            let Some(want) = wanted.get(&key) else {
                if constrained(&key) {
                    missing.push(resource.clone());
                }
                continue;
            };
            let have = used.get(&key).cloned().unwrap_or_default();
            if have.clone() + want > hard {
                over.push((resource.clone(), want.clone(), have, hard));
            }
        }
        if !missing.is_empty() {
            return Err(forbidden(
                call,
                name(pod),
                format!(
                    "failed quota: {quota_name}: must specify {}",
                    missing.join(",")
                ),
            ));
        }
        if !over.is_empty() {
            let list = |f: fn(&(String, Amount, Amount, Amount)) -> String| {
                over.iter().map(f).collect::<Vec<_>>().join(",")
            };
            return Err(forbidden(
                call,
                name(pod),
                format!(
                    "exceeded quota: {quota_name}, requested: {}, used: {}, limited: {}",
                    list(|o| format!("{}={}", o.0, o.1)),
                    list(|o| format!("{}={}", o.0, o.2)),
                    list(|o| format!("{}={}", o.0, o.3)),
                ),
            ));
        }
    }
    Ok(())
}

fn finished(pod: &Pod) -> bool {
    pod.status
        .as_ref()
        .and_then(|s| s.phase.as_deref())
        .is_some_and(|p| matches!(p, "Succeeded" | "Failed"))
}

/// `cpu` and `requests.cpu` are one and the same.
fn canonical(resource: &str) -> String {
    match resource {
        "cpu" | "memory" | "ephemeral-storage" => format!("requests.{resource}"),
        other => other.to_owned(),
    }
}

/// Whether a pod must name an amount where a quota limits it.
fn constrained(key: &str) -> bool {
    matches!(
        key,
        "requests.cpu" | "requests.memory" | "limits.cpu" | "limits.memory"
    )
}

fn add(usage: &mut Usage, resource: String, amount: Amount) {
    let sum = match usage.remove(&resource) {
        Some(have) => have + &amount,
        None => amount,
    };
    usage.insert(resource, sum);
}

fn usage(pod: &Pod, overhead: Overhead) -> Usage {
    let mut usage = Usage::new();
    let one = Amount::new(1, Format::DecimalSi);
    usage.insert("pods".to_owned(), one.clone());
    usage.insert("count/pods".to_owned(), one);
    let default = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&default);
    for (resource, amount) in &resources::pod_requests(spec, overhead) {
        usage.insert(format!("requests.{resource}"), amount.clone());
    }
    for (resource, amount) in &resources::pod_limits(spec, overhead) {
        usage.insert(format!("limits.{resource}"), amount.clone());
    }
    usage
}
