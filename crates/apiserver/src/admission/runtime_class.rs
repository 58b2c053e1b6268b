//! RuntimeClass: a pod that names a class gets its overhead, node selector and tolerations; one
//! that names none that exists is refused.

use berth_api::status::ApiError;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::node::v1::RuntimeClass;

use super::{forbidden, pod::name};
use crate::rest::Call;

/// Applies the class.
pub(super) fn admit(call: &Call, pod: &mut Pod) -> Result<(), ApiError> {
    let pod_name = name(pod).to_owned();
    let Some(class_name) = pod
        .spec
        .as_ref()
        .and_then(|s| s.runtime_class_name.clone())
        .filter(|n| !n.is_empty())
    else {
        return Ok(());
    };
    let class: Option<RuntimeClass> =
        call.api
            .storage
            .read("node.k8s.io/runtimeclasses", "", &class_name);
    if class.is_none() {
        return Err(forbidden(
            call,
            &pod_name,
            format!("pod rejected: RuntimeClass {class_name:?} not found"),
        ));
    }
    Ok(())
}
