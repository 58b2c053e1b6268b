//! Container logs in CRI's format: `TIME STREAM TAGS CONTENT`, one entry a line.
//!
//! A line may be as long as a container likes, so nothing here ever holds a whole one: files are read in chunks, on
//! threads beside the async workers, and the parser takes what comes.

mod follow;
mod parse;
pub(crate) mod rotate;
mod tail;
mod view;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

pub(crate) use follow::stream;
pub(crate) use tail::tail_text;

use crate::pod_files::open_beneath;

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

/// How many directories of a log's path are a pod's: `NAMESPACE_POD_UID/CONTAINER/N.log`.
const OF_THE_POD: usize = 3;

/// Opens a log; below the agent's directory of logs no link is followed, and nothing but a regular file is opened.
pub(crate) fn open(log: &Path) -> io::Result<File> {
    let base = log.ancestors().take(OF_THE_POD + 1).last();
    let parts = base.and_then(|base| Some((base, log.strip_prefix(base).ok()?)));
    let (base, relative) = parts.ok_or(io::ErrorKind::NotFound)?;
    open_beneath(base, relative)
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
