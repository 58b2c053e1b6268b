//! ResourceQuota: what would take a namespace over its quota is refused. What is used is counted from the objects
//! that are there, so nothing can drift.

use berth_api::status::ApiError;
use berth_core::admission::quota::{self, Counts};
use berth_core::resources::Amounts;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};

use super::{forbidden, pod::name};
use crate::rest::Call;

fn quotas(call: &Call) -> Vec<ResourceQuota> {
    call.api
        .storage
        .read_all("core/resourcequotas", Some(call.namespace()))
}

/// Refuses a pod that does not fit.
pub(super) fn check(call: &Call, pod: &Pod) -> Result<(), ApiError> {
    let quotas = quotas(call);
    if quotas.is_empty() {
        return Ok(());
    }
    let gates = &call.api.gates;
    let pods: Vec<Pod> = call
        .api
        .storage
        .read_all("core/pods", Some(call.namespace()));
    for quota in &quotas {
        let used = quota::used(quota, &pods, &Counts::new(), gates);
        quota::check_pod(quota, &used, pod, gates)
            .map_err(|rejection| forbidden(call, name(pod), rejection.to_string()))?;
    }
    Ok(())
}

/// Refuses an object of another kind when there are as many as a quota allows.
pub(super) fn check_count(call: &Call, object_name: &str) -> Result<(), ApiError> {
    let quotas = quotas(call);
    if quotas.is_empty() {
        return Ok(());
    }
    let names = quota::object_names(&call.row.group, &call.row.plural);
    let storage = &call.api.storage;
    let there = storage
        .list(&call.row.storage, Some(call.namespace()))
        .len();
    let there = i64::try_from(there).unwrap_or(i64::MAX);
    let counts: Counts = names.iter().map(|n| (n.clone(), there)).collect();
    let one = berth_api::quantity::Quantity::new(1, berth_api::quantity::Format::DecimalSi);
    let more: Amounts = names.into_iter().map(|n| (n, one.clone())).collect();
    for quota in &quotas {
        let used = quota::used(quota, [], &counts, &call.api.gates);
        quota::check(quota, &used, &more)
            .map_err(|rejection| forbidden(call, object_name, rejection.to_string()))?;
    }
    Ok(())
}
