//! Told early: what will not run as the nodes are now is said when it is created. Nothing is
//! refused for it.

use std::sync::Arc;

use berth_api::decode;
use berth_core::gates::Gate;
use berth_core::schedule::NodeInfo;
use berth_core::{early, warnings};
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
    /// Adds the warnings that a new object calls for: the stock server's, and what will not run as the nodes are now.
    pub(crate) fn warn_new(&self, object: &Value) {
        let storage = &self.api.storage;
        let classes = self.api.gates.enabled(Gate::RuntimeClass);
        match self.row.storage.as_str() {
            "node.k8s.io/runtimeclasses" => {
                let Ok(class) = decode::from_value::<RuntimeClass>(object) else {
                    return;
                };
                self.warn_all(warnings::of_class(&class));
                if classes {
                    self.warn_all(early::class_warning(&class, &nodes(storage)));
                }
            }
            "core/pods" => {
                let Ok(pod) = decode::from_value::<Pod>(object) else {
                    return;
                };
                self.warn_all(warnings::of_pod(&pod));
                if classes {
                    self.warn_all(pod_warning(storage, &pod));
                }
            }
            _ => {}
        }
    }

    fn warn_all(&self, warnings: impl IntoIterator<Item = String>) {
        for warning in warnings {
            self.warn(warning);
        }
    }
}

fn pod_warning(storage: &Storage, pod: &Pod) -> Option<String> {
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
    early::pod_warning(pod, &class, &nodes(storage))
}
