//! Reads: one key, a range at some revision, and watches (the log first, then what is published).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::StreamExt;
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::broadcast::{self, error::RecvError};

use super::writer::key_value;
use super::{Published, Shared};
use crate::{Batch, Event, KeyValue, Page, Range, Revision, StoreError, WatchStream};

/// Rows that a watch reads from the log at once.
const CHUNK: i64 = 500;

/// The state of a key now.
pub(super) fn get(connection: &Connection, key: &str) -> rusqlite::Result<Option<KeyValue>> {
    connection
        .prepare_cached(
            "SELECT revision, value FROM log WHERE key = ?1 ORDER BY revision DESC LIMIT 1",
        )?
        .query_row([key], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Option<Vec<u8>>>(1)?))
        })
        .optional()
        .map(|row| {
            let (revision, value) = row?;
            Some(key_value(key.to_owned(), revision, value?))
        })
}

/// The end of a prefix's range: the prefix with its last byte raised. Our prefixes end in ASCII.
fn prefix_end(prefix: &str) -> String {
    let mut end = prefix.to_owned();
    match end.pop() {
        Some(last) if last.is_ascii() && last != '\u{7f}' => {
            end.push(char::from(u8::try_from(last).unwrap_or(b'~') + 1));
            end
        }
        _ => "\u{10ffff}".to_owned(),
    }
}

/// The state of the keys with a prefix.
pub(super) fn range(
    shared: &Shared,
    connection: &Connection,
    range: &Range,
) -> Result<Page, StoreError> {
    let current = shared.revision.load(Ordering::Acquire);
    let revision = if range.revision == 0 {
        current
    } else {
        range.revision
    };
    if revision > current {
        return Err(StoreError::Future {
            asked: revision,
            current,
        });
    }
    let limit = if range.limit == 0 {
        -1
    } else {
        i64::try_from(range.limit).unwrap_or(i64::MAX - 1) + 1
    };
    let rows = read_range(connection, range, revision, limit).map_err(|e| shared.failed(e))?;
    // Checked after reading: what was read is whole if the boundary still was below.
    let compacted = shared.compacted.load(Ordering::Acquire);
    if revision < compacted {
        return Err(StoreError::Compacted { compacted });
    }
    let mut items = rows;
    let more = range.limit > 0 && items.len() > range.limit;
    if more {
        items.truncate(range.limit);
    }
    Ok(Page {
        items,
        revision,
        more,
    })
}

fn read_range(
    connection: &Connection,
    range: &Range,
    revision: Revision,
    limit: i64,
) -> rusqlite::Result<Vec<KeyValue>> {
    let after = range.after.as_deref().unwrap_or("");
    connection
        .prepare_cached(
            "SELECT key, revision, value FROM log AS l
             WHERE key >= ?1 AND key < ?2 AND key > ?3 AND revision <= ?4 AND value IS NOT NULL
               AND NOT EXISTS (SELECT 1 FROM log AS newer
                   WHERE newer.key = l.key AND newer.revision > l.revision AND newer.revision <= ?4)
             ORDER BY key LIMIT ?5",
        )?
        .query_map(
            params![
                range.prefix,
                prefix_end(&range.prefix),
                after,
                revision,
                limit
            ],
            |row| Ok(key_value(row.get(0)?, row.get(1)?, row.get(2)?)),
        )?
        .collect()
}

/// Events of the log from a revision on, whole transactions, at most about [`CHUNK`].
fn read_log(shared: &Shared, from: Revision) -> Result<Vec<Event>, StoreError> {
    let reader = shared.reader.lock();
    let read = || -> rusqlite::Result<Vec<Event>> {
        // The last transaction of the chunk is taken whole.
        let last: Option<i64> = reader
            .prepare_cached(
                "SELECT max(revision) FROM (SELECT revision FROM log WHERE revision >= ?1 ORDER BY revision LIMIT ?2)",
            )?
            .query_row(params![from, CHUNK], |row| row.get(0))?;
        let Some(last) = last else {
            return Ok(Vec::new());
        };
        reader
            .prepare_cached(
                "SELECT key, revision, value FROM log WHERE revision >= ?1 AND revision <= ?2 ORDER BY revision, seq",
            )?
            .query_map(params![from, last], |row| {
                Ok(Event {
                    key: row.get(0)?,
                    revision: row.get(1)?,
                    value: row.get::<_, Option<Vec<u8>>>(2)?.map(Bytes::from),
                })
            })?
            .collect()
    };
    let events = read().map_err(|e| shared.failed(e))?;
    let compacted = shared.compacted.load(Ordering::Acquire);
    if from <= compacted {
        return Err(StoreError::Compacted { compacted });
    }
    Ok(events)
}

struct Watching {
    shared: Arc<Shared>,
    prefix: String,
    /// The next revision to deliver.
    next: Revision,
    /// None while the log is read.
    live: broadcast::Receiver<Published>,
    catching_up: bool,
    ended: bool,
}

/// Changes from `from` on.
pub(super) fn watch(
    shared: Arc<Shared>,
    prefix: String,
    from: Revision,
) -> Result<WatchStream, StoreError> {
    let live = shared
        .events
        .upgrade()
        .ok_or(StoreError::Closed)?
        .subscribe();
    let watching = Watching {
        shared,
        prefix,
        next: from,
        live,
        catching_up: true,
        ended: false,
    };
    Ok(futures::stream::unfold(watching, |mut w| async move {
        if w.ended {
            return None;
        }
        let batch = w.next_batch().await;
        w.ended = batch.is_err();
        Some((batch, w))
    })
    .boxed())
}

impl Watching {
    async fn next_batch(&mut self) -> Result<Batch, StoreError> {
        loop {
            let events = if self.catching_up {
                let (shared, from) = (Arc::clone(&self.shared), self.next);
                let read = tokio::task::spawn_blocking(move || read_log(&shared, from)).await;
                let events = read.map_err(|_| StoreError::Closed)??;
                if events.is_empty() {
                    // Whatever is committed from now on arrives over the channel, which was
                    // subscribed to before the log was read.
                    self.catching_up = false;
                    continue;
                }
                events
            } else {
                match self.live.recv().await {
                    Ok(published) => published.as_ref().clone(),
                    Err(RecvError::Lagged(_)) => {
                        self.catching_up = true;
                        continue;
                    }
                    Err(RecvError::Closed) => return Err(StoreError::Closed),
                }
            };
            if let Some(revision) = events.last().map(|last| last.revision) {
                let first = self.next;
                self.next = self.next.max(revision + 1);
                let mine: Vec<Event> = events
                    .into_iter()
                    .filter(|e| e.revision >= first && e.key.starts_with(&self.prefix))
                    .collect();
                if !mine.is_empty() {
                    return Ok(Batch {
                        events: mine,
                        revision,
                    });
                }
            }
        }
    }
}
