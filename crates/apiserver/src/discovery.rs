//! `/api`, `/apis` and below: what is served, from the registry.
//!
//! Clients that know it get all groups in one answer (aggregated discovery, with an ETag); others
//! walk from `/apis` down.

mod aggregated;
mod lists;

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use berth_api::status::ApiError;

use crate::{
    api::Api,
    http_types::{self, Response},
    registry::group_version,
    request::PathRequest,
};

pub use crate::version::GIT_VERSION;

/// Answers a GET under `/api` or `/apis` that is not about a resource; none: not a discovery path.
#[must_use]
pub fn handle(api: &Arc<Api>, request: &PathRequest, headers: &HeaderMap) -> Option<Response> {
    let table = api.registry.table();
    let remotes = api.aggregation.all(&table);
    let path: Vec<&str> = request.path.trim_matches('/').split('/').collect();
    let list = match path.as_slice() {
        ["version"] => version(),
        [".well-known", "openid-configuration"] => return api.tokens.as_ref().map(|t| {
            let issuer = t.issuer();
            let keys = format!("{}/openid/v1/jwks", issuer.trim_end_matches('/'));
            http_types::json(StatusCode::OK, &json!({
                "issuer": issuer, "jwks_uri": keys, "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256", "RS256"]}))
        }),
        ["openid", "v1", "jwks"] => {
            return api.tokens.as_ref().map(|t| http_types::respond(StatusCode::OK, "application/jwk-set+json", t.key_set().to_string()));
        }
        ["api" | "apis"] => {
            let core = path == ["api"];
            if let Some(version) = wants_aggregated(headers) {
                let body = aggregated::groups(&table, &remotes, version, core);
                return Some(with_etag(headers, version.content_type(), body.to_string()));
            }
            if core { lists::core_versions(&address(api, headers)) } else { lists::groups(&table, &remotes) }
        }
        ["apis", group] => lists::group(&table, &remotes, group)?,
        ["api", version] | ["apis", _, version] => {
            let group = if path.len() == 3 { path.get(1).copied().unwrap_or_default() } else { "" };
            if !table.rows().iter().any(|row| row.group == group) {
                return None;
            }
            match lists::resources(&table, group, version) {
                Some(list) => list,
                None => {
                    tracing::debug!(version = group_version(group, version), "not served");
                    return Some(http_types::error(&ApiError::NoSuchPath));
                }
            }
        }
        _ => return None,
    };
    Some(http_types::json(StatusCode::OK, &list))
}

fn version() -> Value {
    json!({
        "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "35",
        "gitVersion": GIT_VERSION, "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "none", "compiler": "rustc", "platform": format!("{}/{}", std::env::consts::OS, arch()),
    })
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn address(api: &Api, headers: &HeaderMap) -> String {
    let host = headers.get(header::HOST).and_then(|h| h.to_str().ok());
    host.map_or_else(|| api.advertise.to_string(), str::to_owned)
}

/// The form of aggregated discovery that a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aggregated {
    V2,
    V2Beta1,
}

impl Aggregated {
    fn name(self) -> &'static str {
        match self {
            Self::V2 => "v2",
            Self::V2Beta1 => "v2beta1",
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::V2 => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            Self::V2Beta1 => {
                "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
            }
        }
    }
}

/// The first media type of `Accept` that is served decides.
fn wants_aggregated(headers: &HeaderMap) -> Option<Aggregated> {
    let accept = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|v| v.to_str().ok());
    for range in accept.flat_map(|v| v.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        if media != "application/json" && media != "*/*" && media != "application/*" {
            continue;
        }
        let parameters: Vec<&str> = parts.collect();
        if !parameters.contains(&"as=APIGroupDiscoveryList") {
            return None;
        }
        if parameters.contains(&"v=v2") {
            return Some(Aggregated::V2);
        }
        if parameters.contains(&"v=v2beta1") {
            return Some(Aggregated::V2Beta1);
        }
    }
    None
}

fn with_etag(headers: &HeaderMap, content_type: &'static str, body: String) -> Response {
    let etag = format!("\"{}\"", hex::encode_upper(Sha256::digest(&body)));
    let known = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .any(|v| v.as_bytes() == etag.as_bytes());
    let mut response = if known {
        http_types::respond(StatusCode::NOT_MODIFIED, content_type, "")
    } else {
        http_types::respond(StatusCode::OK, content_type, body)
    };
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
        .headers_mut()
        .insert(header::VARY, HeaderValue::from_static("Accept"));
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_acceptable_media_type_decides() {
        let wants = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            wants_aggregated(&headers)
        };
        let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        let beta = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
        assert_eq!(
            wants(&format!("{v2},{beta},application/json")),
            Some(Aggregated::V2)
        );
        assert_eq!(
            wants(&format!("{beta},application/json")),
            Some(Aggregated::V2Beta1)
        );
        assert_eq!(wants(&format!("application/json,{v2}")), None);
        assert_eq!(
            wants("application/vnd.kubernetes.protobuf, application/json"),
            None
        );
        assert_eq!(wants("*/*"), None);
    }

    #[test]
    fn an_etag_that_the_client_has_saves_the_body() {
        let first = with_etag(&HeaderMap::new(), "application/json", "{}".to_owned());
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
        assert_eq!(
            with_etag(&headers, "application/json", "{}".to_owned()).status(),
            StatusCode::NOT_MODIFIED
        );
        assert_eq!(
            with_etag(&headers, "application/json", "[]".to_owned()).status(),
            StatusCode::OK
        );
    }
}
