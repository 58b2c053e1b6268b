//! Nodes as they are judged, from their objects and from configurations.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_core::annotations::BROKEN_HANDLERS;
use berth_core::handlers;
use berth_core::isolation::HANDLERS;
use berth_placement::early::Host;
use k8s_openapi::api::core::v1::{Node, NodeRuntimeHandler, NodeStatus};

use super::{HandlerFact, NodeFacts};

pub(super) fn hosts(nodes: &[NodeFacts]) -> Vec<Host> {
    nodes.iter().map(host).collect()
}

fn host(facts: &NodeFacts) -> Host {
    if let Some(node) = &facts.node {
        return Host::new(Arc::new(node.clone()));
    }
    let mut host = Host::new(Arc::new(object(facts)));
    host.is_bare = true;
    host
}

/// A configuration as the node that has it would report itself.
fn object(facts: &NodeFacts) -> Node {
    let mut node = Node::default();
    node.metadata.name = Some(facts.name.clone());
    let handlers = facts.handlers.iter().flatten();
    let usable = handlers.clone().filter(|(_, fact)| fact.broken.is_none());
    let mut listed: Vec<NodeRuntimeHandler> = usable
        .map(|(name, _)| NodeRuntimeHandler {
            name: Some(name.clone()),
            ..NodeRuntimeHandler::default()
        })
        .collect();
    if listed.is_empty() && facts.handlers.is_some() {
        // None at all would be an old kubelet's, which may have any.
        listed.push(NodeRuntimeHandler::default());
    }
    node.status = Some(NodeStatus {
        runtime_handlers: (!listed.is_empty()).then_some(listed),
        ..NodeStatus::default()
    });
    let broken: BTreeMap<&String, &String> = handlers
        .clone()
        .filter_map(|(name, fact)| Some((name, fact.broken.as_ref()?)))
        .collect();
    let isolation: BTreeMap<&String, &str> = handlers
        .filter_map(|(name, fact)| Some((name, fact.isolation?.as_str())))
        .collect();
    let told = [
        (BROKEN_HANDLERS, serde_json::to_string(&broken)),
        (HANDLERS, serde_json::to_string(&isolation)),
    ];
    let annotations = told
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value.ok()?)));
    node.metadata.annotations = Some(annotations.collect());
    node
}

/// What an object says of its handlers.
pub(super) fn facts(node: Node) -> NodeFacts {
    let status = node.status.as_ref();
    let reported = status.and_then(|s| s.runtime_handlers.as_deref());
    let usable = reported.unwrap_or_default().iter().map(|handler| {
        let name = handler.name.clone().unwrap_or_default();
        let isolation = handlers::isolation(&node, &name);
        let fact = HandlerFact {
            isolation,
            ..HandlerFact::default()
        };
        (name, fact)
    });
    let broken = handlers::broken(&node).into_iter().map(|(name, reason)| {
        let fact = HandlerFact {
            broken: Some(reason),
            configured: true,
            isolation: None,
        };
        (name, fact)
    });
    let handlers: BTreeMap<String, HandlerFact> = usable.chain(broken).collect();
    NodeFacts {
        name: node.metadata.name.clone().unwrap_or_default(),
        handlers: (!handlers.is_empty()).then_some(handlers),
        node: Some(node),
    }
}
