//! Watches: what changes, as a stream of JSON lines.
//!
//! A watch pulls from the cache's history when its client reads; it holds no queue of its own, but at most one part of
//! the stream, in which the bytes of large objects are those of the cache. One that falls behind the history is ended
//! with 410, and its client lists again; one that is not read at all is closed with its connection.

mod shared;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use berth_api::status::ApiError;
use berth_api::status_json::status_json;
use berth_store::Revision;
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use prometheus_client::metrics::counter::Counter;
use rand::RngExt;
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, Sleep};

use super::Call;
use super::render::protobuf_of;
use crate::heavy;
use crate::http_types::{BoxError, Response};
use crate::negotiate::{Encoding, Shape};
use crate::protobuf;
use crate::query::Options;
use crate::selector::Selector;
use crate::storage::cache::Change;
use crate::storage::{ResourceCache, Stored};

/// How often a quiet watch is told how far it is.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Bytes of a part of the stream, unless one object has more.
const PART: usize = 64 << 10;
/// Changes that are looked at for a part of the stream.
const CHANGES: usize = 128;
/// An object of more bytes is not copied into a part, but is one.
const LARGE: usize = 16 << 10;
/// Marks the bookmark after the initial events.
const INITIAL_END: &str = "k8s.io/initial-events-end";

struct Watching {
    call: Arc<Call>,
    /// Events that were sent.
    sent: Counter,
    cache: Arc<ResourceCache>,
    changes: Receiver<Revision>,
    selector: Selector,
    /// Whether it shows everything of its namespace as it is stored, as others like it do.
    is_plain: bool,
    /// Everything up to here has been sent.
    cursor: Revision,
    /// Objects that there were at the beginning, and are still to be sent.
    initial: std::vec::IntoIter<Arc<Stored>>,
    /// Whether a bookmark follows on them.
    initial_end: bool,
    ready: VecDeque<Bytes>,
    deadline: Instant,
    bookmark_at: Instant,
    /// Until the deadline or the bookmark.
    wake: Pin<Box<Sleep>>,
    told_columns: bool,
    ended: bool,
}

impl Call {
    /// Answers a watch.
    pub(crate) async fn watch(mut self) -> Result<Response, ApiError> {
        self.query.check(Options::Watch)?;
        self.shed();
        let selector = self.selector()?;
        let revision = self.query.revision()?;
        // Without sendInitialEvents, a watch of no version in particular begins with what there is.
        let initial = match self.query.send_initial_events {
            Some(wanted) => wanted,
            None => revision.unwrap_or(0) == 0,
        };
        if self.query.send_initial_events == Some(true) || revision.is_none() {
            // Streamed lists and unset versions show everything that was written before.
            let current = self.api.storage.current_revision().await?;
            self.api.storage.wait_for(current).await?;
        }
        // One that only follows can begin before this server is there: it tells what comes after that revision.
        if initial && let Some(revision) = revision.filter(|r| *r > 0) {
            self.api.storage.wait_for(revision).await?;
        }
        let cache = self.cache();
        let changes = cache.subscribe();
        let timeout = self
            .query
            .timeout_seconds
            .map_or_else(|| default_timeout(&self), Duration::from_secs);
        let now = Instant::now();
        let deadline = now
            .checked_add(timeout)
            .unwrap_or_else(|| now + default_timeout(&self));
        let mut watching = Watching {
            changes,
            is_plain: self.is_plain(&selector),
            selector,
            cursor: revision.unwrap_or(0),
            initial: Vec::new().into_iter(),
            initial_end: false,
            ready: VecDeque::new(),
            deadline,
            bookmark_at: now + BOOKMARK_EVERY,
            wake: Box::pin(tokio::time::sleep_until(deadline.min(now + BOOKMARK_EVERY))),
            told_columns: false,
            ended: false,
            cache,
            sent: self.api.metrics.watch(&self.target),
            call: Arc::new(self),
        };
        if initial {
            watching.start_with_state().await?;
        } else if watching.cursor == 0 {
            watching.cursor = watching.call.api.storage.applied();
        }
        let accepted = &watching.call.accepted;
        let content_type = match (accepted.encoding, accepted.shape) {
            (Encoding::Protobuf, _) => "application/vnd.kubernetes.protobuf;stream=watch",
            (_, Shape::Object) => "application/json",
            (_, Shape::Table | Shape::Metadata) => "application/json;stream=watch",
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
}

impl Call {
    /// The object of an event; a Table has columns with the first one only.
    fn event(&self, object: &Stored, first: bool) -> Result<Bytes, ApiError> {
        match self.accepted.shape {
            Shape::Object | Shape::Metadata => {
                let item = self.item(object)?;
                if self.accepted.encoding == Encoding::Protobuf {
                    return message(&item);
                }
                Ok(item)
            }
            Shape::Table => {
                let table = self.table(&[object], None)?;
                if first {
                    return Ok(table);
                }
                let mut table: Value = serde_json::from_slice(&table)
                    .map_err(|error| ApiError::Internal(error.to_string()))?;
                table["columnDefinitions"] = Value::Null;
                Ok(Bytes::from(table.to_string()))
            }
        }
    }

    /// Lets go of what a watch doesn't need while it lasts: a body, and most headers.
    fn shed(&mut self) {
        self.body = Bytes::new();
        let agent = self.headers.remove(header::USER_AGENT);
        self.headers = HeaderMap::new();
        if let Some(agent) = agent {
            self.headers.insert(header::USER_AGENT, agent);
        }
    }
}

impl Watching {
    async fn start_with_state(&mut self) -> Result<(), ApiError> {
        let applied = self.call.api.storage.applied();
        let (items, revision) = self.cache.snapshot(Some(self.call.namespace()), applied);
        let items = self.call.selected(&self.selector, items).await?;
        self.initial = items.into_iter();
        self.cursor = revision;
        let query = &self.call.query;
        self.initial_end = query.send_initial_events == Some(true) && query.bookmarks;
        Ok(())
    }

    /// Makes the next part of the objects that there were at the beginning ready. False when there are none left.
    async fn take_initial(&mut self) -> Result<bool, ApiError> {
        let mut bytes = 0;
        while bytes < PART {
            let Some(item) = self.initial.next() else {
                break;
            };
            bytes += item.bytes.len();
            self.push("ADDED", item).await?;
        }
        if self.initial.len() == 0 && std::mem::take(&mut self.initial_end) {
            let bytes = self.bookmark(true);
            self.ready.push_back(bytes);
        }
        Ok(!self.ready.is_empty())
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
            match self.take_initial().await {
                Ok(false) => {}
                Ok(true) => continue,
                Err(error) => {
                    self.fail(&error);
                    continue;
                }
            }
            // Mark what is there as seen before looking, so that nothing slips between.
            self.changes.borrow_and_update();
            if let Some(part) = self.shared_part() {
                self.cursor = part.until;
                if part.events.is_empty() {
                    continue;
                }
                return Some(part.events);
            }
            match self.cache.since(self.cursor, CHANGES, PART) {
                Ok(changes) if !changes.is_empty() => {
                    if let Err(error) = self.take(&changes).await {
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
            tokio::select! {
                changed = self.changes.changed() => self.ended |= changed.is_err(),
                () = self.call.shutdown.cancelled() => self.ended = true,
                () = self.wake.as_mut() => self.tick(),
            }
        }
    }

    /// The next part of the stream: small ones joined, a large one alone.
    fn join_ready(&mut self) -> Option<Bytes> {
        let first = self.ready.pop_front()?;
        let more = self.ready.front().is_some_and(|next| next.len() <= LARGE);
        if first.len() > LARGE || !more {
            return Some(first);
        }
        let mut joined = BytesMut::from(first.as_ref());
        let is_small = |next: &Bytes| next.len() <= LARGE;
        while joined.len() < PART && self.ready.front().is_some_and(is_small) {
            let Some(next) = self.ready.pop_front() else {
                break;
            };
            joined.put_slice(&next);
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
                match self.cache.since(self.cursor, 1, 1) {
                    Ok(changes) if changes.is_empty() => self.cursor = self.cursor.max(applied),
                    Ok(_) | Err(_) => {}
                }
            }
            let bytes = self.bookmark(false);
            self.ready.push_back(bytes);
        }
        self.bookmark_at = now + BOOKMARK_EVERY;
        let wake = self.deadline.min(self.bookmark_at);
        self.wake.as_mut().reset(wake);
    }

    async fn take(&mut self, changes: &[Change]) -> Result<(), ApiError> {
        for change in changes {
            self.cursor = change.revision;
            let previous = change.previous.as_ref();
            let now = (!change.deleted).then_some(&change.object);
            let asks = self.call.selecting_converter(&self.selector).is_some();
            let (before, after) = if asks && change.emptied {
                // What is no longer kept can't be converted: whatever the rest of the selector takes counts as selected.
                let rest = self.selector.without_fields();
                let takes = |object: &&Arc<Stored>| rest.matches(object.as_ref());
                (previous.filter(takes), now.filter(takes))
            } else if asks {
                let before = self.takes(previous).await?;
                (before, self.takes(now).await?)
            } else {
                let takes = |object: &&Arc<Stored>| self.selector.matches(object.as_ref());
                (previous.filter(takes), now.filter(takes))
            };
            if change.emptied && (before.is_some() || after.is_some()) {
                return Err(ApiError::Expired(format!(
                    "too old resource version: the change at {} is no longer kept",
                    change.revision
                )));
            }
            match (before, after) {
                (None, None) => {}
                (None, Some(object)) => self.push("ADDED", Arc::clone(object)).await?,
                (Some(_), Some(object)) => self.push("MODIFIED", Arc::clone(object)).await?,
                // It left the selection: its last selected state, at the revision of the change.
                (Some(_), None) if change.deleted => {
                    self.push("DELETED", Arc::clone(&change.object)).await?;
                }
                (Some(before), None) => {
                    // At its own revision: what is converted is remembered by it.
                    let before = self.call.shown(Arc::clone(before)).await?;
                    let last = last_selected(&before, change.revision).await?;
                    self.push_shown("DELETED", last).await?;
                }
            }
        }
        Ok(())
    }

    /// An object if the selector takes it, in the request's version.
    async fn takes<'a>(
        &self,
        object: Option<&'a Arc<Stored>>,
    ) -> Result<Option<&'a Arc<Stored>>, ApiError> {
        let Some(object) = object else {
            return Ok(None);
        };
        let some = vec![Arc::clone(object)];
        let taken = self.call.selected(&self.selector, some).await?;
        Ok((!taken.is_empty()).then_some(object))
    }

    /// Makes an event ready.
    async fn push(&mut self, kind: &str, object: Arc<Stored>) -> Result<(), ApiError> {
        let object = self.call.shown(object).await?;
        self.push_shown(kind, object).await
    }

    /// Makes an event ready of an object that is in the request's version.
    async fn push_shown(&mut self, kind: &str, object: Arc<Stored>) -> Result<(), ApiError> {
        let first = !std::mem::replace(&mut self.told_columns, true);
        let call = Arc::clone(&self.call);
        let is_large = object.bytes.len() > heavy::LARGE_BYTES;
        let item = if is_large && call.is_taken_apart() {
            heavy::event(move || call.event(&object, first)).await?
        } else {
            call.event(&object, first)?
        };
        self.sent.inc();
        if self.is_binary() {
            self.ready.push_back(frame(kind, &item)?);
            return Ok(());
        }
        if item.len() <= LARGE {
            self.ready.push_back(line(kind, &item));
            return Ok(());
        }
        let head = format!("{{\"type\":\"{kind}\",\"object\":");
        self.ready.push_back(Bytes::from(head));
        self.ready.push_back(item);
        self.ready.push_back(Bytes::from_static(b"}\n"));
        Ok(())
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
        self.written("BOOKMARK", object.to_string().as_bytes())
    }

    fn is_binary(&self) -> bool {
        self.call.accepted.encoding == Encoding::Protobuf
    }

    /// An event with an object of the server's own, in the encoding of the watch.
    fn written(&self, kind: &str, object: &[u8]) -> Bytes {
        if !self.is_binary() {
            return line(kind, object);
        }
        message(object)
            .and_then(|object| frame(kind, &object))
            .unwrap_or_else(|error| {
                tracing::error!(%error, "an event of a watch has no protobuf form");
                Bytes::new()
            })
    }

    fn fail(&mut self, error: &ApiError) {
        let status = status_json(&error.status());
        let event = self.written("ERROR", status.trim_ascii_end());
        self.ready.push_back(event);
        self.ended = true;
    }
}

/// The last state of an object that was selected, as it is told at the revision at which it no longer is.
async fn last_selected(before: &Arc<Stored>, revision: Revision) -> Result<Arc<Stored>, ApiError> {
    if before.bytes.len() <= heavy::LARGE_BYTES {
        return Ok(Arc::new(before.at(revision)));
    }
    let before = Arc::clone(before);
    heavy::event(move || Ok(Arc::new(before.at(revision)))).await
}

/// As on the stock server: at least `--min-request-timeout`, and up to as much again.
fn default_timeout(call: &Call) -> Duration {
    let least = call.api.limits.min_request_timeout;
    let more = u64::try_from(least.as_millis()).unwrap_or(u64::MAX);
    least.saturating_add(Duration::from_millis(rand::rng().random_range(0..=more)))
}

/// An object's JSON as a message in its envelope.
fn message(json: &[u8]) -> Result<Bytes, ApiError> {
    protobuf_of(json)?
        .ok_or_else(|| ApiError::Internal("an object of the watch has no protobuf form".to_owned()))
}

/// An event of a watch in protobuf.
fn frame(kind: &str, object: &[u8]) -> Result<Bytes, ApiError> {
    protobuf::event(kind, object)
        .map(Bytes::from)
        .ok_or_else(|| ApiError::Internal("an object is too large for an event".to_owned()))
}

fn line(kind: &str, object: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(object.len() + kind.len() + 24);
    put_line(&mut bytes, kind, object);
    bytes.freeze()
}

fn put_line(bytes: &mut BytesMut, kind: &str, object: &[u8]) {
    bytes.put_slice(b"{\"type\":\"");
    bytes.put_slice(kind.as_bytes());
    bytes.put_slice(b"\",\"object\":");
    bytes.put_slice(object);
    bytes.put_slice(b"}\n");
}
