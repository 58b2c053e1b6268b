//! Discovery, OpenAPI, health and other paths that name no resource.

use std::sync::Arc;

use berth_api::status::ApiError;
use http::{HeaderMap, StatusCode};
use serde_json::json;

use crate::api::Api;
use crate::http_types::{self, Response};
use crate::request::PathRequest;
use crate::{discovery, health, openapi};

/// Answers a request for a path.
///
/// # Errors
/// `NoSuchPath` in a group that is served, `MethodNotAllowed` for anything but reading.
pub(super) async fn answer(
    api: &Arc<Api>,
    request: &PathRequest,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let path = request.path.as_str();
    let is_health = ["/healthz", "/livez", "/readyz"]
        .iter()
        .filter_map(|prefix| path.strip_prefix(prefix))
        .any(|rest| rest.is_empty() || rest.starts_with('/'));
    let found = if path == "/" {
        Some(http_types::json(StatusCode::OK, &paths(api)))
    } else if is_health || matches!(path, "/version" | "/metrics") {
        health::handle(api, request)
    } else if path.starts_with("/openapi") {
        openapi::handle(api, request, headers).await
    } else {
        discovery::handle(api, request, headers)
    };
    match found {
        Some(_) if !request.reads() => Err(ApiError::MethodNotAllowed),
        Some(response) => Ok(response),
        // In a group that is served an API client wants a Status, elsewhere a plain page will do.
        None if in_known_group(api, path) => Err(ApiError::NoSuchPath),
        None => Ok(http_types::text(
            StatusCode::NOT_FOUND,
            "404 page not found\n",
        )),
    }
}

/// The paths that there are, for who looks around.
fn paths(api: &Api) -> serde_json::Value {
    let mut paths: Vec<String> = ["/healthz", "/livez", "/metrics", "/readyz", "/version"]
        .iter()
        .chain(&["/api", "/apis", "/openapi/v2", "/openapi/v3"])
        .map(|path| (*path).to_owned())
        .collect();
    for (group, versions) in api.registry.table().groups() {
        let root = match group.as_str() {
            "" => "/api".to_owned(),
            group => {
                paths.push(format!("/apis/{group}"));
                format!("/apis/{group}")
            }
        };
        paths.extend(versions.iter().map(|version| format!("{root}/{version}")));
    }
    paths.sort_unstable();
    json!({ "paths": paths })
}

fn in_known_group(api: &Api, path: &str) -> bool {
    let mut parts = path.trim_matches('/').split('/');
    match parts.next() {
        Some("api") => parts.next().is_some(),
        Some("apis") => parts.next().is_some_and(|group| {
            let table = api.registry.table();
            table.rows().iter().any(|row| row.group == group)
        }),
        _ => false,
    }
}
