//! What a RuntimeClass would have as its status, if the type had one: an annotation that a controller keeps true.

use serde::{Deserialize, Serialize};

/// The annotation; its value is a [`ClassStatus`] as JSON.
pub const ANNOTATION: &str = "node.berth.dev/status";
/// At most this many reasons are kept, this many names of nodes for each, and this many characters of each.
const MAX_REASONS: usize = 8;
const MAX_NODES: usize = 3;
const MAX_REASON_CHARS: usize = 200;

/// Why some nodes can't run a class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Unable {
    /// Why, worded as in scheduling events.
    pub reason: String,
    /// How many nodes.
    pub count: usize,
    /// Some of them by name.
    pub nodes: Vec<String>,
}

/// How far a class can be used, and is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClassStatus {
    /// All nodes.
    pub nodes: usize,
    /// Those that can run it now.
    pub able: usize,
    /// Pods that use it and have not ended.
    pub pods: usize,
    /// How far those nodes keep its pods apart, weakest first; `unknown` where nobody knows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub isolation: Vec<String>,
    /// Why the others can't, the most frequent reason first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unable: Vec<Unable>,
    /// Reasons beyond these.
    #[serde(skip_serializing_if = "is_zero")]
    pub more_reasons: usize,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl ClassStatus {
    /// Counts a node that can run the class.
    pub fn add_able(&mut self, isolation: &str) {
        self.nodes += 1;
        self.able += 1;
        if !self.isolation.iter().any(|level| level == isolation) {
            self.isolation.push(isolation.to_owned());
        }
    }

    /// Counts one that can't. Parts of the reason may be a node's own words: control characters are taken out, and it is shortened.
    pub fn add_unable(&mut self, node: &str, reason: &str) {
        self.nodes += 1;
        let reason: String = reason
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(MAX_REASON_CHARS)
            .collect();
        match self.unable.iter_mut().find(|known| known.reason == reason) {
            Some(known) => {
                known.count += 1;
                if known.nodes.len() < MAX_NODES {
                    known.nodes.push(node.to_owned());
                }
            }
            None => self.unable.push(Unable {
                reason,
                count: 1,
                nodes: vec![node.to_owned()],
            }),
        }
    }

    /// Puts it in order and within its bounds, once all nodes are counted.
    pub fn settle(&mut self) {
        let order = ["unknown", "process", "sandbox", "vm"];
        self.isolation
            .sort_by_key(|level| order.iter().position(|known| known == level));
        self.unable
            .sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.reason.cmp(&b.reason)));
        self.more_reasons = self.unable.len().saturating_sub(MAX_REASONS);
        self.unable.truncate(MAX_REASONS);
    }

    /// Whether what is said of nodes is the same.
    #[must_use]
    pub fn is_same_of_nodes(&self, other: &Self) -> bool {
        let nodes = |status: &Self| Self {
            pods: 0,
            ..status.clone()
        };
        nodes(self) == nodes(other)
    }

    /// How far its pods are kept apart, in a word.
    #[must_use]
    pub fn isolation(&self) -> String {
        match self.isolation.as_slice() {
            [] => "-".to_owned(),
            all => all.join(","),
        }
    }

    /// Why not all nodes can run it, in a line: `1 node(s) lack runtime handler "kata" (n3)`.
    #[must_use]
    pub fn why(&self) -> String {
        let mut parts: Vec<String> = self
            .unable
            .iter()
            .map(|unable| {
                let more = if unable.count > unable.nodes.len() {
                    ", ..."
                } else {
                    ""
                };
                let nodes = unable.nodes.join(", ");
                format!("{} {} ({nodes}{more})", unable.count, unable.reason)
            })
            .collect();
        if self.more_reasons > 0 {
            parts.push(format!("{} more reason(s)", self.more_reasons));
        }
        if self.nodes == 0 {
            parts.push("there are no nodes".to_owned());
        }
        parts.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_counted_by_reason() {
        let mut status = ClassStatus::default();
        status.add_able("vm");
        status.add_able("process");
        status.add_able("vm");
        for node in ["a", "b", "c", "d"] {
            status.add_unable(node, "node(s) lack runtime handler \"kata\"");
        }
        status.add_unable("e", "node(s) were unschedulable");
        status.settle();
        assert_eq!((status.nodes, status.able), (8, 3));
        assert_eq!(status.isolation(), "process,vm");
        assert_eq!(
            status.why(),
            "4 node(s) lack runtime handler \"kata\" (a, b, c, ...); 1 node(s) were unschedulable (e)"
        );
        assert_eq!(ClassStatus::default().why(), "there are no nodes");
    }

    #[test]
    fn it_stays_small_whatever_nodes_say() {
        let mut status = ClassStatus::default();
        for node in 0..5000 {
            let reason = format!("{node}\n\u{7}{}", "é".repeat(10_000));
            status.add_unable(&format!("node-{node}"), &reason);
        }
        status.settle();
        let text = serde_json::to_string(&status).unwrap();
        assert!(text.len() < 8000, "{}", text.len());
        assert_eq!(status.more_reasons, 5000 - 8);
        assert!(!status.why().contains(['\n', '\u{7}']));
        let back: ClassStatus = serde_json::from_str(&text).unwrap();
        assert_eq!(back, status);
    }

    #[test]
    fn pods_alone_are_another_matter() {
        let mut one = ClassStatus::default();
        one.add_able("vm");
        let mut two = one.clone();
        two.pods = 7;
        assert!(one != two && one.is_same_of_nodes(&two));
        two.add_able("vm");
        assert!(!one.is_same_of_nodes(&two));
    }
}
