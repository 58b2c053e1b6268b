//! `/openapi/v2` and `/openapi/v3`, from the registry and generated schemas.
//!
//! A document is made when it is first asked for, kept gzipped and made anew when the rows of its
//! group and version change. It is never held as a tree.

mod document;
mod kinds;
mod merge;
mod operations;
mod proto;
mod schemas;

use std::{
    collections::HashMap,
    io::Read,
    sync::{Arc, LazyLock, Weak},
};

use berth_api::status::ApiError;
use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::sync::Mutex as AsyncMutex;

use crate::{
    aggregation::Swagger,
    api::Api,
    http_types::{self, Response},
    registry::Table,
    request::PathRequest,
};

const JSON: &str = "application/json";

/// Documents by what they are about (`v2`, `api/v1`, `apis/node.k8s.io/v1`), with their hash.
static DOCUMENTS: LazyLock<Mutex<HashMap<String, (String, Bytes)>>> = LazyLock::new(Mutex::default);
/// One document is made at a time, however many ask for it: it takes a processor for a while.
static MAKING: LazyLock<Arc<AsyncMutex<()>>> = LazyLock::new(Arc::default);
/// What the documents of the rows of the moment depend on, by group and version.
static HASHES: LazyLock<Mutex<Hashes>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Hashes {
    of: Weak<Table>,
    all: Option<String>,
    known: HashMap<(String, String), Option<String>>,
}

impl Hashes {
    /// Those of these rows: they are made anew when there are others.
    fn of(&mut self, table: &Arc<Table>) -> &mut Self {
        if !std::ptr::eq(self.of.as_ptr(), Arc::as_ptr(table)) {
            *self = Self {
                of: Arc::downgrade(table),
                ..Self::default()
            };
        }
        self
    }
}

fn hash(table: &Arc<Table>, group: &str, version: &str) -> Option<String> {
    let key = (group.to_owned(), version.to_owned());
    if let Some(known) = HASHES.lock().of(table).known.get(&key) {
        return known.clone();
    }
    let hash = document::hash(table, group, version);
    let mut hashes = HASHES.lock();
    hashes.of(table).known.insert(key, hash.clone());
    hash
}

fn hash_of_all(table: &Arc<Table>) -> String {
    if let Some(known) = &HASHES.lock().of(table).all {
        return known.clone();
    }
    let hash = document::hash_of_all(table);
    HASHES.lock().of(table).all = Some(hash.clone());
    hash
}

/// Answers a GET under `/openapi`; none: no such document.
pub(crate) async fn handle(
    api: &Arc<Api>,
    request: &PathRequest,
    headers: &HeaderMap,
) -> Option<Response> {
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
            let others = api.aggregation.all(&table).into_iter();
            let others: Vec<Arc<Swagger>> = others.filter_map(|other| other.swagger()).collect();
            let mut hash = hash_of_all(&table);
            for other in &others {
                hash = document::joined(&hash, &other.hash);
            }
            // clients' caches must not take one encoding for the other
            let served = if accepts_proto(headers) {
                let hash = format!("{hash}-proto");
                let make = move || document::swagger_proto(&table, &others);
                serve(
                    request,
                    headers,
                    "v2 in protobuf",
                    proto::MEDIA_TYPE,
                    hash,
                    make,
                )
                .await
            } else {
                let make = move || document::swagger(&table, &others);
                serve(request, headers, "v2", JSON, hash, make).await
            };
            Some(served)
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
                let make = move || document::zipped(&found.bytes);
                return Some(serve(request, headers, path, JSON, hash, make).await);
            }
            let hash = hash(&table, &group, &version)?;
            let make = move || document::openapi(&table, &group, &version);
            Some(serve(request, headers, path, JSON, hash, make).await)
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

fn index(table: &Arc<Table>) -> Map<String, Value> {
    let mut paths = Map::new();
    for (group, versions) in table.groups() {
        for version in versions {
            let Some(hash) = hash(table, &group, &version) else {
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

async fn serve(
    request: &PathRequest,
    asked: &HeaderMap,
    name: &str,
    content_type: &'static str,
    hash: String,
    make: impl FnOnce() -> Vec<u8> + Send + 'static,
) -> Response {
    let etag = format!("\"{hash}\"");
    let known = asked
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .any(|v| v.as_bytes() == etag.as_bytes());
    let mut response = if known {
        http_types::respond(StatusCode::NOT_MODIFIED, content_type, "")
    } else {
        let Some(zipped) = cached(name, &hash, make).await else {
            let error = ApiError::Internal("the server is shutting down".to_owned());
            return http_types::error(&error);
        };
        if accepts_gzip(asked) {
            let mut response = http_types::respond(StatusCode::OK, content_type, zipped);
            response
                .headers_mut()
                .insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            response
        } else {
            let plain = tokio::task::spawn_blocking(move || {
                let mut plain = Vec::new();
                let read = GzDecoder::new(zipped.as_ref()).read_to_end(&mut plain);
                read.map(|_| plain)
            });
            match plain.await {
                Ok(Ok(plain)) => http_types::respond(StatusCode::OK, content_type, plain),
                Ok(Err(_)) | Err(_) => http_types::text(
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

/// A document, made when it is not there yet, away from the threads that serve everybody.
async fn cached(
    name: &str,
    hash: &str,
    make: impl FnOnce() -> Vec<u8> + Send + 'static,
) -> Option<Bytes> {
    if let Some(document) = known(name, hash) {
        return Some(document);
    }
    let turn = Arc::clone(&MAKING).lock_owned().await;
    // Whoever had the turn before may have made it.
    if let Some(document) = known(name, hash) {
        return Some(document);
    }
    let (name, hash) = (name.to_owned(), hash.to_owned());
    let making = tokio::task::spawn_blocking(move || {
        // Kept though whoever has asked may have gone.
        let _turn = turn;
        let document = Bytes::from(make());
        DOCUMENTS.lock().insert(name, (hash, document.clone()));
        document
    });
    match making.await {
        Ok(document) => Some(document),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => None,
    }
}

fn known(name: &str, hash: &str) -> Option<Bytes> {
    let documents = DOCUMENTS.lock();
    let (_, document) = documents.get(name).filter(|(known, _)| known == hash)?;
    Some(document.clone())
}

#[cfg(test)]
mod tests;
