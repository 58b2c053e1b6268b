//! Being told early: what will not run as things are now, said when it is created.
//!
//! The API server sends these as HTTP `Warning`s; nothing is rejected. A node that reports no handlers
//! (an old kubelet) is taken to have every handler.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::node::v1::RuntimeClass;

use crate::{NodeInfo, placement};

/// A class whose handler no node reports.
#[must_use]
pub fn class_warning(class: &RuntimeClass, nodes: &[NodeInfo]) -> Option<String> {
    let handler = class.handler.as_str();
    if nodes.is_empty() || nodes.iter().any(|n| n.has_handler(handler) != Some(false)) {
        return None;
    }
    let offered: BTreeSet<&str> = nodes
        .iter()
        .filter_map(|n| n.node().status.as_ref()?.runtime_handlers.as_deref())
        .flatten()
        .filter_map(|h| h.name.as_deref())
        .filter(|n| !n.is_empty())
        .collect();
    let offered: Vec<&str> = offered.into_iter().collect();
    Some(format!(
        "RuntimeClass {:?}: no node reports its handler {handler:?}; {} node(s) report: {}",
        class.metadata.name.as_deref().unwrap_or_default(),
        nodes.len(),
        if offered.is_empty() {
            "only their default".to_owned()
        } else {
            offered.join(", ")
        },
    ))
}

/// A pod whose class no node can run now. `pod` is as admitted, with the selector and tolerations of its class.
#[must_use]
pub fn pod_warning(pod: &Pod, class: &RuntimeClass, nodes: &[NodeInfo]) -> Option<String> {
    let name = class.metadata.name.as_deref().unwrap_or_default();
    let handler = class.handler.as_str();
    if nodes.is_empty() {
        return Some(format!(
            "no node can run RuntimeClass {name:?} (handler {handler:?}) now: there are no nodes"
        ));
    }
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for node in nodes {
        let lacks = node.has_handler(handler) == Some(false);
        let misplaced = placement(pod, node);
        if !lacks && misplaced.is_none() {
            return None;
        }
        if lacks {
            *reasons
                .entry(format!("node(s) lack runtime handler {handler:?}"))
                .or_default() += 1;
        }
        if let Some(reason) = misplaced {
            *reasons.entry(reason.to_string()).or_default() += 1;
        }
    }
    let reasons: Vec<String> = reasons
        .into_iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    Some(format!(
        "no node can run RuntimeClass {name:?} (handler {handler:?}) now: of {} node(s), {}",
        nodes.len(),
        reasons.join(", "),
    ))
}

/// How many nodes can run a class now, by handler, selector and taints: the NODES column.
#[must_use]
pub fn nodes_able(class: &RuntimeClass, nodes: &[NodeInfo]) -> usize {
    let scheduling = class.scheduling.clone().unwrap_or_default();
    let pod = Pod {
        spec: Some(k8s_openapi::api::core::v1::PodSpec {
            node_selector: scheduling.node_selector,
            tolerations: scheduling.tolerations,
            ..Default::default()
        }),
        ..Pod::default()
    };
    nodes
        .iter()
        .filter(|n| n.has_handler(&class.handler) != Some(false) && placement(&pod, n).is_none())
        .count()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use serde_json::{Value, json};

    fn node(name: &str, handlers: &[&str], more: Value) -> NodeInfo {
        let handlers: Vec<_> = handlers.iter().map(|h| json!({"name": h})).collect();
        let mut body = json!({"metadata": {"name": name, "labels": {"zone": "a"}}, "status": {"runtimeHandlers": handlers}});
        if let (Value::Object(body), Value::Object(more)) = (&mut body, more) {
            body.extend(more);
        }
        NodeInfo::new(Arc::new(serde_json::from_value(body).unwrap()))
    }

    fn class(scheduling: Value) -> RuntimeClass {
        serde_json::from_value(
            json!({"metadata": {"name": "gvisor"}, "handler": "runsc", "scheduling": scheduling}),
        )
        .unwrap()
    }

    #[test]
    fn warnings() {
        let taint =
            json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}});
        let selector = json!({"nodeSelector": {"zone": "b"}});
        for (nodes, scheduling, of_class, of_pod, able) in [
            (
                vec![node("a", &["", "runsc"], json!({}))],
                json!({}),
                None,
                None,
                1,
            ),
            (vec![node("a", &[], json!({}))], json!({}), None, None, 1),
            (
                vec![],
                json!({}),
                None,
                Some(
                    "no node can run RuntimeClass \"gvisor\" (handler \"runsc\") now: there are no nodes",
                ),
                0,
            ),
            (
                vec![
                    node("a", &["", "runc"], json!({})),
                    node("b", &["crun"], json!({})),
                ],
                json!({}),
                Some(
                    "RuntimeClass \"gvisor\": no node reports its handler \"runsc\"; 2 node(s) report: crun, runc",
                ),
                Some(
                    "no node can run RuntimeClass \"gvisor\" (handler \"runsc\") now: of 2 node(s), 2 node(s) lack runtime handler \"runsc\"",
                ),
                0,
            ),
            (
                vec![
                    node("a", &["runc"], json!({})),
                    node("b", &["runsc"], taint),
                ],
                json!({}),
                None,
                Some(
                    "no node can run RuntimeClass \"gvisor\" (handler \"runsc\") now: of 2 node(s), 1 node(s) had untolerated taint {k: v}, \
                   1 node(s) lack runtime handler \"runsc\"",
                ),
                0,
            ),
            (
                vec![node("a", &["runsc"], json!({}))],
                selector,
                None,
                Some(
                    "no node can run RuntimeClass \"gvisor\" (handler \"runsc\") now: of 1 node(s), 1 node(s) didn't match Pod's node affinity/selector",
                ),
                0,
            ),
        ] {
            let class = class(scheduling.clone());
            let pod: Pod = serde_json::from_value(
                json!({"spec": {"containers": [], "nodeSelector": scheduling["nodeSelector"]}}),
            )
            .unwrap();
            assert_eq!(class_warning(&class, &nodes).as_deref(), of_class);
            assert_eq!(pod_warning(&pod, &class, &nodes).as_deref(), of_pod);
            assert_eq!(nodes_able(&class, &nodes), able);
        }
    }
}
