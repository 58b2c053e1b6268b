//! How the stages of a call are answered: JSON of at most 8 KiB, which fits into the headers of gRPC.
//!
//! Whoever reads it takes times and names, and neither the trace nor attributes: an answer says something of its own
//! call, and of nothing else.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::{Kind, MAX_SPANS, Part, Span, SpanId, TraceId};

/// The number of the field of a ttrpc answer that has them, which no message of containerd's has.
pub const FIELD: u32 = 18_521;

/// An answer is no longer.
const MAX_BYTES: usize = 8 << 10;
/// A name is no longer.
const MAX_NAME: usize = 64;

#[derive(Serialize, Deserialize)]
struct Line {
    part: Part,
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    name: String,
    /// Nanoseconds since 1970.
    begun: u64,
    ended: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    failed: bool,
}

/// As many as there is room for, the last ones first: the outer stages end last.
#[must_use]
pub fn encode(spans: &[Span]) -> Vec<u8> {
    let mut out = vec![b'['];
    for span in spans.iter().rev() {
        let line = Line {
            part: span.part,
            id: span.id.to_string(),
            parent: span.parent.map(|parent| parent.to_string()),
            name: span.name.chars().take(MAX_NAME).collect(),
            begun: nanoseconds(span.begun),
            ended: nanoseconds(span.ended),
            failed: span.failed,
        };
        let Ok(text) = serde_json::to_vec(&line) else {
            continue;
        };
        if out.len() + text.len() + 2 > MAX_BYTES {
            break;
        }
        if out.len() > 1 {
            out.push(b',');
        }
        out.extend(text);
    }
    out.push(b']');
    out
}

/// The stages in an answer of a call that `parts` have served; none of an answer that is too long or malformed.
#[must_use]
pub fn decode(bytes: &[u8], trace: TraceId, parts: &[Part]) -> Vec<Span> {
    if bytes.len() > MAX_BYTES {
        return Vec::new();
    }
    let Ok(lines) = serde_json::from_slice::<Vec<Line>>(bytes) else {
        return Vec::new();
    };
    let lines = lines.into_iter().rev().take(MAX_SPANS);
    let lines = lines.filter(|line| parts.contains(&line.part));
    lines.filter_map(|line| span(line, trace)).collect()
}

fn span(line: Line, trace: TraceId) -> Option<Span> {
    let parent = match &line.parent {
        Some(parent) => Some(SpanId::parse(parent)?),
        None => None,
    };
    let name = line.name.chars().take(MAX_NAME);
    let name: String = name.map(|c| if c.is_control() { ' ' } else { c }).collect();
    Some(Span {
        part: line.part,
        trace,
        id: SpanId::parse(&line.id)?,
        parent,
        name: name.into(),
        kind: Kind::Internal,
        begun: time(line.begun),
        ended: time(line.ended.max(line.begun)),
        failed: line.failed,
        attributes: Vec::new(),
        link: None,
    })
}

pub(crate) fn nanoseconds(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

fn time(nanoseconds: u64) -> SystemTime {
    let since = Duration::from_nanos(nanoseconds);
    SystemTime::UNIX_EPOCH
        .checked_add(since)
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod;

    #[test]
    fn stages_come_back_as_they_were() {
        let (trace, root) = pod("u");
        let outer = Span::new(Part::Cri, trace, Some(root), "network");
        let mut inner = Span::new(Part::Shim, trace, Some(outer.id), "runc create");
        inner.failed = true;
        let spans = vec![inner, outer];
        let bytes = encode(&spans);
        assert_eq!(decode(&bytes, trace, &[Part::Cri, Part::Shim]), spans);
        // A shim answers what is a shim's.
        assert_eq!(decode(&bytes, trace, &[Part::Shim]), spans[..1]);
    }

    #[test]
    fn an_answer_is_bounded_and_names_are_clean() {
        let (trace, _) = pod("u");
        let long = || Span::new(Part::Shim, trace, None, "\u{1b}[31m".repeat(100));
        let many: Vec<Span> = (0..1000).map(|_| long()).collect();
        let bytes = encode(&many);
        assert!(bytes.len() <= MAX_BYTES);
        let found = decode(&bytes, trace, &[Part::Shim]);
        assert!(!found.is_empty() && found.len() <= MAX_SPANS);
        for span in found {
            assert!(span.name.len() <= MAX_NAME && !span.name.contains(char::is_control));
        }
    }

    #[test]
    fn what_is_malformed_is_nothing() {
        let (trace, _) = pod("u");
        let big = format!("[{}]", " ".repeat(MAX_BYTES));
        let zero = r#"[{"part":"shim","id":"0000000000000000","name":"n","begun":1,"ended":2}]"#;
        for bytes in ["", "{}", "[1]", "[", big.as_str(), zero] {
            assert_eq!(decode(bytes.as_bytes(), trace, &Part::ALL), [], "{bytes}");
        }
        // An end before the beginning, at the ends of time.
        let odd = format!(
            r#"[{{"part":"shim","id":"0000000000000001","name":"n","begun":{},"ended":0}}]"#,
            u64::MAX
        );
        let spans = decode(odd.as_bytes(), trace, &Part::ALL);
        assert!(spans[0].ended >= spans[0].begun);
    }
}
