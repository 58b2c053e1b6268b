//! ResourceQuota: what would take a namespace over its quota is refused.
//!
//! Creations in a namespace that has quotas go one after the other, so that two cannot both take
//! what is left for one.

use berth_api::decode;
use berth_api::status::ApiError;
use berth_core::admission::{Rejection, quota};
use berth_core::resources::Amounts;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use serde_json::Value;

use super::{Chain, Plugin, forbidden};
use crate::rest::{Call, meta};

/// Held while something is created in a namespace with quotas.
pub(crate) type Turn = tokio::sync::OwnedMutexGuard<()>;

fn quotas(call: &Call) -> Vec<ResourceQuota> {
    call.api
        .storage
        .read_all("core/resourcequotas", Some(call.namespace()))
}

/// Waits for the turn of a creation; none where nothing is limited.
pub(super) async fn turn(chain: &Chain, call: &Call) -> Option<Turn> {
    let limited = call.row.namespaced()
        && chain.has(Plugin::ResourceQuota)
        && !call
            .api
            .storage
            .list("core/resourcequotas", Some(call.namespace()))
            .is_empty();
    if limited {
        Some(std::sync::Arc::clone(&chain.quota_turn).lock_owned().await)
    } else {
        None
    }
}

/// Refuses a new object that does not fit.
pub(super) fn check(call: &Call, object: &Value) -> Result<(), ApiError> {
    if !call.row.namespaced() {
        return Ok(());
    }
    let quotas = quotas(call);
    if quotas.is_empty() {
        return Ok(());
    }
    let fits = if call.row.storage == "core/pods" {
        pod(call, object, &quotas)
    } else {
        counted(call, &quotas)
    };
    fits.map_err(|rejection| forbidden(call, meta::name(object), rejection.to_string()))
}

fn pod(call: &Call, object: &Value, quotas: &[ResourceQuota]) -> Result<(), Rejection> {
    let Ok(pod) = decode::from_value::<Pod>(object) else {
        return Ok(());
    };
    let gates = &call.api.gates;
    let others: Vec<Pod> = call
        .api
        .storage
        .read_all("core/pods", Some(call.namespace()));
    for one in quotas {
        let used = quota::used(one, &others, &quota::Counts::new(), gates);
        quota::check_pod(one, &used, &pod, gates)?;
    }
    Ok(())
}

/// Objects other than pods only count.
fn counted(call: &Call, quotas: &[ResourceQuota]) -> Result<(), Rejection> {
    let names = quota::object_names(&call.row.group, &call.row.plural);
    let have = call
        .api
        .storage
        .list(&call.row.storage, Some(call.namespace()))
        .len();
    let have = i64::try_from(have).unwrap_or(i64::MAX);
    let counts: quota::Counts = names.iter().map(|name| (name.clone(), have)).collect();
    let one = berth_api::quantity::Quantity::new(1, berth_api::quantity::Format::DecimalSi);
    let more: Amounts = names.into_iter().map(|name| (name, one.clone())).collect();
    for limited in quotas {
        let used = quota::used(limited, [], &counts, &call.api.gates);
        quota::check(limited, &used, &more)?;
    }
    Ok(())
}
