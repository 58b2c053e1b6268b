//! `/healthz`, `/livez`, `/readyz`, `/version`, `/metrics`.

use std::sync::Arc;

use http::StatusCode;
use serde_json::json;

use crate::api::Api;
use crate::http_types::{Response, json, text};
use crate::request::PathRequest;

/// The minor version of Kubernetes whose API this is.
const MINOR: &str = "36";

/// Answers these paths; none: no such check.
pub(crate) fn handle(api: &Arc<Api>, request: &PathRequest) -> Option<Response> {
    match request.path.as_str() {
        "/healthz" | "/livez" | "/healthz/ping" | "/livez/ping" => {
            Some(checks(request, &[("ping", true)]))
        }
        "/readyz" => Some(checks(request, &[("ping", true), etcd(api)])),
        "/readyz/etcd" | "/healthz/etcd" | "/livez/etcd" => Some(checks(request, &[etcd(api)])),
        "/version" => Some(json(
            StatusCode::OK,
            &json!({
                "major": "1",
                "minor": MINOR,
                "gitVersion": format!("v1.{MINOR}.0+berth.{}", env!("CARGO_PKG_VERSION")),
                "gitCommit": "",
                "gitTreeState": "clean",
                "buildDate": "1970-01-01T00:00:00Z",
                "goVersion": "rust",
                "compiler": "rustc",
                "platform": format!("linux/{}", architecture()),
            }),
        )),
        "/metrics" => Some(crate::http_types::respond(
            StatusCode::OK,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            api.metrics
                .encode(&api.storage, &api.aggregation.all(&api.registry.table())),
        )),
        _ => None,
    }
}

/// Whether requests are judged by what is in the store now, whatever the store is made of; the stock name.
fn etcd(api: &Api) -> (&'static str, bool) {
    let storage = &api.storage;
    ("etcd", storage.is_following() && storage.is_fresh())
}

/// Whether a path says something of the server itself, and is answered while it cannot answer others.
pub(crate) fn is_about_server(path: &str) -> bool {
    let probe = ["/healthz", "/livez", "/readyz"].iter().any(|probe| {
        path.strip_prefix(probe)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    probe || path == "/metrics" || path == "/version"
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn checks(request: &PathRequest, checks: &[(&str, bool)]) -> Response {
    let all = checks.iter().all(|(_, good)| *good);
    let verbose = request.parameters.first("verbose").is_some();
    if all && !verbose {
        return text(StatusCode::OK, "ok");
    }
    let mut lines = String::new();
    for (name, good) in checks {
        lines.push_str(&if *good {
            format!("[+]{name} ok\n")
        } else {
            format!("[-]{name} failed\n")
        });
    }
    let probe = request.path.trim_start_matches('/');
    if all {
        text(StatusCode::OK, format!("{lines}{probe} check passed\n"))
    } else {
        text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("{lines}{probe} check failed\n"),
        )
    }
}
