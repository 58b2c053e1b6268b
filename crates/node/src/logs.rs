//! Container logs in CRI's format: `TIME STREAM TAGS CONTENT`, one entry a line.

mod follow;
mod parse;
pub(crate) mod rotate;

use std::path::{Path, PathBuf};

use jiff::Timestamp;

pub(crate) use follow::stream;
pub(crate) use parse::Entry;

/// What a reader asks for (`PodLogOptions`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) follow: bool,
    pub(crate) timestamps: bool,
    pub(crate) since: Option<Timestamp>,
    pub(crate) tail: Option<usize>,
    pub(crate) limit_bytes: Option<usize>,
    /// `Stdout` or `Stderr`; all when `None`.
    pub(crate) stream: Option<&'static str>,
}

/// The rotated files of a log, oldest first, then the log itself.
pub(crate) fn files(log: &Path) -> Vec<PathBuf> {
    let mut list = rotated(log);
    list.push(log.to_owned());
    list
}

/// `NAME.log.20261121-220000`, oldest first; compressed ones (another agent's) are left out.
pub(crate) fn rotated(log: &Path) -> Vec<PathBuf> {
    let Some((dir, name)) = log.parent().zip(log.file_name()) else {
        return Vec::new();
    };
    let prefix = format!("{}.", name.to_string_lossy());
    let mut list: Vec<PathBuf> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .filter(|p| {
            p.file_name()
                .and_then(|n| n.to_str())
                .and_then(|n| n.strip_prefix(&prefix))
                .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit() || b == b'-'))
        })
        .collect();
    list.sort();
    list
}

/// The content of the last lines, at most `limit` bytes of it.
pub(crate) fn tail_text(log: &Path, lines: usize, limit: usize) -> String {
    let data = std::fs::read(log).unwrap_or_default();
    let from = parse::tail_offset(&data, lines);
    let mut out = Vec::new();
    for line in data[from..].split_inclusive(|b| *b == b'\n') {
        if let Some(entry) = Entry::parse(line) {
            entry.write(false, &mut out);
        }
    }
    let from = out.len().saturating_sub(limit);
    String::from_utf8_lossy(&out[from..]).into_owned()
}
