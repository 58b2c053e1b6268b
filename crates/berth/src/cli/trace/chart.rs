//! For people: a bar for each stage.

use std::fmt::Write as _;

use berth_trace::report::{StageReport, StartReport};

/// Columns of the bars at least.
const LEAST: usize = 20;
/// Columns of the stages' names at most.
const MAX_NAME: usize = 44;
/// What stands between names and bars: part, milliseconds, spaces.
const NUMBERS: usize = 2 + 10 + 2;

/// A chart that is so many columns wide, or as narrow as can be.
pub(super) fn render(report: &StartReport, width: usize) -> String {
    let mut out = String::new();
    let mut line = |text: std::fmt::Arguments<'_>| {
        let _ = writeln!(out, "{text}");
    };
    line(format_args!(
        "Pod {}/{} on node {}: {} after {}",
        clean(&report.namespace),
        clean(&report.pod),
        clean(&report.node),
        clean(&report.outcome),
        milliseconds(report.microseconds)
    ));
    let or = |text: &str, other: &str| {
        if text.is_empty() {
            other.to_owned()
        } else {
            clean(text)
        }
    };
    line(format_args!(
        "class {}, handler {}",
        or(&report.runtime_class, "none"),
        or(&report.handler, "(default)")
    ));
    line(format_args!(
        "created {}, noticed by the node {}",
        or(&report.created, "-"),
        clean(&report.noticed)
    ));
    line(format_args!(
        "trace {}",
        clean(&report.uid).replace('-', "")
    ));
    let names: Vec<String> = report.stages.iter().map(name).collect();
    let longest = names.iter().map(|name| name.chars().count()).max();
    let column = longest.unwrap_or(0);
    let bars = width.saturating_sub(column + NUMBERS).max(LEAST);
    line(format_args!(""));
    for (stage, name) in report.stages.iter().zip(&names) {
        let took = milliseconds(stage.microseconds);
        let bar = bar(stage, report.microseconds, bars);
        let failed = if stage.failed { " failed" } else { "" };
        line(format_args!("{name:column$}  {took:>10}  {bar}{failed}"));
    }
    out
}

/// What was done, below what it is part of, with whose it is.
fn name(stage: &StageReport) -> String {
    let indent = "  ".repeat(stage.depth.min(8));
    let text = format!("{indent}{} ({})", clean(&stage.name), stage.part.name());
    if text.chars().count() <= MAX_NAME {
        return text;
    }
    let short: String = text.chars().take(MAX_NAME - 1).collect();
    format!("{short}…")
}

fn bar(stage: &StageReport, all: u64, columns: usize) -> String {
    let all = u128::from(all.max(1));
    let wide = columns as u128;
    let column = |at: u64| usize::try_from(u128::from(at) * wide / all).unwrap_or(columns);
    let from = column(stage.begin_microseconds).min(columns - 1);
    let end = stage.begin_microseconds.saturating_add(stage.microseconds);
    let to = column(end).clamp(from + 1, columns);
    format!("{}{}", " ".repeat(from), "█".repeat(to - from))
}

fn milliseconds(microseconds: u64) -> String {
    format!("{}.{} ms", microseconds / 1000, microseconds % 1000 / 100)
}

/// Whoever answers says nothing to the terminal.
fn clean(text: &str) -> String {
    text.replace(char::is_control, " ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_trace::Part;

    fn stage(part: Part, name: &str, depth: usize, begin: u64, took: u64) -> StageReport {
        StageReport {
            part,
            name: name.to_owned(),
            depth,
            begin_microseconds: begin,
            microseconds: took,
            failed: false,
        }
    }

    fn report(stages: Vec<StageReport>) -> StartReport {
        StartReport {
            namespace: "default".to_owned(),
            pod: "web".to_owned(),
            uid: "7b2a41c5-0d8b-4c55-9d8e-64a5a6b1c0ff".to_owned(),
            node: "n1".to_owned(),
            handler: "runc".to_owned(),
            noticed: "2026-11-30T08:00:00.123456Z".to_owned(),
            outcome: "Ready".to_owned(),
            microseconds: 100_000,
            stages,
            ..StartReport::default()
        }
    }

    #[test]
    fn a_bar_is_where_and_as_long_as_its_stage() {
        let mut failed = stage(Part::Shim, "runc create", 2, 50_000, 25_000);
        failed.failed = true;
        let report = report(vec![
            stage(Part::Node, "sandbox", 0, 0, 100_000),
            stage(Part::Cri, "network", 1, 25_000, 10),
            failed,
        ]);
        let chart = render(&report, 0);
        assert_eq!(
            chart,
            "\
Pod default/web on node n1: Ready after 100.0 ms
class none, handler runc
created -, noticed by the node 2026-11-30T08:00:00.123456Z
trace 7b2a41c50d8b4c559d8e64a5a6b1c0ff

sandbox (node)            100.0 ms  ████████████████████
  network (cri)             0.0 ms       █
    runc create (shim)     25.0 ms            █████ failed
"
        );
        // As wide as the terminal, and not wider.
        let widest = |width| {
            let chart = render(&report, width);
            let lines = chart
                .lines()
                .skip(5)
                .map(|line| line.trim_end_matches(" failed"));
            lines.map(|line| line.chars().count()).max()
        };
        assert_eq!(widest(120), Some(120));
    }

    #[test]
    fn whatever_a_node_answers_is_shown_within_the_chart() {
        let odd = report(vec![
            stage(
                Part::Node,
                &"\u{1b}[2J".repeat(100),
                1000,
                u64::MAX,
                u64::MAX,
            ),
            stage(Part::Node, "", 0, 0, 0),
        ]);
        let chart = render(
            &StartReport {
                microseconds: 0,
                ..odd
            },
            80,
        );
        assert!(!chart.contains('\u{1b}'));
        assert!(
            chart.lines().all(|line| line.chars().count() < 160),
            "{chart}"
        );
    }
}
