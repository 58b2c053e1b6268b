//! The last step of an answer: indentation for people, compression for what is long.
//!
//! As on the stock server: JSON is indented when `pretty` asks for it, or for curl, wget and browsers; what is longer
//! than 128 KiB is compressed with gzip for whoever takes it. Of streams only long lists are compressed, as they go.

use std::io::Write as _;

use berth_api::status::ApiError;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, header};
use http_body::Body as _;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use crate::http_types::{self, Body, BoxError, LongList, Response};
use crate::query::Parameters;

/// What is not longer than this is sent as it is.
const PLAIN_MAX: u64 = 128 << 10;
/// What would be longer than this with indentation is sent without: at each of a hundred levels of nesting a line of two
/// characters has two hundred more.
const INDENTED_MAX: usize = 2 << 20;
/// What is longer than this is indented away from the threads that serve everybody.
const LONG: usize = 64 << 10;

/// What a request wants done to its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Finish {
    pretty: bool,
    gzip: bool,
}

impl Finish {
    /// Reads it from a request.
    pub(crate) fn of(headers: &HeaderMap, parameters: &Parameters) -> Self {
        let text = |name: header::HeaderName| {
            headers
                .get(name)
                .and_then(|v| v.to_str().ok())
                .unwrap_or_default()
        };
        let asked = parameters
            .first("pretty")
            .filter(|value| !value.is_empty())
            .map(|value| matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True"));
        let agent = text(header::USER_AGENT);
        let person = ["curl", "Wget", "Mozilla/5.0"]
            .iter()
            .any(|tool| agent.starts_with(tool));
        let mut encodings = text(header::ACCEPT_ENCODING).split(',').map(str::trim);
        Self {
            pretty: asked.unwrap_or(person),
            gzip: encodings.any(|e| e == "gzip" || e.starts_with("gzip;")),
        }
    }

    /// Does it.
    pub(crate) async fn apply(self, response: Response) -> Response {
        let Some(length) = response.body().size_hint().exact() else {
            let list = response.extensions().get::<LongList>().is_some();
            return if self.gzip && list {
                pack_stream(response)
            } else {
                response
            };
        };
        let pretty = self.pretty && is_json(response.headers());
        let gzip = self.gzip
            && length > PLAIN_MAX
            && !response.headers().contains_key(header::CONTENT_ENCODING);
        if !pretty && !gzip {
            return response;
        }
        let (mut parts, body) = response.into_parts();
        // A body whose length is known is there as a whole: those of others are passed on and don't come here.
        let mut bytes = match body.collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(error) => {
                return http_types::error(&ApiError::Internal(format!(
                    "the answer could not be read: {error}"
                )));
            }
        };
        if pretty && let Some(indented) = indented(bytes.clone()).await {
            bytes = indented;
        }
        if gzip {
            let plain = bytes.clone();
            let packed = tokio::task::spawn_blocking(move || pack(&plain)).await;
            if let Ok(Ok(packed)) = packed {
                bytes = packed;
                let encoding = HeaderValue::from_static("gzip");
                parts.headers.insert(header::CONTENT_ENCODING, encoding);
                let vary = HeaderValue::from_static("Accept-Encoding");
                parts.headers.append(header::VARY, vary);
            }
        }
        parts.headers.remove(header::CONTENT_LENGTH);
        http::Response::from_parts(parts, http_types::full(bytes))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|v| v.as_bytes().starts_with(b"application/json"))
}

async fn indented(bytes: Bytes) -> Option<Bytes> {
    if bytes.len() <= LONG {
        return indent(&bytes);
    }
    tokio::task::spawn_blocking(move || indent(&bytes))
        .await
        .ok()
        .flatten()
}

/// JSON with line breaks and indentation, made character by character and not from a tree, which would take many times
/// its size; none when it would be too long.
fn indent(bytes: &[u8]) -> Option<Bytes> {
    let mut out = Vec::with_capacity(bytes.len().saturating_mul(2).min(INDENTED_MAX));
    let (mut level, mut string, mut escaped) = (0_usize, false, false);
    let line = |out: &mut Vec<u8>, level: usize| {
        out.push(b'\n');
        out.resize(out.len().saturating_add(level.saturating_mul(2)), b' ');
    };
    let mut rest = bytes.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        if out.len() > INDENTED_MAX {
            return None;
        }
        if string {
            out.push(byte);
            string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
            continue;
        }
        match byte {
            b'{' | b'[' => {
                out.push(byte);
                while rest.next_if(u8::is_ascii_whitespace).is_some() {}
                match rest.next_if(|next| matches!(next, b'}' | b']')) {
                    Some(end) => out.push(end),
                    None => {
                        level += 1;
                        line(&mut out, level);
                    }
                }
            }
            b'}' | b']' => {
                level = level.saturating_sub(1);
                line(&mut out, level);
                out.push(byte);
            }
            b',' => {
                out.push(byte);
                line(&mut out, level);
            }
            b':' => out.extend_from_slice(b": "),
            b'"' => {
                out.push(byte);
                string = true;
            }
            // Of what was indented by somebody else.
            _ if byte.is_ascii_whitespace() => {}
            _ => out.push(byte),
        }
    }
    (out.len() <= INDENTED_MAX).then(|| Bytes::from(out))
}

/// Compresses an answer while it is sent.
fn pack_stream(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    parts
        .headers
        .insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts
        .headers
        .append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    let encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let packed = futures::stream::unfold(Some((body, encoder)), |state| async move {
        let (body, encoder) = state?;
        match pack_next(body, encoder).await {
            Ok((packed, rest)) => Some((Ok(Frame::data(packed)), rest)),
            Err(error) => Some((Err(error), None)),
        }
    });
    http::Response::from_parts(parts, StreamBody::new(packed).boxed_unsync())
}

type Packing = (Body, GzEncoder<Vec<u8>>);

/// The next compressed bytes, and what goes on from there.
async fn pack_next(
    mut body: Body,
    mut encoder: GzEncoder<Vec<u8>>,
) -> Result<(Bytes, Option<Packing>), BoxError> {
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        encoder.write_all(&data)?;
        if !encoder.get_ref().is_empty() {
            let packed = std::mem::take(encoder.get_mut());
            return Ok((packed.into(), Some((body, encoder))));
        }
    }
    Ok((encoder.finish()?.into(), None))
}

fn pack(bytes: &[u8]) -> std::io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use http::StatusCode;

    fn wish(agent: &'static str, encoding: &'static str, query: &str) -> Finish {
        let mut headers = HeaderMap::new();
        headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(encoding));
        Finish::of(&headers, &Parameters::decode(query))
    }

    #[test]
    fn who_gets_what() {
        for (agent, encoding, query, pretty, gzip) in [
            ("kubectl/v1.36", "gzip", "limit=500", false, true),
            ("curl/7.88.1", "", "", true, false),
            (
                "curl/7.88.1",
                "deflate, gzip;q=0.5",
                "pretty=false",
                false,
                true,
            ),
            ("x", "gzipped", "pretty=true", true, false),
        ] {
            assert_eq!(
                wish(agent, encoding, query),
                Finish { pretty, gzip },
                "{agent}"
            );
        }
    }

    #[tokio::test]
    async fn long_answers_are_packed() {
        let finish = wish("kubectl", "gzip", "");
        let long = format!("[{}0]", "0,".repeat(100_000));
        for (text, packed) in [(long.as_str(), true), ("[0]", false)] {
            let response = http_types::respond(StatusCode::OK, "application/json", text.to_owned());
            let response = finish.apply(response).await;
            let encoded = response.headers().contains_key(header::CONTENT_ENCODING);
            assert_eq!(encoded, packed);
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            if packed {
                assert!(bytes.len() < text.len() / 10);
                let mut back = String::new();
                flate2::read::GzDecoder::new(bytes.as_ref())
                    .read_to_string(&mut back)
                    .unwrap();
                assert_eq!(back, text);
            } else {
                assert_eq!(bytes, text);
            }
        }
    }

    #[test]
    fn indentation_is_that_of_the_library() {
        for text in [
            r#"{"a":[1,{"b":"x,y:{\\\"z]"},[],{}],"c":null,"d":{"e":-1.5,"f":"ä\\\\"}}"#,
            "[]",
            "[[[]]]",
            r#""a:b""#,
            "[ 1 , { } ]",
            r#"{ "a" : [ ] }"#,
        ] {
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            let ours = indent(text.as_bytes()).unwrap();
            let ours = String::from_utf8(ours.to_vec()).unwrap();
            assert_eq!(ours, serde_json::to_string_pretty(&value).unwrap());
        }
    }

    #[test]
    fn what_would_grow_too_much_stays_as_it_is() {
        let deep = |levels: usize, inner: String| {
            format!("{}{inner}{}", "[".repeat(levels), "]".repeat(levels))
        };
        let items = vec!["1"; 100_000].join(",");
        assert!(indent(deep(1, items.clone()).as_bytes()).is_some());
        assert_eq!(indent(deep(100, items).as_bytes()), None);
    }

    #[tokio::test]
    async fn people_get_indented_json() {
        let finish = wish("curl/8", "", "");
        let response = http_types::respond(StatusCode::OK, "application/json", r#"{"a":[1]}"#);
        let bytes = finish
            .apply(response)
            .await
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes();
        assert_eq!(bytes, "{\n  \"a\": [\n    1\n  ]\n}");
    }
}
