//! A bounded list of what is wrong with a document.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::fmt::{self, Write};

use super::trail::Trail;

/// As many as a stock API server reports.
pub const MAX_PROBLEMS: usize = 100;
/// Bytes of all paths together; a client chooses how long a path is.
const MAX_TOTAL_BYTES: usize = 32 << 10;
/// Bytes of one path; what is longer ends in dots.
const MAX_PATH_BYTES: usize = 1 << 10;

/// Bytes that what is decoded may have in memory, beside its strings: an item of two characters can be a type of
/// kilobytes.
const MAX_DECODED_BYTES: usize = 128 << 20;

/// Paths of fields, each once, in the order met, until there are as many as anybody reads.
#[derive(Default)]
pub(super) struct Problems {
    found: RefCell<Found>,
    decoded: Cell<usize>,
}

#[derive(Default)]
struct Found {
    paths: Vec<String>,
    seen: HashSet<String>,
    bytes: usize,
}

impl Problems {
    pub(super) fn is_full(&self) -> bool {
        let found = self.found.borrow();
        found.paths.len() >= MAX_PROBLEMS || found.bytes >= MAX_TOTAL_BYTES
    }

    pub(super) fn add(&self, trail: &Trail<'_>) {
        if self.is_full() {
            return;
        }
        let mut path = Short(String::new());
        if write!(path, "{trail}").is_err() {
            path.0.push_str("...");
        }
        let mut found = self.found.borrow_mut();
        if !found.seen.contains(&path.0) {
            found.bytes += path.0.len();
            found.seen.insert(path.0.clone());
            found.paths.push(path.0);
        }
    }

    /// Counts an item of a list or an entry of a map of this size; false when all together are too large.
    pub(super) fn is_affordable(&self, bytes: usize) -> bool {
        let decoded = self.decoded.get().saturating_add(bytes);
        self.decoded.set(decoded);
        decoded <= MAX_DECODED_BYTES
    }

    pub(super) fn into_paths(self) -> Vec<String> {
        self.found.into_inner().paths
    }
}

/// Takes as much text as a path may have, then refuses, so that no more is formatted.
struct Short(String);

impl Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let left = MAX_PATH_BYTES - self.0.len();
        if text.len() <= left {
            self.0.push_str(text);
            return Ok(());
        }
        let end = (0..=left).rev().find(|at| text.is_char_boundary(*at));
        self.0.push_str(&text[..end.unwrap_or(0)]);
        Err(fmt::Error)
    }
}
