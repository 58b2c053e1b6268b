//! When a cluster is rid of what the installer has put on its nodes.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::report::{ANNOTATION, LABEL_PREFIX, Report};

/// A node is away when it was not ready for so long: while its runtime is started again it is not ready either, and the
/// installer's program there is at work.
pub const AWAY: Duration = Duration::from_secs(45);

/// A node, as far as that matters.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Whether it is not ready, and was not for as long as [`AWAY`].
    pub is_away: bool,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

/// What is left in a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Nodes that have something of the installer's and are not away, and why.
    pub waiting: Vec<(String, String)>,
    /// Nodes that have and are away: nobody can clean them up, and their labels are to be taken.
    pub away: Vec<String>,
}

/// Looks at all nodes.
#[must_use]
pub fn left(nodes: &[Node]) -> Left {
    let mut left = Left::default();
    for node in nodes {
        let is_labelled = node
            .labels
            .keys()
            .any(|label| label.starts_with(LABEL_PREFIX));
        let told = node.annotations.get(ANNOTATION);
        if !is_labelled && told.is_none() {
            continue;
        }
        if node.is_away {
            left.away.push(node.name.clone());
            continue;
        }
        left.waiting
            .push((node.name.clone(), why(told.map(String::as_str))));
    }
    left
}

fn why(told: Option<&str>) -> String {
    let Some(told) = told else {
        return "its labels are still there".to_owned();
    };
    let Ok(report) = serde_json::from_str::<Report>(told) else {
        return format!("its annotation {ANNOTATION} can't be read");
    };
    if !report.problem.is_empty() {
        return report.problem;
    }
    let lines: Vec<String> = report
        .handlers
        .iter()
        .map(|(name, line)| {
            let reason = if line.reason.is_empty() {
                "it has not looked at the empty list yet"
            } else {
                &line.reason
            };
            format!("handler {name:?}: {reason}")
        })
        .collect();
    lines.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{State, label};

    #[test]
    fn nodes_that_are_gone_or_away_are_not_waited_for() {
        let mut report = Report::default();
        report.note(
            "kata",
            State::Kept,
            "it is to be removed; it stays while pods on this node use it: a/p",
        );
        report.note("x", State::Works, "");
        let annotations: BTreeMap<_, _> = [(
            ANNOTATION.to_owned(),
            serde_json::to_string(&report).unwrap(),
        )]
        .into();
        let labels: BTreeMap<_, _> = [(label("kata"), "true".to_owned())].into();
        let node = |name: &str, is_here: bool| Node {
            name: name.to_owned(),
            is_away: !is_here,
            ..Node::default()
        };
        let nodes = [
            node("clean", true),
            node("gone", false),
            Node {
                annotations: annotations.clone(),
                ..node("kept", true)
            },
            Node {
                labels: labels.clone(),
                ..node("labelled", true)
            },
            Node {
                annotations: [(ANNOTATION.to_owned(), "x".to_owned())].into(),
                ..node("odd", true)
            },
            Node {
                labels,
                annotations,
                ..node("away", false)
            },
        ];
        let left = left(&nodes);
        assert_eq!(left.away, ["away"]);
        let lines: Vec<String> = left
            .waiting
            .iter()
            .map(|(node, why)| format!("{node}: {why}"))
            .collect();
        assert_eq!(
            lines,
            [
                "kept: handler \"kata\": it is to be removed; it stays while pods on this node use it: a/p; handler \"x\": it has not looked at the empty list yet",
                "labelled: its labels are still there",
                "odd: its annotation installer.berth.dev/handlers can't be read",
            ]
        );
    }
}
