//! Kinds that do nothing by themselves: a controller acts on them, and none for them is built into this server.

use berth_api::status::ApiError;
use berth_rules::warnings::of_template;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::PodTemplateSpec;

use crate::kind::Kind;
use crate::strategy::Cluster;

/// Where a stock kube-controller-manager says that it runs.
const MANAGER: (&str, &str) = ("kube-system", "kube-controller-manager");
/// How long a Lease that names no duration counts as held.
const DEFAULT_SECONDS: i32 = 15;

/// The kinds for which this program has a controller (`berth-controllers`).
const BUILT_IN: [&str; 11] = [
    "Deployment",
    "ReplicaSet",
    "ReplicationController",
    "StatefulSet",
    "DaemonSet",
    "Job",
    "CronJob",
    "PodDisruptionBudget",
    "HorizontalPodAutoscaler",
    "PersistentVolume",
    "PersistentVolumeClaim",
];

/// Tells the creator that nothing will happen, unless a controller manager runs.
///
/// # Errors
/// When the Lease of the controller manager cannot be read.
pub(super) fn warnings<K: Kind>(cluster: Cluster<'_>) -> Result<Vec<String>, ApiError> {
    let is_built_in = cluster.controllers && BUILT_IN.contains(&K::KIND);
    if is_built_in || is_manager_running(cluster)? {
        return Ok(Vec::new());
    }
    Ok(vec![format!(
        "no controller for {} is built into this server: the object is stored, and nothing acts on it until a \
         kube-controller-manager runs",
        K::KIND
    )])
}

/// Whether a controller manager says that it runs.
///
/// # Errors
/// When its Lease cannot be read.
pub(super) fn is_manager_running(cluster: Cluster<'_>) -> Result<bool, ApiError> {
    let (namespace, name) = MANAGER;
    let lease: Option<Lease> =
        cluster
            .storage
            .read("coordination.k8s.io/leases", namespace, name)?;
    Ok(lease.as_ref().is_some_and(is_held))
}

/// [`warnings`], and what is odd about the pods that a workload makes.
///
/// # Errors
/// As of [`warnings`].
pub(super) fn workload_warnings<K: Kind>(
    template: Option<&PodTemplateSpec>,
    at: &str,
    cluster: Cluster<'_>,
) -> Result<Vec<String>, ApiError> {
    let mut all = template.map_or_else(Vec::new, |template| of_template(template, at));
    all.extend(warnings::<K>(cluster)?);
    Ok(all)
}

fn is_held(lease: &Lease) -> bool {
    let Some(spec) = &lease.spec else {
        return false;
    };
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.unwrap_or(DEFAULT_SECONDS);
    let renewed = spec.renew_time.as_ref().map(|at| at.0.as_second());
    let now = jiff::Timestamp::now().as_second();
    !holder.is_empty() && renewed.is_some_and(|at| now - at <= i64::from(seconds))
}
