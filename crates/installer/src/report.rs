//! What a node says of its handlers: a label for each that works, and one annotation with the rest.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Labels of nodes are `handler.berth.dev/NAME: "true"`.
pub const LABEL_PREFIX: &str = "handler.berth.dev/";
/// The annotation of nodes on which there is something of the installer's.
pub const ANNOTATION: &str = "installer.berth.dev/handlers";
/// So much of a reason is told.
const REASON_MAX: usize = 500;

/// The label of a handler.
#[must_use]
pub fn label(handler: &str) -> String {
    format!("{LABEL_PREFIX}{handler}")
}

/// How far a handler is on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// A pod has run under it.
    Works,
    /// It is registered; the pod that proves it has not ended.
    Verifying,
    /// It can't be registered, or the pod failed.
    Broken,
    /// It is not wanted any more, or in other words, and pods use it.
    Kept,
}

/// A handler's line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// How far it is.
    pub state: State,
    /// Why it is not further.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// The annotation's value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Why nothing can be done on the node at all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub problem: String,
    /// By handler.
    #[serde(default)]
    pub handlers: BTreeMap<String, Line>,
}

impl Report {
    /// The handlers that are advertised.
    #[must_use]
    pub fn working(&self) -> BTreeSet<&str> {
        let works = self
            .handlers
            .iter()
            .filter(|(_, line)| line.state == State::Works);
        works.map(|(name, _)| name.as_str()).collect()
    }

    /// Notes a handler.
    pub fn note(&mut self, handler: &str, state: State, reason: &str) {
        let reason = shortened(reason);
        self.handlers
            .insert(handler.to_owned(), Line { state, reason });
    }

    /// Whether there is nothing of the installer's on the node.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.problem.is_empty() && self.handlers.is_empty()
    }
}

/// One line of a reason, not too long.
#[must_use]
pub fn shortened(text: &str) -> String {
    let mut line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() > REASON_MAX {
        let end = (0..=REASON_MAX).rev().find(|at| line.is_char_boundary(*at));
        line.truncate(end.unwrap_or_default());
        line.push_str("...");
    }
    line
}

/// The merge patch that makes a node say this, and nothing if it does. Labels of handlers that don't work go in any case.
#[must_use]
pub fn patch(
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
    report: &Report,
) -> Option<Value> {
    let working: BTreeSet<String> = report.working().into_iter().map(label).collect();
    let mut changes = serde_json::Map::new();
    for name in labels.keys().filter(|name| name.starts_with(LABEL_PREFIX)) {
        if !working.contains(name) {
            changes.insert(name.clone(), Value::Null);
        }
    }
    for name in working {
        if labels.get(&name).map(String::as_str) != Some("true") {
            changes.insert(name, json!("true"));
        }
    }
    let told = (!report.is_empty()).then(|| json!(report).to_string());
    let mut meta = serde_json::Map::new();
    if !changes.is_empty() {
        meta.insert("labels".to_owned(), changes.into());
    }
    if annotations.get(ANNOTATION) != told.as_ref() {
        meta.insert("annotations".to_owned(), json!({ANNOTATION: told}));
    }
    (!meta.is_empty()).then(|| json!({"metadata": meta}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn labels_are_those_of_handlers_that_work() {
        let mut report = Report::default();
        report.note("a", State::Works, "");
        report.note("b", State::Broken, "exit  code\n1");
        let labels = map(&[
            ("handler.berth.dev/b", "true"),
            ("handler.berth.dev/old", "true"),
            ("team", "x"),
        ]);
        let told =
            r#"{"handlers":{"a":{"state":"works"},"b":{"reason":"exit code 1","state":"broken"}}}"#;
        assert_eq!(
            patch(&labels, &BTreeMap::new(), &report),
            Some(json!({"metadata": {
                "labels": {"handler.berth.dev/a": "true", "handler.berth.dev/b": null, "handler.berth.dev/old": null},
                "annotations": {ANNOTATION: told}}}))
        );
        let labels = map(&[("handler.berth.dev/a", "true")]);
        assert_eq!(patch(&labels, &map(&[(ANNOTATION, told)]), &report), None);
        // Somebody's value of a label counts for nothing.
        let odd = patch(
            &map(&[("handler.berth.dev/a", "yes")]),
            &map(&[(ANNOTATION, told)]),
            &report,
        );
        assert_eq!(
            odd,
            Some(json!({"metadata": {"labels": {"handler.berth.dev/a": "true"}}}))
        );
    }

    #[test]
    fn nothing_is_left_when_nothing_is_there() {
        let gone = patch(
            &map(&[("handler.berth.dev/a", "true")]),
            &map(&[(ANNOTATION, "{}")]),
            &Report::default(),
        );
        let want = json!({"metadata": {"labels": {"handler.berth.dev/a": null}, "annotations": {ANNOTATION: null}}});
        assert_eq!(gone, Some(want));
        assert_eq!(
            patch(&BTreeMap::new(), &BTreeMap::new(), &Report::default()),
            None
        );
    }

    #[test]
    fn reasons_have_bounds() {
        assert_eq!(shortened(&"é".repeat(400)).len(), 503);
    }
}
