//! The rows that every berth serves.

mod core;
mod groups;
mod row;

use super::Resource;

/// All built-in rows, in the order that discovery lists them.
#[must_use]
pub fn rows() -> Vec<Resource> {
    let mut rows = core::rows();
    rows.extend(groups::rows());
    rows
}
