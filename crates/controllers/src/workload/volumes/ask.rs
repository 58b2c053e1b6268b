//! What is asked of a node about its directories, and how its answers are read.

use http::{Method, StatusCode};
use kube::Client;
use serde::Deserialize;

use crate::node_page::{self, PageError};

const MAX_BYTES: usize = 16 << 10;
/// A node's words are passed on to events; no more of them than this.
const MAX_WORDS: usize = 500;

/// A directory that is there.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Made {
    /// Where, on the node.
    pub(super) path: String,
    /// What is left on its disk.
    pub(super) free_bytes: u64,
}

/// Why a node does not do it.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// It has no such server.
    #[error("node {0:?} keeps no local-path volumes: it is no node of berth's")]
    NotServed(String),
    /// Its disk is full.
    #[error("{0}")]
    Full(String),
    /// Anything else: it may do it the next time.
    #[error("{0}")]
    Failed(String),
}

/// How far a removal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Removal {
    /// Nothing of it is there.
    Done,
    /// It takes longer.
    UnderWay,
}

/// Has the directory of a volume made; `volume` is a name of [`berth_core::local_path`], which a path can have as it is.
pub(super) async fn make(client: &Client, node: &str, volume: &str) -> Result<Made, AskError> {
    let path = format!("/volumes/local-path/{volume}");
    let (status, body) = send(client, Method::POST, node, &path).await?;
    match status {
        StatusCode::OK => serde_json::from_slice(&body).map_err(|error| {
            AskError::Failed(format!(
                "node {node:?} gave no answer that can be read: {error}"
            ))
        }),
        _ => Err(refusal(node, status, &body)),
    }
}

/// Has the directory of a volume removed, which the node allows only when the volume says so.
pub(super) async fn remove(client: &Client, node: &str, volume: &str) -> Result<Removal, AskError> {
    let path = format!("/volumes/local-path/{volume}");
    let (status, body) = send(client, Method::DELETE, node, &path).await?;
    match status {
        StatusCode::OK => Ok(Removal::Done),
        StatusCode::ACCEPTED => Ok(Removal::UnderWay),
        _ => Err(refusal(node, status, &body)),
    }
}

/// Has a directory removed that no volume was made for; the node removes none that has something in it.
pub(super) async fn discard(client: &Client, node: &str, volume: &str) -> Result<(), AskError> {
    let path = format!("/volumes/local-path/{volume}?empty=true");
    let (status, body) = send(client, Method::DELETE, node, &path).await?;
    match status {
        StatusCode::OK => Ok(()),
        _ => Err(refusal(node, status, &body)),
    }
}

async fn send(
    client: &Client,
    method: Method,
    node: &str,
    path: &str,
) -> Result<(StatusCode, Vec<u8>), AskError> {
    let answer = node_page::send(client, method, node, path, MAX_BYTES).await;
    answer.map_err(|error: PageError| {
        AskError::Failed(format!("node {node:?} could not be asked: {error}"))
    })
}

fn refusal(node: &str, status: StatusCode, body: &[u8]) -> AskError {
    let words: String = String::from_utf8_lossy(body)
        .chars()
        .take(MAX_WORDS)
        .collect();
    let words = words.trim();
    match status {
        StatusCode::NOT_FOUND => AskError::NotServed(node.to_owned()),
        StatusCode::INSUFFICIENT_STORAGE => AskError::Full(format!("node {node:?}: {words}")),
        _ => AskError::Failed(format!("node {node:?}: {words}")),
    }
}
