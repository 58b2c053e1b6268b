//! The plugins that look at pods, over one decoded pod.

use berth_api::decode;
use berth_api::status::ApiError;
use k8s_openapi::api::core::v1::Pod;
use serde_json::Value;

use super::{
    Chain, Operation, Plugin, limit_ranger, priority, resource_quota, runtime_class,
    service_account, tolerations,
};
use crate::rest::Call;

fn typed(object: &Value) -> Result<Pod, ApiError> {
    decode::from_value(object).map_err(|e| ApiError::Internal(e.to_string()))
}

/// Runs the plugins that change a new pod, in order.
pub(super) fn mutate(chain: &Chain, call: &Call, object: &mut Value) -> Result<(), ApiError> {
    let mut pod = typed(object)?;
    for plugin in &chain.plugins {
        match plugin {
            Plugin::LimitRanger => limit_ranger::default(call, &mut pod),
            Plugin::ServiceAccount => service_account::admit(call, &mut pod)?,
            Plugin::Priority => priority::admit(call, &mut pod)?,
            Plugin::DefaultTolerationSeconds => tolerations::admit(&mut pod),
            Plugin::RuntimeClass => runtime_class::admit(call, &mut pod)?,
            Plugin::NamespaceLifecycle | Plugin::ResourceQuota => {}
        }
    }
    *object = serde_json::to_value(&pod).map_err(|e| ApiError::Internal(e.to_string()))?;
    Ok(())
}

/// Runs the plugins that refuse a pod, in order.
pub(super) fn validate(
    chain: &Chain,
    call: &Call,
    operation: Operation,
    object: &Value,
    _old: Option<&Value>,
) -> Result<(), ApiError> {
    if operation != Operation::Create {
        return Ok(());
    }
    let pod = typed(object)?;
    for plugin in &chain.plugins {
        match plugin {
            Plugin::LimitRanger => limit_ranger::check(call, &pod)?,
            Plugin::ResourceQuota => resource_quota::check(call, &pod)?,
            Plugin::NamespaceLifecycle
            | Plugin::ServiceAccount
            | Plugin::Priority
            | Plugin::DefaultTolerationSeconds
            | Plugin::RuntimeClass => {}
        }
    }
    Ok(())
}

/// The pod's name as messages show it.
pub(super) fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or("")
}
