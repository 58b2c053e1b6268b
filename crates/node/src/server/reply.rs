//! Answers: text, JSON, streams, and refusals.

use std::convert::Infallible;

use bytes::Bytes;
use futures::StreamExt;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Any body; errors cannot happen in ours, and those of proxied ones end the stream.
pub(crate) type Body = UnsyncBoxBody<Bytes, AnyError>;
pub(super) type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// Why a request cannot be served, as plain text (the API server wraps it in a Status).
#[derive(Debug)]
pub(super) struct NotServed {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

impl NotServed {
    pub(super) fn new(status: StatusCode, message: String) -> Self {
        Self { status, message }
    }

    pub(super) fn not_found(message: String) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(super) fn bad(message: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// A failed CRI call.
    pub(super) fn cri(status: &tonic::Status) -> Self {
        let code = match status.code() {
            tonic::Code::NotFound => StatusCode::NOT_FOUND,
            tonic::Code::InvalidArgument => StatusCode::BAD_REQUEST,
            tonic::Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(code, status.message().to_owned())
    }
}

fn full(data: impl Into<Bytes>) -> Body {
    Full::new(data.into())
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

fn with(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

pub(super) fn text(status: StatusCode, message: impl Into<Bytes>) -> Response<Body> {
    with(status, "text/plain; charset=utf-8", full(message))
}

pub(super) fn json(value: &impl Serialize) -> Response<Body> {
    let data = serde_json::to_vec(value).unwrap_or_default();
    with(StatusCode::OK, "application/json", full(data))
}

/// A body that is written while it is sent.
pub(super) fn streamed(chunks: mpsc::Receiver<Bytes>) -> Response<Body> {
    let frames = ReceiverStream::new(chunks).map(|b| Ok::<_, AnyError>(Frame::data(b)));
    with(
        StatusCode::OK,
        "text/plain",
        StreamBody::new(frames).boxed_unsync(),
    )
}

/// The body of an answer that is passed on.
pub(super) fn passed(body: hyper::body::Incoming) -> Body {
    body.map_err(|e| Box::new(e) as AnyError).boxed_unsync()
}

pub(super) fn empty() -> Body {
    full(Bytes::new())
}
