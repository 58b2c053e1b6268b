//! The text that a node answers for `/metrics/resource`: lines of Prometheus' exposition format. Only those that count here
//! are looked at, and what is not well-formed is left out.

use std::borrow::Cow;

/// What a line measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Metric {
    NodeCpu,
    NodeMemory,
    ContainerCpu,
    ContainerMemory,
    ContainerStart,
}

impl Metric {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "node_cpu_usage_seconds_total" => Self::NodeCpu,
            "node_memory_working_set_bytes" => Self::NodeMemory,
            "container_cpu_usage_seconds_total" => Self::ContainerCpu,
            "container_memory_working_set_bytes" => Self::ContainerMemory,
            "container_start_time_seconds" => Self::ContainerStart,
            _ => return None,
        })
    }
}

/// A line.
#[derive(Debug, PartialEq)]
pub(super) struct Line<'a> {
    pub(super) metric: Metric,
    pub(super) namespace: Cow<'a, str>,
    pub(super) pod: Cow<'a, str>,
    pub(super) container: Cow<'a, str>,
    /// Finite, and not below zero.
    pub(super) value: f64,
    /// When it was measured, in milliseconds since 1970, where the node says so.
    pub(super) time_ms: Option<i64>,
}

/// The lines that count.
pub(super) fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    text.lines().filter_map(read)
}

fn read(line: &str) -> Option<Line<'_>> {
    let end = line.find(|c: char| c == '{' || c.is_ascii_whitespace())?;
    let (name, rest) = line.split_at(end);
    let metric = Metric::of(name)?;
    let mut found = Line {
        metric,
        namespace: Cow::Borrowed(""),
        pod: Cow::Borrowed(""),
        container: Cow::Borrowed(""),
        value: 0.0,
        time_ms: None,
    };
    let rest = match rest.strip_prefix('{') {
        Some(labels) => read_labels(labels, &mut found)?,
        None => rest,
    };
    let mut numbers = rest.split_ascii_whitespace();
    let value: f64 = numbers.next()?.parse().ok()?;
    if !value.is_finite() || value < 0.0 {
        return None;
    }
    found.value = value;
    found.time_ms = match numbers.next() {
        Some(time) => Some(time.parse().ok()?),
        None => None,
    };
    numbers.next().is_none().then_some(found)
}

/// Reads labels up to their closing brace; what comes after it.
fn read_labels<'a>(mut rest: &'a str, found: &mut Line<'a>) -> Option<&'a str> {
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some(after);
        }
        let (name, quoted) = rest.split_once("=\"")?;
        let (value, after) = read_quoted(quoted)?;
        match name {
            "namespace" => found.namespace = value,
            "pod" => found.pod = value,
            "container" => found.container = value,
            _ => {}
        }
        rest = after;
    }
}

/// A text up to its closing quotation mark; what comes after it.
fn read_quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut plain = String::new();
    let mut escapes = false;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                let after = text.get(at + 1..)?;
                let value = if escapes {
                    Cow::Owned(plain)
                } else {
                    Cow::Borrowed(text.get(..at)?)
                };
                return Some((value, after));
            }
            '\\' => {
                if !escapes {
                    escapes = true;
                    plain.push_str(text.get(..at)?);
                }
                plain.push(match chars.next()?.1 {
                    'n' => '\n',
                    other => other,
                });
            }
            c if escapes => plain.push(c),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_that_count_are_read() {
        let text = "# HELP node_cpu_usage_seconds_total [STABLE] Cumulative cpu time\n\
                    # TYPE node_cpu_usage_seconds_total counter\n\
                    node_cpu_usage_seconds_total 1.23456e+06 1700000000123\n\
                    something_else{a=\"b\"} 1\n\
                    container_memory_working_set_bytes{container=\"c\\\"\\\\\",namespace=\"ns\",pod=\"p,}\"} 4096\n\
                    node_memory_working_set_bytes 7\n";
        let found: Vec<Line<'_>> = lines(text).collect();
        assert_eq!(found.len(), 3);
        assert_eq!(
            (found[0].metric, found[0].value, found[0].time_ms),
            (Metric::NodeCpu, 1_234_560.0, Some(1_700_000_000_123))
        );
        let container = &found[1];
        assert_eq!(
            (
                &*container.container,
                &*container.namespace,
                &*container.pod
            ),
            ("c\"\\", "ns", "p,}")
        );
        assert_eq!((found[2].value, found[2].time_ms), (7.0, None));
    }

    #[test]
    fn what_makes_no_sense_is_left_out() {
        for line in [
            "node_cpu_usage_seconds_total",
            "node_cpu_usage_seconds_total NaN",
            "node_cpu_usage_seconds_total +Inf",
            "node_cpu_usage_seconds_total -1",
            "node_cpu_usage_seconds_total 1 2 3",
            "node_cpu_usage_seconds_total 1 x",
            "container_cpu_usage_seconds_total{container=\"c 1",
            "container_cpu_usage_seconds_total{container=\"c\" 1",
            "container_cpu_usage_seconds_total{container=c} 1",
            "container_cpu_usage_seconds_total{container=\"c\\",
        ] {
            assert_eq!(lines(line).count(), 0, "{line}");
        }
    }
}
