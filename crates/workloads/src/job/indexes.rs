//! Sets of completion indexes, as text: `1,3-5,7`.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use k8s_openapi::api::core::v1::Pod;

/// Where a pod says which index it has; the label has it, too.
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// The index of a pod, if it is one of `completions`.
pub(super) fn index_of(pod: &Pod, completions: i32) -> Option<i32> {
    let annotations = pod.metadata.annotations.as_ref();
    let index = annotations?.get(INDEX)?.parse().ok()?;
    (0..completions).contains(&index).then_some(index)
}

/// Reads a set; what isn't a number below `completions` is left out.
pub(super) fn parse(text: &str, completions: i32) -> BTreeSet<i32> {
    let mut all = BTreeSet::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(from), Ok(to)) = (from.parse::<i32>(), to.parse::<i32>()) {
            all.extend(from.max(0)..to.saturating_add(1).min(completions));
        }
    }
    all
}

/// Writes a set; runs of three and more as a range.
pub(super) fn format(all: &BTreeSet<i32>) -> String {
    let mut text = String::new();
    let mut rest = all.iter().copied().peekable();
    while let Some(first) = rest.next() {
        let mut last = first;
        while rest.peek() == Some(&(last + 1)) {
            last += 1;
            rest.next();
        }
        if !text.is_empty() {
            text.push(',');
        }
        // Writing into a String does not fail.
        let _ = match last - first {
            0 => write!(text, "{first}"),
            1 => write!(text, "{first},{last}"),
            _ => write!(text, "{first}-{last}"),
        };
    }
    text
}
