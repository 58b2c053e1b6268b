//! One figure a line, and the ratio of two servers.

use std::sync::Arc;

use crate::server::Server;

fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The median of each server, and how many times as much the first has as the second.
pub(crate) fn figures(
    name: &str,
    unit: &str,
    servers: &[Arc<Server>],
    seen: &[Vec<f64>],
    goal: Option<f64>,
) {
    let medians: Vec<f64> = seen.iter().map(|values| median(values)).collect();
    for (server, value) in servers.iter().zip(&medians) {
        println!(
            "{:<56} {value:>9.1} {unit}",
            format!("{name}, {}", server.name)
        );
    }
    if let [first, second, ..] = medians[..] {
        println!(
            "{:<56} {:>9.2} x{}",
            "  the first beside the second",
            first / second,
            goal.map_or(String::new(), |goal| format!("  (goal {goal})"))
        );
    }
}
