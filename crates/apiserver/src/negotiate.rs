//! What a client wants to see (`Accept`) and what it sends (`Content-Type`).

mod lines;

use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE};
use serde::Deserialize;
use serde_json::Value;

use berth_api::decode::{Document, MAX_DEPTH, check_depth};
use berth_api::status::ApiError;

use crate::protobuf;

/// The form of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The objects themselves.
    #[default]
    Object,
    /// `meta.k8s.io` Table.
    Table,
    /// `meta.k8s.io` PartialObjectMetadata.
    Metadata,
}

/// How an answer is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Encoding {
    #[default]
    Json,
    Yaml,
    /// For kinds that have a message, and not for Tables.
    Protobuf,
}

/// What a client accepts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) shape: Shape,
    pub(crate) encoding: Encoding,
    /// Version of `meta.k8s.io` for Table and PartialObjectMetadata.
    pub(crate) meta_version: MetaVersion,
}

/// Versions of `meta.k8s.io`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum MetaVersion {
    #[default]
    V1,
    V1beta1,
}

impl MetaVersion {
    pub(crate) fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "meta.k8s.io/v1",
            Self::V1beta1 => "meta.k8s.io/v1beta1",
        }
    }
}

const OFFERED: &str = "application/json, application/yaml";
const OFFERED_OF_BUILT_IN: &str =
    "application/json, application/yaml, application/vnd.kubernetes.protobuf";
const TAKEN: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

struct Range<'a> {
    media: &'a str,
    quality: f32,
    params: Vec<(&'a str, &'a str)>,
}

fn ranges(header: &str) -> Vec<Range<'_>> {
    let mut ranges: Vec<Range<'_>> = header
        .split(',')
        .map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or("");
            let params: Vec<_> = parts.filter_map(|p| p.split_once('=')).collect();
            let quality = params
                .iter()
                .find(|(k, _)| *k == "q")
                .and_then(|(_, v)| v.parse().ok())
                .unwrap_or(1.0);
            Range {
                media,
                quality,
                params,
            }
        })
        .filter(|r| !r.media.is_empty())
        .collect();
    // Stable: among equals the first wins.
    ranges.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    ranges
}

/// Chooses the answer's form. `has_table` says whether the kind has a table (reviews have none), `has_message` whether it
/// has a protobuf form.
///
/// # Errors
/// `NotAcceptable` when nothing that the client accepts is offered (protobuf alone for custom resources, say).
pub(crate) fn accept(
    headers: &HeaderMap,
    has_table: bool,
    has_message: impl Fn() -> bool,
) -> Result<Accepted, ApiError> {
    let header = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .collect::<Vec<_>>()
        .join(",");
    if header.trim().is_empty() {
        return Ok(Accepted::default());
    }
    for range in ranges(&header) {
        let encoding = match range.media {
            "application/json" | "application/*" | "*/*" => Encoding::Json,
            "application/yaml" => Encoding::Yaml,
            protobuf::MEDIA_TYPE if has_message() => Encoding::Protobuf,
            _ => continue,
        };
        let param = |key: &str| {
            range
                .params
                .iter()
                .find(|(k, _)| *k == key)
                .map_or("", |(_, v)| *v)
        };
        let shape = match (param("as"), param("g")) {
            ("", _) => Shape::Object,
            ("Table", "meta.k8s.io") if has_table && encoding != Encoding::Protobuf => Shape::Table,
            ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io") => {
                Shape::Metadata
            }
            _ => continue,
        };
        let meta_version = match param("v") {
            "v1beta1" => MetaVersion::V1beta1,
            "" | "v1" => MetaVersion::V1,
            _ if shape == Shape::Object => MetaVersion::V1,
            _ => continue,
        };
        return Ok(Accepted {
            shape,
            encoding,
            meta_version,
        });
    }
    let offered = if has_message() {
        OFFERED_OF_BUILT_IN
    } else {
        OFFERED
    };
    Err(ApiError::NotAcceptable(offered.to_owned()))
}

fn content_type(headers: &HeaderMap) -> &str {
    let full = headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    full.split(';').next().unwrap_or("").trim()
}

/// Reads a request body as JSON or YAML.
///
/// # Errors
/// `UnsupportedMediaType` for other encodings, `BadRequest` for what cannot be read.
pub(crate) fn body(headers: &HeaderMap, bytes: &[u8]) -> Result<Value, ApiError> {
    document(headers, bytes).map(|document| document.value)
}

/// [`body`] with the keys that were in it twice.
///
/// # Errors
/// As [`body`].
pub(crate) fn document(headers: &HeaderMap, bytes: &[u8]) -> Result<Document, ApiError> {
    let document = match content_type(headers) {
        "" | "application/json" | "*/*" => Document::from_json(bytes)
            .map_err(|e| ApiError::BadRequest(format!("the body is not valid JSON: {e}")))?,
        "application/yaml" | "text/yaml" | "application/x-yaml" => yaml(bytes)?,
        protobuf::MEDIA_TYPE => {
            let value = protobuf::decode(bytes).map_err(|e| ApiError::BadRequest(e.to_string()))?;
            check_depth(&value).map_err(|e| ApiError::BadRequest(e.to_string()))?;
            Document {
                value,
                ..Document::default()
            }
        }
        other => {
            tracing::debug!(content_type = other, "unsupported request body");
            return Err(ApiError::UnsupportedMediaType(TAKEN.to_owned()));
        }
    };
    if document.value.is_object() {
        Ok(document)
    } else {
        Err(ApiError::BadRequest(
            "couldn't get version/kind; json parse error: the body is not an object".to_owned(),
        ))
    }
}

/// Reads YAML.
///
/// # Errors
/// `BadRequest` for what cannot be read.
pub(crate) fn yaml(bytes: &[u8]) -> Result<Document, ApiError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| ApiError::BadRequest("the body is not UTF-8".to_owned()))?;
    // No text without aliases counts as much as twenty for each of its bytes.
    let expanded = text.len().saturating_mul(20).saturating_add(1 << 16);
    let mut document: Document = on_a_large_stack(|| {
        serde_saphyr::with_deserializer_from_str_with_options(text, options(), |deserializer| {
            Document::read(deserializer, expanded)
        })
        .map_err(|e| ApiError::BadRequest(format!("the body is not valid YAML: {e}")))
    })??;
    if !document.repeated.is_empty() {
        document.lines = repeated_lines(bytes);
    }
    Ok(document)
}

/// How YAML is read: keys that are there twice are passed on.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::PassThrough,
        with_snippet: false,
        // `Document` has the bound on depth for all formats; this one only has to be no lower.
        budget: serde_saphyr::budget! { max_depth: MAX_DEPTH + 10 },
    }
}

/// The lines of YAML with a key that its map has already, as the stock decoder says it; of what was read before, so that
/// it is known to be small enough. Empty for what can't be read.
pub(crate) fn repeated_lines(bytes: &[u8]) -> Vec<String> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Vec::new();
    };
    let read = on_a_large_stack(|| {
        serde_saphyr::with_deserializer_from_str_with_options(text, options(), |deserializer| {
            lines::RepeatedLines::deserialize(deserializer)
        })
    });
    match read {
        Ok(Ok(repeated)) => repeated.0,
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}

/// Runs work that calls itself for each level of a document, with more for each than a worker's stack has.
fn on_a_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, ApiError> {
    const STACK_BYTES: usize = 16 << 20;
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("yaml".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, work)
            .map_err(|e| ApiError::Internal(format!("cannot start a thread: {e}")))?;
        match thread.join() {
            Ok(done) => Ok(done),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(header: &str) -> Result<Accepted, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, header.parse().unwrap());
        accept(&headers, true, || false)
    }

    #[test]
    fn protobuf_is_for_kinds_that_have_a_message() {
        let accepted = |header: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, header.parse().unwrap());
            accept(&headers, true, || true).map(|accepted| (accepted.encoding, accepted.shape))
        };
        let binary = "application/vnd.kubernetes.protobuf";
        for (header, encoding, shape) in [
            (binary.to_owned(), Encoding::Protobuf, Shape::Object),
            (
                format!("{binary},application/json"),
                Encoding::Protobuf,
                Shape::Object,
            ),
            (
                format!("{binary};as=PartialObjectMetadata;g=meta.k8s.io;v=v1"),
                Encoding::Protobuf,
                Shape::Metadata,
            ),
            (
                format!(
                    "{binary};as=Table;g=meta.k8s.io;v=v1,application/json;as=Table;g=meta.k8s.io;v=v1"
                ),
                Encoding::Json,
                Shape::Table,
            ),
        ] {
            assert_eq!(accepted(&header).unwrap(), (encoding, shape), "{header}");
        }
    }

    #[test]
    fn what_has_no_table_is_not_acceptable_as_one() {
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
        let ask = |header: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, header.parse().unwrap());
            accept(&headers, false, || true).map(|accepted| accepted.shape)
        };
        assert!(matches!(ask(table), Err(ApiError::NotAcceptable(_))));
        assert_eq!(ask(&format!("{table},application/json")), Ok(Shape::Object));
    }

    #[test]
    fn the_first_form_that_is_offered_wins() {
        for (header, shape) in [
            ("application/json", Shape::Object),
            ("*/*", Shape::Object),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
                Shape::Table,
            ),
            (
                "application/json;as=Table;g=meta.k8s.io;v=v1, application/json",
                Shape::Table,
            ),
            (
                "application/vnd.kubernetes.protobuf, application/json",
                Shape::Object,
            ),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json",
                Shape::Metadata,
            ),
            (
                "application/json;as=Frob;v=v1;g=meta.k8s.io,application/json",
                Shape::Object,
            ),
            (
                "application/json;q=0.1,application/json;as=Table;v=v1;g=meta.k8s.io;q=0.9",
                Shape::Table,
            ),
        ] {
            assert_eq!(accepted(header).unwrap().shape, shape, "{header}");
        }
        assert_eq!(
            accepted("application/vnd.kubernetes.protobuf")
                .unwrap_err()
                .code(),
            406
        );
        assert_eq!(
            accepted("application/yaml").unwrap().encoding,
            Encoding::Yaml
        );
    }
}
