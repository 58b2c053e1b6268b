//! Watches: what changes, as a stream of JSON lines.
//!
//! A watch pulls from the cache's history when its client reads; it holds no queue of its own. One
//! that falls behind the history is ended with 410, and its client lists again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use berth_api::status::ApiError;
use berth_store::Revision;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;
use tokio::time::Instant;

use super::Call;
use crate::http_types::{BoxError, Response};
use crate::negotiate::Shape;
use crate::query::Options;
use crate::selector::Selector;
use crate::storage::cache::Change;
use crate::storage::{ResourceCache, Stored};

/// How often a quiet watch is told how far it is.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Longest life of a watch that names none; the stock server takes 30 to 60 minutes.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1800);
/// Marks the bookmark after the initial events.
const INITIAL_END: &str = "k8s.io/initial-events-end";

struct Watching {
    call: Call,
    cache: Arc<ResourceCache>,
    changes: Receiver<Revision>,
    selector: Selector,
    /// Everything up to here has been sent.
    cursor: Revision,
    ready: VecDeque<Bytes>,
    deadline: Instant,
    bookmark_at: Instant,
    told_columns: bool,
    ended: bool,
}

impl Call {
    /// Answers a watch.
    pub(crate) async fn watch(self) -> Result<Response, ApiError> {
        self.query.check(Options::Watch)?;
        let selector = self.selector()?;
        let revision = self.query.revision()?;
        let initial = self.initial_events(revision)?;
        if self.query.send_initial_events == Some(true) || revision.is_none() {
            // Streamed lists and unset versions show everything that was written before.
            let current = self.api.storage.current_revision().await?;
            self.api.storage.wait_for(current).await?;
        }
        if let Some(revision) = revision.filter(|r| *r > 0) {
            self.api.storage.wait_for(revision).await?;
        }
        let cache = self.cache();
        let changes = cache.subscribe();
        let timeout = self
            .query
            .timeout_seconds
            .map_or(DEFAULT_TIMEOUT, Duration::from_secs);
        let now = Instant::now();
        let mut watching = Watching {
            changes,
            selector,
            cursor: revision.unwrap_or(0),
            ready: VecDeque::new(),
            deadline: now + timeout,
            bookmark_at: now + BOOKMARK_EVERY,
            told_columns: false,
            ended: false,
            cache,
            call: self,
        };
        if initial {
            watching.start_with_state()?;
        } else if watching.cursor == 0 {
            watching.cursor = watching.call.api.storage.applied();
        }
        let content_type = if watching.call.accepted.shape == Shape::Object {
            "application/json"
        } else {
            "application/json;stream=watch"
        };
        let stream = futures::stream::unfold(watching, |mut w| async move {
            let bytes = w.next().await?;
            Some((Ok::<_, BoxError>(Frame::data(bytes)), w))
        });
        let mut response = http::Response::new(StreamBody::new(stream).boxed_unsync());
        *response.status_mut() = StatusCode::OK;
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Ok(response)
    }

    /// Whether the watch begins with the present objects as ADDED.
    fn initial_events(&self, revision: Option<Revision>) -> Result<bool, ApiError> {
        match self.query.send_initial_events {
            None => Ok(revision.unwrap_or(0) == 0),
            Some(wanted) => {
                if wanted && !self.query.bookmarks {
                    return Err(ApiError::BadRequest(
                        "sendInitialEvents: Forbidden: sendInitialEvents requires allowWatchBookmarks"
                            .to_owned(),
                    ));
                }
                Ok(wanted)
            }
        }
    }
}

impl Watching {
    fn start_with_state(&mut self) -> Result<(), ApiError> {
        let applied = self.call.api.storage.applied();
        let (items, revision) = self.cache.snapshot(Some(self.call.namespace()), applied);
        for item in &items {
            if !self.selector.matches(item.as_ref()) {
                continue;
            }
            let bytes = self.frame("ADDED", item)?;
            self.ready.push_back(bytes);
        }
        self.cursor = revision;
        if self.call.query.send_initial_events == Some(true) {
            let bytes = self.bookmark(true);
            self.ready.push_back(bytes);
        }
        Ok(())
    }

    /// The next bytes for the client; none at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(bytes) = self.join_ready() {
                return Some(bytes);
            }
            if self.ended {
                return None;
            }
            // Mark what is there as seen before looking, so that nothing slips between.
            self.changes.borrow_and_update();
            match self.cache.since(self.cursor) {
                Ok(changes) if !changes.is_empty() => {
                    if let Err(error) = self.take(&changes) {
                        self.fail(&error);
                    }
                    continue;
                }
                Ok(_) => {}
                Err(oldest) => {
                    self.fail(&ApiError::Expired(format!(
                        "too old resource version: {} ({oldest})",
                        self.cursor
                    )));
                    continue;
                }
            }
            let wake = self.deadline.min(self.bookmark_at);
            tokio::select! {
                changed = self.changes.changed() => self.ended |= changed.is_err(),
                () = self.call.shutdown.cancelled() => self.ended = true,
                () = tokio::time::sleep_until(wake) => self.tick(),
            }
        }
    }

    fn join_ready(&mut self) -> Option<Bytes> {
        if self.ready.len() <= 1 {
            return self.ready.pop_front();
        }
        let mut joined = BytesMut::with_capacity(self.ready.iter().map(Bytes::len).sum());
        for bytes in self.ready.drain(..) {
            joined.put_slice(&bytes);
        }
        Some(joined.freeze())
    }

    fn tick(&mut self) {
        let now = Instant::now();
        if now >= self.deadline {
            self.ended = true;
        }
        if self.call.query.bookmarks && (self.ended || now >= self.bookmark_at) {
            // Every change of this kind up to here has been sent: `since` was empty, and the
            // caches are filled before `applied` moves.
            let applied = self.call.api.storage.applied();
            if self.cache.changed_at() <= self.cursor.max(applied) {
                match self.cache.since(self.cursor) {
                    Ok(changes) if changes.is_empty() => self.cursor = self.cursor.max(applied),
                    Ok(_) | Err(_) => {}
                }
            }
            let bytes = self.bookmark(false);
            self.ready.push_back(bytes);
        }
        self.bookmark_at = now + BOOKMARK_EVERY;
    }

    fn take(&mut self, changes: &[Change]) -> Result<(), ApiError> {
        for change in changes {
            self.cursor = change.revision;
            let before = change
                .previous
                .as_ref()
                .filter(|p| self.selector.matches(p.as_ref()));
            let after = (!change.deleted && self.selector.matches(change.object.as_ref()))
                .then_some(&change.object);
            let bytes = match (before, after) {
                (None, None) => continue,
                (None, Some(object)) => self.frame("ADDED", object)?,
                (Some(_), Some(object)) => self.frame("MODIFIED", object)?,
                // It left the selection: its last selected state, at the revision of the change.
                (Some(_), None) if change.deleted => self.frame("DELETED", &change.object)?,
                (Some(before), None) => self.frame("DELETED", &before.at(change.revision))?,
            };
            self.ready.push_back(bytes);
        }
        Ok(())
    }

    fn frame(&mut self, kind: &str, object: &Stored) -> Result<Bytes, ApiError> {
        let item = match self.call.accepted.shape {
            Shape::Object | Shape::Metadata => self.call.item(object)?,
            Shape::Table => {
                let table = self.call.table(&[object], None)?;
                if self.told_columns {
                    let mut table: Value = serde_json::from_slice(&table).unwrap_or_default();
                    table["columnDefinitions"] = Value::Null;
                    Bytes::from(table.to_string())
                } else {
                    self.told_columns = true;
                    table
                }
            }
        };
        Ok(line(kind, &item))
    }

    fn bookmark(&self, initial_end: bool) -> Bytes {
        let mut metadata =
            json!({"resourceVersion": self.cursor.to_string(), "creationTimestamp": null});
        if initial_end {
            metadata["annotations"] = json!({INITIAL_END: "true"});
        }
        let object = match self.call.accepted.shape {
            Shape::Object => json!({
                "kind": self.call.row.kind,
                "apiVersion": self.call.api_version(),
                "metadata": metadata,
            }),
            Shape::Metadata => json!({
                "kind": "PartialObjectMetadata",
                "apiVersion": self.call.accepted.meta_version.api_version(),
                "metadata": metadata,
            }),
            Shape::Table => json!({
                "kind": "Table",
                "apiVersion": self.call.accepted.meta_version.api_version(),
                "metadata": metadata,
                "columnDefinitions": null,
                "rows": [],
            }),
        };
        line("BOOKMARK", object.to_string().as_bytes())
    }

    fn fail(&mut self, error: &ApiError) {
        let status = serde_json::to_vec(&error.status()).unwrap_or_default();
        self.ready.push_back(line("ERROR", &status));
        self.ended = true;
    }
}

fn line(kind: &str, object: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(object.len() + kind.len() + 24);
    bytes.put_slice(b"{\"type\":\"");
    bytes.put_slice(kind.as_bytes());
    bytes.put_slice(b"\",\"object\":");
    bytes.put_slice(object);
    bytes.put_slice(b"}\n");
    bytes.freeze()
}
