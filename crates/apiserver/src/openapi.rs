//! `/openapi/v2` and `/openapi/v3`, from the registry and generated schemas.
//!
//! A document is made when it is first asked for, kept gzipped and made anew when the rows of its
//! group and version change. It is never held as a tree.

mod document;
mod kinds;
mod operations;
mod proto;
mod schemas;

use std::{
    collections::HashMap,
    io::Read,
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use crate::{
    api::Api,
    http_types::{self, Response},
    registry::Table,
    request::PathRequest,
};

const JSON: &str = "application/json";

/// Documents by what they are about (`v2`, `api/v1`, `apis/node.k8s.io/v1`), with their hash.
static DOCUMENTS: LazyLock<Mutex<HashMap<String, (String, Bytes)>>> = LazyLock::new(Mutex::default);

/// Answers a GET under `/openapi`; none: no such document.
#[must_use]
pub fn handle(api: &Arc<Api>, request: &PathRequest, headers: &HeaderMap) -> Option<Response> {
    let table = api.registry.table();
    match request.path.trim_end_matches('/') {
        "/openapi/v3" => {
            let mut paths = index(&table);
            for remote in api.aggregation.all(&table) {
                if let Some(document) = remote.document() {
                    let path = format!("apis/{}/{}", remote.group, remote.version);
                    let url = format!("/openapi/v3/{path}?hash={}", document.hash);
                    paths.insert(path, json!({"serverRelativeURL": url}));
                }
            }
            Some(http_types::json(StatusCode::OK, &json!({"paths": paths})))
        }
        "/openapi/v2" => {
            let hash = document::hash_of_all(&table);
            // clients' caches must not take one encoding for the other
            Some(if accepts_proto(headers) {
                let hash = format!("{hash}-proto");
                serve(
                    request,
                    headers,
                    "v2 in protobuf",
                    proto::MEDIA_TYPE,
                    hash,
                    || document::swagger_proto(&table),
                )
            } else {
                serve(request, headers, "v2", JSON, hash, || {
                    document::swagger(&table)
                })
            })
        }
        path => {
            let path = path.strip_prefix("/openapi/v3/")?;
            let (group, version) = group_version(path)?;
            let remotes = api.aggregation.all(&table).into_iter();
            let mut of_others = remotes
                .filter(|remote| remote.group == group && remote.version == version)
                .filter_map(|remote| remote.document());
            if let Some(found) = of_others.next() {
                let hash = found.hash.clone();
                return Some(serve(request, headers, path, JSON, hash, || {
                    document::zipped(&found.bytes)
                }));
            }
            let hash = document::hash(&table, &group, &version)?;
            Some(serve(request, headers, path, JSON, hash, || {
                document::openapi(&table, &group, &version)
            }))
        }
    }
}

/// `api/v1`, `apis/G/V`.
fn group_version(path: &str) -> Option<(String, String)> {
    match path.split('/').collect::<Vec<_>>().as_slice() {
        ["api", version] => Some((String::new(), (*version).to_owned())),
        ["apis", group, version] => Some(((*group).to_owned(), (*version).to_owned())),
        _ => None,
    }
}

fn index(table: &Table) -> Map<String, Value> {
    let mut paths = Map::new();
    for (group, versions) in table.groups() {
        for version in versions {
            let Some(hash) = document::hash(table, &group, &version) else {
                continue;
            };
            let path = if group.is_empty() {
                format!("api/{version}")
            } else {
                format!("apis/{group}/{version}")
            };
            let url = format!("/openapi/v3/{path}?hash={hash}");
            paths.insert(path, json!({"serverRelativeURL": url}));
        }
    }
    paths
}

fn accepts_proto(headers: &HeaderMap) -> bool {
    let accepted = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|v| v.to_str().ok());
    // the first that is served decides; the name is written with @ or . before its version
    let mut known = accepted.flat_map(|v| v.split(',')).map(str::trim);
    known
        .find(|t| t.starts_with(JSON) || t.contains("proto-openapi.spec.v2"))
        .is_some_and(|t| t.contains("proto"))
}

fn serve(
    request: &PathRequest,
    asked: &HeaderMap,
    name: &str,
    content_type: &'static str,
    hash: String,
    make: impl FnOnce() -> Vec<u8>,
) -> Response {
    let etag = format!("\"{hash}\"");
    let known = asked
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .any(|v| v.as_bytes() == etag.as_bytes());
    let mut response = if known {
        http_types::respond(StatusCode::NOT_MODIFIED, content_type, "")
    } else {
        let zipped = cached(name, &hash, make);
        if accepts_gzip(asked) {
            let mut response = http_types::respond(StatusCode::OK, content_type, zipped);
            response
                .headers_mut()
                .insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            response
        } else {
            let mut plain = Vec::new();
            match GzDecoder::new(zipped.as_ref()).read_to_end(&mut plain) {
                Ok(_) => http_types::respond(StatusCode::OK, content_type, plain),
                Err(_) => http_types::text(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the document cannot be unpacked",
                ),
            }
        }
    };
    let headers = response.headers_mut();
    let cache = if request.parameters.first("hash") == Some(hash.as_str()) {
        // as fresh as the stock server's documents: the address changes with the content
        "public, immutable, max-age=31536000"
    } else {
        "no-cache, private"
    };
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(
        header::VARY,
        HeaderValue::from_static("Accept-Encoding, Accept"),
    );
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(header::ETAG, etag);
    }
    response
}

fn accepts_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|v| v.to_str().ok());
    accepted
        .flat_map(|v| v.split(','))
        .any(|coding| coding.trim().split(';').next() == Some("gzip"))
}

fn cached(name: &str, hash: &str, make: impl FnOnce() -> Vec<u8>) -> Bytes {
    if let Some((_, document)) = DOCUMENTS
        .lock()
        .get(name)
        .filter(|(known, _)| known == hash)
    {
        return document.clone();
    }
    let document = Bytes::from(make());
    DOCUMENTS
        .lock()
        .insert(name.to_owned(), (hash.to_owned(), document.clone()));
    document
}

#[cfg(test)]
mod tests;
