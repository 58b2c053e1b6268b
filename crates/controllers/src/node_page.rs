//! A page of a node's own server, asked for through the API server (`nodes/NAME/proxy`).

use std::time::Duration;

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use kube::Client;
use kube::client::Body;

use crate::server::path_segment;

/// A node has so long.
pub const LIMIT: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// No node can have this name.
    #[error("no such name")]
    Name,
    /// The API server could not be asked.
    #[error(transparent)]
    Request(#[from] kube::Error),
    /// It took longer.
    #[error("it did not answer within {} s", LIMIT.as_secs())]
    Timeout,
    /// The answer is longer than it may be, or breaks off.
    #[error("its answer can't be read: {0}")]
    Broken(String),
}

/// What a node answers to GET at `path`, which begins with a slash and is escaped already; at most `max_bytes` of it.
///
/// # Errors
/// When there is no whole answer. One with another code than 200 is an answer.
pub async fn get(
    client: &Client,
    node: &str,
    path: &str,
    max_bytes: usize,
) -> Result<(StatusCode, Vec<u8>), PageError> {
    send(client, Method::GET, node, path, max_bytes).await
}

/// [`get`] by another method, without a body.
///
/// # Errors
/// As of [`get`].
pub(crate) async fn send(
    client: &Client,
    method: Method,
    node: &str,
    path: &str,
    max_bytes: usize,
) -> Result<(StatusCode, Vec<u8>), PageError> {
    let segment = path_segment(node).ok_or(PageError::Name)?;
    let uri = format!("/api/v1/nodes/{segment}/proxy{path}");
    let request = Request::builder().method(method).uri(uri);
    let request = request.body(Body::empty());
    let request = request.map_err(kube::Error::HttpError)?;
    let asked = async {
        let answer = client.send(request).await?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), max_bytes).collect().await;
        let body = body.map_err(|error| PageError::Broken(error.to_string()))?;
        Ok((status, body.to_bytes().to_vec()))
    };
    let answered = tokio::time::timeout(LIMIT, asked).await;
    answered.unwrap_or(Err(PageError::Timeout))
}
