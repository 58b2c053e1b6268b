//! The rows that every berth serves.

use super::Resource;

/// All built-in rows, in the order that discovery lists them.
#[must_use]
pub fn rows() -> Vec<Resource> {
    Vec::new()
}
