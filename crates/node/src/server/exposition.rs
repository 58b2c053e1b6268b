//! Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write;

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};

use super::reply::{Body, text};

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// All samples of one metric: in the format they have to stand together.
#[derive(Debug)]
pub(super) struct Family {
    help: &'static str,
    kind: Kind,
    lines: String,
    name: &'static str,
}

/// Metrics by name.
#[derive(Debug, Default)]
pub(super) struct Exposition(BTreeMap<&'static str, Family>);

impl Exposition {
    /// The samples of a metric, to be added to.
    pub(super) fn family(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: Kind,
    ) -> &mut Family {
        self.0.entry(name).or_insert_with(|| Family {
            help,
            kind,
            lines: String::new(),
            name,
        })
    }

    /// The text, sorted by name.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        for family in self.0.values().filter(|family| !family.lines.is_empty()) {
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            let (name, help) = (family.name, family.help);
            let _ = write!(
                out,
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{}",
                family.lines
            );
        }
        out
    }

    /// The answer.
    pub(super) fn reply(&self) -> Response<Body> {
        reply(self.text())
    }
}

/// An answer with text in this format.
fn reply(metrics: String) -> Response<Body> {
    let mut response = text(StatusCode::OK, metrics);
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

impl Family {
    /// A sample without a time.
    pub(super) fn add(&mut self, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.sample("", labels, value, None);
    }

    /// A sample of a time, in milliseconds since 1970.
    pub(super) fn at(&mut self, labels: &[(&str, &str)], value: impl std::fmt::Display, time: i64) {
        self.sample("", labels, value, Some(time));
    }

    /// A sample of `NAME` with this after it (`_bucket`).
    pub(super) fn part(
        &mut self,
        suffix: &str,
        labels: &[(&str, &str)],
        value: impl std::fmt::Display,
    ) {
        self.sample(suffix, labels, value, None);
    }

    fn sample(
        &mut self,
        suffix: &str,
        labels: &[(&str, &str)],
        value: impl std::fmt::Display,
        time: Option<i64>,
    ) {
        let out = &mut self.lines;
        out.push_str(self.name);
        out.push_str(suffix);
        for (index, (name, value)) in labels.iter().enumerate() {
            out.push(if index == 0 { '{' } else { ',' });
            out.push_str(name);
            out.push_str("=\"");
            push_escaped(out, value);
            out.push('"');
        }
        if !labels.is_empty() {
            out.push('}');
        }
        let _ = match time {
            Some(time) => writeln!(out, " {value} {time}"),
            None => writeln!(out, " {value}"),
        };
    }
}

/// A label's value: nothing in it ends the value or the line.
fn push_escaped(out: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

/// Nanoseconds as seconds.
pub(super) fn seconds(nanos: u64) -> String {
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_a_metric_stand_together_and_labels_end_nothing() {
        let mut all = Exposition::default();
        all.family("b", "B.", Kind::Gauge)
            .at(&[("x", "a\"\\\nb{} 7")], 1, 9);
        all.family("a", "A.", Kind::Counter)
            .add(&[], seconds(1_500_000_000));
        all.family("b", "B.", Kind::Gauge)
            .add(&[("x", "2"), ("y", "")], 3);
        all.family("none", "N.", Kind::Gauge);
        let want = "# HELP a A.\n# TYPE a counter\na 1.500000000\n\
                    # HELP b B.\n# TYPE b gauge\nb{x=\"a\\\"\\\\\\nb{} 7\"} 1 9\nb{x=\"2\",y=\"\"} 3\n";
        assert_eq!(all.text(), want);
        assert_eq!(all.text().lines().count(), 7);
    }
}
