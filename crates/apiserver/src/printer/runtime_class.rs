//! RuntimeClasses: NAME HANDLER AGE, for kubectl's wide output also NODES able to run the class
//! and PODS that name it.

use std::collections::HashMap;

use berth_core::early;
use k8s_openapi::api::node::v1::RuntimeClass;
use serde_json::{Value, json};

use super::{Printer, created_ago, name, text};
use crate::rest::early::nodes;
use crate::storage::Storage;

/// The stock columns.
#[must_use]
pub fn runtime_class() -> Printer {
    Printer::new(
        &[
            ("Name", "string", 0),
            ("Handler", "string", 0),
            ("Age", "string", 0),
        ],
        |class, now| {
            vec![
                name(class),
                class["handler"].clone(),
                created_ago(class, now),
            ]
        },
    )
}

/// The stock columns and how far each class is in use at this moment.
#[must_use]
pub(crate) fn runtime_class_use(storage: &Storage) -> Printer {
    let nodes = nodes(storage);
    let mut pods: HashMap<String, usize> = HashMap::new();
    for pod in storage.list("core/pods", None) {
        let class = text(&pod.value(), "/spec/runtimeClassName").to_owned();
        if !class.is_empty() {
            *pods.entry(class).or_default() += 1;
        }
    }
    Printer::new(
        &[
            ("Name", "string", 0),
            ("Handler", "string", 0),
            ("Age", "string", 0),
            ("Nodes", "string", 1),
            ("Pods", "string", 1),
        ],
        move |class, now| {
            let able = serde_json::from_value::<RuntimeClass>(class.clone())
                .map(|class| early::nodes_able(&class, &nodes))
                .unwrap_or_default();
            let used = pods
                .get(text(class, "/metadata/name"))
                .copied()
                .unwrap_or(0);
            let stock: [Value; 3] = [
                name(class),
                class["handler"].clone(),
                created_ago(class, now),
            ];
            let mut cells = stock.to_vec();
            cells.push(json!(format!("{able}/{}", nodes.len())));
            cells.push(json!(used.to_string()));
            cells
        },
    )
}
