//! One figure a line.

use std::time::Duration;

/// The middle one, in milliseconds.
pub(crate) fn median(times: &[Duration]) -> f64 {
    let mut times = times.to_vec();
    times.sort();
    times
        .get(times.len() / 2)
        .map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
}

/// A heading over the columns `ours` and `theirs`.
pub(crate) fn heading(title: &str, theirs: &str) {
    println!("\n{title:<58} {:>10} {theirs:>12} {:>7}", "berth", "ratio");
}

/// Two figures and their ratio, which is to be at most `goal`.
pub(crate) fn beside(name: &str, ours: f64, theirs: f64, goal: Option<f64>) {
    let ratio = ours / theirs;
    let verdict = goal.map_or(String::new(), |goal| {
        format!("   goal {goal:.2}: {}", word(ratio <= goal))
    });
    println!("{name:<58} {ours:>10.2} {theirs:>12.2} {ratio:>7.2}{verdict}");
}

/// A figure of ours that is to be at most `goal`, beside theirs where there is one.
pub(crate) fn at_most(name: &str, ours: f64, theirs: Option<f64>, goal: f64) {
    let theirs = theirs.map_or("-".to_owned(), |figure| format!("{figure:.2}"));
    println!(
        "{name:<58} {ours:>10.2} {theirs:>12} {:>7}   goal {goal}: {}",
        "",
        word(ours <= goal)
    );
}

/// Two figures without a goal.
pub(crate) fn plain(name: &str, ours: f64, theirs: f64) {
    println!("{name:<58} {ours:>10.2} {theirs:>12.2}");
}

pub(crate) fn word(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}
