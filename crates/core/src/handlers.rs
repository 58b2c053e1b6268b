//! What a node says of its runtime handlers, besides the stock `status.runtimeHandlers`: in annotations of its own.
//!
//! A node writes these itself, so they are no more than its word: texts are cut to one line of bounded length, and what
//! can't be read counts as not said.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;
use serde::{Deserialize, Serialize};

use crate::annotations::{BROKEN_HANDLERS, NODE_FEATURES};
use crate::isolation::{HANDLERS, Isolation, MAX_REPORT_BYTES, read_levels};

/// The longest reason that is repeated.
const REASON_LIMIT: usize = 512;
/// How many handlers of a node are looked at.
const HANDLER_LIMIT: usize = 256;

/// The sentence for a handler that is configured and can't run: the same in warnings, events and reports.
#[must_use]
pub fn cannot_run(handler: &str, reason: &str) -> String {
    format!("handler {handler:?} cannot run: {reason}")
}

/// What pods may need of a node besides a handler.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeFeatures {
    /// Whether the kernel has AppArmor.
    pub app_armor: bool,
    /// Whether virtual machines run with the processor's help.
    pub kvm: bool,
    /// The seccomp profiles that pods may name (`localhostProfile`); `None` when there are too many to list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seccomp_profiles: Option<Vec<String>>,
}

fn annotation<'n>(node: &'n Node, key: &str) -> Option<&'n str> {
    let annotations = node.metadata.annotations.as_ref()?;
    annotations.get(key).map(String::as_str)
}

/// The handlers that are configured on a node and can't run, with the reason.
#[must_use]
pub fn broken(node: &Node) -> BTreeMap<String, String> {
    let told: BTreeMap<String, String> = annotation(node, BROKEN_HANDLERS)
        .filter(|text| text.len() <= MAX_REPORT_BYTES)
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    told.into_iter()
        .take(HANDLER_LIMIT)
        .map(|(name, reason)| (name, in_one_line(&reason)))
        .collect()
}

/// Why a handler that is configured on a node can't run; `None` when the node has nothing to say of it.
#[must_use]
pub fn broken_reason(node: &Node, handler: &str) -> Option<String> {
    // Most nodes have none.
    annotation(node, BROKEN_HANDLERS)?;
    broken(node).remove(handler)
}

/// What keeps a handler's pods from a node's kernel, as the node says; `None` when it doesn't. The empty name is the
/// default's.
#[must_use]
pub fn isolation(node: &Node, handler: &str) -> Option<Isolation> {
    // What a report that can't be read means is decided where isolation is demanded, not here.
    let levels = read_levels(annotation(node, HANDLERS)?)?;
    levels.get(handler).copied()
}

/// What pods may need of a node besides a handler; `None` when it doesn't say.
#[must_use]
pub fn features(node: &Node) -> Option<NodeFeatures> {
    serde_json::from_str(annotation(node, NODE_FEATURES)?).ok()
}

/// Words of others, as they may go into a message.
fn in_one_line(words: &str) -> String {
    let clean = words.split_whitespace().collect::<Vec<_>>().join(" ");
    clean
        .chars()
        .filter(|c| !c.is_control())
        .take(REASON_LIMIT)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(key: &str, value: &str) -> Node {
        serde_json::from_value(json!({"metadata": {"annotations": {key: value}}})).unwrap()
    }

    #[test]
    fn a_nodes_word_is_bounded() {
        let long = format!("{{\"runsc\": \"a\\n  b\\u001b[31m{}\"}}", "x".repeat(9999));
        let reason = broken_reason(&node(BROKEN_HANDLERS, &long), "runsc").unwrap();
        assert!(reason.starts_with("a b[31mx"), "{reason}");
        assert_eq!(reason.chars().count(), REASON_LIMIT);
        for bad in ["", "[]", "{\"a\": 1}", "null"] {
            assert_eq!(
                broken(&node(BROKEN_HANDLERS, bad)),
                BTreeMap::new(),
                "{bad}"
            );
            assert_eq!(isolation(&node(HANDLERS, bad), "a"), None);
            assert_eq!(features(&node(NODE_FEATURES, bad)), None);
        }
        assert_eq!(broken_reason(&Node::default(), "runsc"), None);
    }

    #[test]
    fn what_is_said_is_read() {
        let told = node(
            HANDLERS,
            r#"{"runsc": "sandbox", "": "process", "kata": "vm"}"#,
        );
        assert_eq!(isolation(&told, "runsc"), Some(Isolation::Sandbox));
        assert_eq!(isolation(&told, ""), Some(Isolation::Process));
        assert_eq!(isolation(&told, "kata"), Some(Isolation::Vm));
        assert_eq!(isolation(&told, "crun"), None);
        let features_of = NodeFeatures {
            app_armor: true,
            kvm: false,
            seccomp_profiles: Some(vec!["a.json".to_owned()]),
        };
        let text = serde_json::to_string(&features_of).unwrap();
        assert_eq!(features(&node(NODE_FEATURES, &text)), Some(features_of));
    }
}
