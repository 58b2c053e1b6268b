//! What a client is told besides the answer: `Warning` headers.

use parking_lot::{Mutex, MutexGuard};

/// Warnings that are kept for an answer.
const MAX_WARNINGS: usize = 256;

/// The warnings of a request, each once.
#[derive(Debug, Default)]
pub(crate) struct Warnings(Mutex<Vec<String>>);

impl Warnings {
    /// Adds a warning, unless it is there or there are more than an answer can carry.
    pub(crate) fn add(&self, text: impl Into<String>) {
        let text = text.into();
        let mut warnings = self.0.lock();
        if warnings.len() < MAX_WARNINGS && !warnings.contains(&text) {
            warnings.push(text);
        }
    }

    /// All of them, in the order in which they came.
    pub(crate) fn texts(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock()
    }
}
