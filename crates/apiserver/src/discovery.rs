//! `/api`, `/apis` and below: what is served, from the registry.

use std::sync::Arc;

use http::request::Parts;

use crate::api::Api;
use crate::http_types::Response;

/// Answers a GET under `/api` or `/apis` that is not about a resource; none: not a discovery path.
#[must_use]
pub fn handle(_api: &Arc<Api>, _parts: &Parts) -> Option<Response> {
    None
}
