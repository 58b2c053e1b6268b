//! What a node answers of a pod's start: `/stats/starts/NAMESPACE/POD`.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::{Part, Span, SpanId};

/// A pod's start, as far as it has got.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartReport {
    /// The pod's namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Its UID, which is the trace's id as well.
    pub uid: String,
    /// The node.
    pub node: String,
    /// Its class; empty for none.
    #[serde(default)]
    pub runtime_class: String,
    /// The runtime handler; empty for the default one.
    #[serde(default)]
    pub handler: String,
    /// When the API server says that it was created; whole seconds.
    #[serde(default)]
    pub created: String,
    /// When the node saw it.
    pub noticed: String,
    /// `Starting`, `Ready`, `Succeeded`, `Failed` or `Deleted`.
    pub outcome: String,
    /// How long all of it took, or takes by now.
    pub microseconds: u64,
    /// By the time at which they began; each behind the one that it is part of.
    pub stages: Vec<StageReport>,
}

/// A stage of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StageReport {
    /// Whose it is.
    pub part: Part,
    /// What was done.
    pub name: String,
    /// Of how many others it is part.
    pub depth: usize,
    /// When it began, after the node saw the pod.
    pub begin_microseconds: u64,
    /// How long it took.
    pub microseconds: u64,
    /// Whether it failed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
}

/// The stages below the root span, in order.
#[must_use]
pub fn stages(spans: &[Span], root: SpanId, begun: SystemTime) -> Vec<StageReport> {
    let mut sorted: Vec<&Span> = spans.iter().collect();
    sorted.sort_by_key(|span| span.begun);
    let mut out = Vec::with_capacity(sorted.len());
    below(&sorted, root, 0, begun, &mut out);
    out
}

/// From one time to another; nothing when the clock was set back in between.
#[must_use]
pub fn microseconds(from: SystemTime, to: SystemTime) -> u64 {
    let passed = to.duration_since(from).unwrap_or_default();
    u64::try_from(passed.as_micros()).unwrap_or(u64::MAX)
}

fn below(
    spans: &[&Span],
    parent: SpanId,
    depth: usize,
    begun: SystemTime,
    out: &mut Vec<StageReport>,
) {
    // Whatever an answer says of parents: each span is shown once at most, and nothing is deep.
    for span in spans.iter().filter(|span| span.parent == Some(parent)) {
        if out.len() >= spans.len() || depth > 8 {
            return;
        }
        out.push(StageReport {
            part: span.part,
            name: span.name.clone().into_owned(),
            depth,
            begin_microseconds: microseconds(begun, span.begun),
            microseconds: microseconds(span.begun, span.ended),
            failed: span.failed,
        });
        below(spans, span.id, depth + 1, begun, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod;

    #[test]
    fn each_stage_is_behind_the_one_that_it_is_part_of() {
        let (trace, root) = pod("u");
        let begun = SystemTime::now();
        let at = |micros| begun + std::time::Duration::from_micros(micros);
        let span = |name: &'static str, parent, from, to| {
            let mut span = Span::new(Part::Node, trace, Some(parent), name);
            (span.begun, span.ended) = (at(from), at(to));
            span
        };
        let sandbox = span("sandbox", root, 10, 90);
        let network = span("network", sandbox.id, 20, 30);
        let image = span("image", root, 15, 18);
        let stray = span("nobody's", SpanId::random(), 0, 1);
        let mut ring = span("its own", root, 0, 1);
        ring.parent = Some(ring.id);
        let found = stages(&[network, image, sandbox, stray, ring], root, begun);
        let found: Vec<_> = found
            .iter()
            .map(|s| {
                (
                    s.name.as_str(),
                    s.depth,
                    s.begin_microseconds,
                    s.microseconds,
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                ("sandbox", 0, 10, 80),
                ("network", 1, 20, 10),
                ("image", 0, 15, 3)
            ]
        );
    }
}
