//! `/openapi/v2` and `/openapi/v3`, from the registry and the k8s-openapi types.

use std::sync::Arc;

use http::request::Parts;

use crate::api::Api;
use crate::http_types::Response;

/// Answers a GET under `/openapi`; none: no such document.
#[must_use]
pub fn handle(_api: &Arc<Api>, _parts: &Parts) -> Option<Response> {
    None
}
