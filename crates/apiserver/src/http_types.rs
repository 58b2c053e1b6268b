//! The request, response and body types of every handler.

use bytes::Bytes;
use http::{StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use serde_json::Value;

use berth_api::status::ApiError;
use berth_api::status_json::status_json;

/// Errors of streamed bodies.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A response body: one buffer or a stream.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;
/// A response.
pub type Response = http::Response<Body>;
/// A request whose body has not been read.
pub type Request = http::Request<hyper::body::Incoming>;

/// Marks, in the extensions of an answer, a list that is written while it is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LongList;

/// A body of one buffer.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A response of one buffer.
pub fn respond(code: StatusCode, content_type: &'static str, bytes: impl Into<Bytes>) -> Response {
    let mut response = http::Response::new(full(bytes));
    *response.status_mut() = code;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(content_type),
    );
    response
}

/// A JSON response.
#[must_use]
pub fn json(code: StatusCode, value: &Value) -> Response {
    respond(code, "application/json", value.to_string())
}

/// A plain text response.
pub fn text(code: StatusCode, text: impl Into<Bytes>) -> Response {
    respond(code, "text/plain; charset=utf-8", text)
}

/// The `Status` answer of an error.
#[must_use]
pub fn error(err: &ApiError) -> Response {
    let code = StatusCode::from_u16(err.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = status_json(&err.status());
    let mut response = respond(code, "application/json", body);
    if let Some(seconds) = err.retry_after_seconds() {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, header::HeaderValue::from(seconds));
    }
    response
}
