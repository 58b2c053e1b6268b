//! Told early: what will not run as the nodes are now is said when it is created. Nothing is
//! refused for it.

use std::sync::Arc;

use berth_api::decode;
use berth_core::early;
use berth_core::gates::Gate;
use berth_core::schedule::NodeInfo;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::node::v1::RuntimeClass;
use serde_json::Value;

use super::Call;
use crate::storage::Storage;

/// All nodes, without what runs on them.
pub(crate) fn nodes(storage: &Storage) -> Vec<NodeInfo> {
    storage
        .read_all::<Node>("core/nodes", None)
        .into_iter()
        .map(|node| NodeInfo::new(Arc::new(node)))
        .collect()
}

impl Call {
    /// Adds the warning that a new object calls for.
    pub(crate) fn warn_early(&self, object: &Value) {
        if !self.api.gates.enabled(Gate::RuntimeClass) {
            return;
        }
        let storage = &self.api.storage;
        let warning = match self.row.storage.as_str() {
            "node.k8s.io/runtimeclasses" => decode::from_value::<RuntimeClass>(object)
                .ok()
                .and_then(|class| early::class_warning(&class, &nodes(storage))),
            "core/pods" => pod_warning(storage, object),
            _ => None,
        };
        if let Some(warning) = warning {
            self.warn(warning);
        }
    }
}

fn pod_warning(storage: &Storage, object: &Value) -> Option<String> {
    let pod: Pod = decode::from_value(object).ok()?;
    let spec = pod.spec.as_ref()?;
    let name = spec
        .runtime_class_name
        .as_deref()
        .filter(|n| !n.is_empty())?;
    // A pod that brings its node is not placed by anybody.
    if spec.node_name.as_deref().is_some_and(|n| !n.is_empty()) {
        return None;
    }
    let class: RuntimeClass = storage.read("node.k8s.io/runtimeclasses", "", name)?;
    early::pod_warning(&pod, &class, &nodes(storage))
}
