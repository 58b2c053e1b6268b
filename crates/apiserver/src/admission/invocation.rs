//! As what a rule of others knows a request's resource.

use std::sync::Arc;

use crate::registry::Resource;

/// As what a matching rule knows the resource.
#[derive(Clone, Debug)]
pub(super) struct Invocation {
    /// The row; another one than the request's when both are names for the same objects.
    pub(super) row: Arc<Resource>,
    /// Its version.
    pub(super) version: String,
}
