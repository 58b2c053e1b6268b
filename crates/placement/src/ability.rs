//! How far nodes can run a RuntimeClass: what a class would have as its status.

use std::sync::Arc;

use berth_core::class_status::ClassStatus;
use berth_core::isolation::{Isolation, NodeHandlers, declared_level};
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::node::v1::RuntimeClass;

use super::early::plain_pod;
use super::filter::{no_handler, placement};
use super::info::NodeInfo;
use super::reason::Reason;

/// A node as classes see it.
#[derive(Debug, Clone)]
pub struct ClassNode {
    info: NodeInfo,
    handlers: NodeHandlers,
}

impl ClassNode {
    /// Of a node, without what runs on it.
    #[must_use]
    pub fn new(node: Arc<Node>) -> Self {
        Self {
            handlers: NodeHandlers::of(&node),
            info: NodeInfo::new(node),
        }
    }

    /// What keeps it from running pods of a class; `pod` is one with the class's selector and tolerations.
    fn hindrance(&self, class: &RuntimeClass, pod: &Pod) -> Option<Reason> {
        if !self.handlers.has(&class.handler) {
            return Some(no_handler(&self.info, &class.handler));
        }
        placement(pod, &self.info)
    }
}

/// How far nodes can run a class now; its pods are not counted.
#[must_use]
pub fn class_status(class: &RuntimeClass, nodes: &[ClassNode]) -> ClassStatus {
    let pod = plain_pod(class);
    let declared = declared_level(&class.metadata);
    let mut status = ClassStatus::default();
    for node in nodes {
        match node.hindrance(class, &pod) {
            Some(reason) => status.add_unable(&node.handlers.name, &reason.to_string()),
            None => {
                let found = node.handlers.isolation(&class.handler, declared);
                let found = found.map(|found| declared.map_or(found, |d| found.min(d)));
                status.add_able(found.map_or("unknown", Isolation::as_str));
            }
        }
    }
    status.settle();
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_core::isolation::DECLARED;
    use serde_json::{Value, json};

    fn node(name: &str, handlers: &[&str], annotations: Value, spec: Value) -> ClassNode {
        let handlers: Vec<_> = handlers.iter().map(|h| json!({"name": h})).collect();
        let body = json!({"metadata": {"name": name, "labels": {"zone": name}, "annotations": annotations}, "spec": spec,
            "status": {"runtimeHandlers": handlers}});
        ClassNode::new(Arc::new(serde_json::from_value(body).unwrap()))
    }

    #[test]
    fn what_a_class_would_have_as_its_status() {
        let nodes = [
            node(
                "a",
                &["", "runc", "kata"],
                json!({"berth.dev/handler-isolation": "{\"kata\": \"vm\"}"}),
                json!({}),
            ),
            node(
                "b",
                &["", "kata"],
                json!({"berth.dev/handler-isolation": "{\"kata\": \"process\"}"}),
                json!({}),
            ),
            node(
                "c",
                &["", "runc"],
                json!({"berth.dev/broken-handlers": "{\"kata\": \"no /dev/kvm\"}"}),
                json!({}),
            ),
            node("d", &["", "runc"], json!({}), json!({})),
            node(
                "e",
                &["", "kata"],
                json!({}),
                json!({"unschedulable": true}),
            ),
        ];
        let class = |more: Value| {
            let mut body = json!({"metadata": {"name": "kata"}, "handler": "kata"});
            body.as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            serde_json::from_value::<RuntimeClass>(body).unwrap()
        };
        let status = class_status(&class(json!({})), &nodes);
        assert_eq!(
            (status.able, status.nodes, status.isolation().as_str()),
            (2, 5, "process,vm")
        );
        assert_eq!(
            status.why(),
            "1 node(s) lack runtime handler \"kata\" (d); 1 node(s) were unschedulable (e); \
             1 node(s) where handler \"kata\" cannot run: no /dev/kvm (c)"
        );
        let there = class_status(
            &class(json!({"scheduling": {"nodeSelector": {"zone": "a"}}})),
            &nodes,
        );
        assert_eq!((there.able, there.isolation().as_str()), (1, "vm"));
        let weak = json!({"metadata": {"name": "kata", "annotations": {DECLARED: "sandbox"}}});
        assert_eq!(
            class_status(&class(weak), &nodes).isolation(),
            "process,sandbox"
        );
    }
}
