//! The plugins that look at pods, over one decoded pod. Their rules are `core`'s; what they need
//! from the cluster is looked up here.

use std::collections::BTreeMap;

use berth_api::decode;
use berth_api::status::ApiError;
use berth_core::admission::{
    Rejection, default_tolerations, limit_range, namespace_policy, priority, runtime_class,
    service_account,
};
use k8s_openapi::api::core::v1::{LimitRange, Namespace, Pod, ServiceAccount};
use k8s_openapi::api::node::v1::RuntimeClass;
use k8s_openapi::api::scheduling::v1::PriorityClass;
use serde_json::Value;

use super::{Chain, Plugin, forbidden};
use crate::rest::{Call, create};

/// Pods that stand for a node's static pods.
const MIRROR: &str = "kubernetes.io/config.mirror";

fn typed(object: &Value) -> Result<Pod, ApiError> {
    decode::from_value(object).map_err(|e| ApiError::Internal(e.to_string()))
}

/// Runs the plugins that change a new pod, in order.
pub(super) fn mutate(chain: &Chain, call: &Call, object: &mut Value) -> Result<(), ApiError> {
    let mut pod = typed(object)?;
    for plugin in &chain.plugins {
        let admitted = match plugin {
            Plugin::LimitRanger => {
                limit_range::admit(&mut pod, &ranges(call));
                Ok(())
            }
            Plugin::ServiceAccount => account(call, &mut pod),
            Plugin::Priority => {
                let classes: Vec<PriorityClass> = call
                    .api
                    .storage
                    .read_all("scheduling.k8s.io/priorityclasses", None);
                priority::admit(&mut pod, &classes)
            }
            Plugin::DefaultTolerationSeconds => {
                default_tolerations::admit(&mut pod);
                Ok(())
            }
            Plugin::RuntimeClass => class(call, &mut pod),
            Plugin::NamespaceLifecycle | Plugin::NodeRestriction | Plugin::ResourceQuota => Ok(()),
        };
        admitted.map_err(|rejection| forbidden(call, name(&pod), rejection.to_string()))?;
    }
    *object = serde_json::to_value(&pod).map_err(|e| ApiError::Internal(e.to_string()))?;
    Ok(())
}

fn account(call: &Call, pod: &mut Pod) -> Result<(), Rejection> {
    let annotations = pod.metadata.annotations.as_ref();
    if annotations.is_some_and(|a| a.contains_key(MIRROR)) {
        return Ok(());
    }
    let name = service_account::account_name(pod);
    let found: Option<ServiceAccount> =
        call.api
            .storage
            .read("core/serviceaccounts", call.namespace(), name);
    // A namespace may be so new that nobody has made its default account yet; it will be there
    // before a node needs it.
    let found = match found {
        None if name == service_account::DEFAULT => Some(ServiceAccount::default()),
        found => found,
    };
    service_account::admit(pod, found.as_ref(), &create::suffix())
}

fn class(call: &Call, pod: &mut Pod) -> Result<(), Rejection> {
    let storage = &call.api.storage;
    let gates = &call.api.gates;
    let namespace: Option<Namespace> = storage.read("core/namespaces", "", call.namespace());
    let annotations: BTreeMap<String, String> = namespace
        .and_then(|n| n.metadata.annotations)
        .unwrap_or_default();
    namespace_policy::admit(pod, &annotations, gates)?;
    let class: Option<RuntimeClass> = pod
        .spec
        .as_ref()
        .and_then(|s| s.runtime_class_name.as_deref())
        .and_then(|name| storage.read("node.k8s.io/runtimeclasses", "", name));
    runtime_class::admit(pod, class.as_ref(), gates)
}

/// The limits of the pod's namespace, by name.
fn ranges(call: &Call) -> Vec<LimitRange> {
    call.api
        .storage
        .read_all("core/limitranges", Some(call.namespace()))
}

/// Refuses a new pod that is out of the bounds of its namespace.
pub(super) fn check_limits(call: &Call, object: &Value) -> Result<(), ApiError> {
    let ranges = ranges(call);
    if ranges.is_empty() {
        return Ok(());
    }
    let pod = typed(object)?;
    limit_range::check(&pod, &ranges, &call.api.gates)
        .map_err(|rejection| forbidden(call, name(&pod), rejection.to_string()))
}

/// The pod's name as messages show it.
fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or("")
}
