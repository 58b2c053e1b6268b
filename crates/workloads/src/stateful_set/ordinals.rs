//! The number of a pod, which is in its name.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// `web-3` is number 3 of `web`; `web-03` is none of its pods.
pub(super) fn ordinal_of(set: &ObjectMeta, pod: &Pod) -> Option<i32> {
    let name = pod.metadata.name.as_deref()?;
    let number = name.strip_prefix(set.name.as_deref()?)?.strip_prefix('-')?;
    let ordinal: i32 = number.parse().ok()?;
    (ordinal >= 0 && ordinal.to_string() == number).then_some(ordinal)
}

/// The name of the pod of a number.
pub(super) fn pod_name(set: &ObjectMeta, ordinal: i32) -> String {
    format!("{}-{ordinal}", set.name.as_deref().unwrap_or_default())
}
