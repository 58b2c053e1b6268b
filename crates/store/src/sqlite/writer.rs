//! The thread that writes: requests in, one synced transaction for all that wait, answers out.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use tokio::sync::{broadcast, mpsc, oneshot};

use super::company::{self, Company};
use super::{Published, Shared};
use crate::{Event, Expect, KeyValue, Outcome, Revision, StoreError, Write};

/// Most requests that share one sync.
const GROUP: usize = 256;

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// A request to the writer.
pub(super) enum Job {
    /// [`crate::Store::transact`].
    Transact {
        /// All or nothing.
        writes: Vec<Write>,
        /// Answered when durable.
        reply: Reply<Outcome>,
    },
    /// [`crate::Store::compact`].
    Compact {
        /// History before it goes.
        revision: Revision,
        /// Answered when done.
        reply: Reply<()>,
    },
    /// Limits the database's size.
    LimitPages {
        /// None: as far as SQLite goes.
        pages: Option<u32>,
        /// Answered when done.
        reply: Reply<()>,
    },
}

/// Serves the queue until it closes.
pub(super) fn run(
    shared: &Arc<Shared>,
    events: &broadcast::Sender<Published>,
    mut connection: Connection,
    mut queue: mpsc::Receiver<Job>,
) {
    let mut company = Company::default();
    let mut next = queue.blocking_recv();
    while let Some(job) = next.take() {
        match job {
            Job::Transact { writes, reply } => {
                let begun = Instant::now();
                let mut group = vec![(writes, reply)];
                next = join(&mut group, &mut queue);
                while next.is_none()
                    && group.len() < GROUP
                    && company.is_awaited(group.len(), begun, Instant::now())
                {
                    std::thread::sleep(company::STEP);
                    next = join(&mut group, &mut queue);
                }
                let count = group.len();
                commit(shared, events, &mut connection, group);
                company.committed(count, queue.len());
            }
            Job::Compact { revision, reply } => {
                let _ = reply
                    .send(compact(shared, &mut connection, revision).map_err(|e| shared.failed(e)));
            }
            Job::LimitPages { pages, reply } => {
                let pages = pages.map_or(i64::from(u32::MAX) - 1, i64::from);
                let done = connection
                    .pragma_update(None, "max_page_count", pages)
                    .map_err(|e| shared.failed(e));
                let _ = reply.send(done);
            }
        }
        if next.is_none() {
            next = queue.blocking_recv();
        }
    }
    // The database then is one file again; what fails here is done at the next start.
    let moved = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    if let Err(error) = moved {
        tracing::debug!(%error, "the write-ahead log stays");
    }
}

/// Takes the writes that wait into a group, up to the first job that is none.
fn join(
    group: &mut Vec<(Vec<Write>, Reply<Outcome>)>,
    queue: &mut mpsc::Receiver<Job>,
) -> Option<Job> {
    while group.len() < GROUP {
        match queue.try_recv() {
            Ok(Job::Transact { writes, reply }) => group.push((writes, reply)),
            Ok(other) => return Some(other),
            Err(_) => break,
        }
    }
    None
}

fn commit(
    shared: &Shared,
    events: &broadcast::Sender<Published>,
    connection: &mut Connection,
    group: Vec<(Vec<Write>, Reply<Outcome>)>,
) {
    let (all_writes, replies): (Vec<_>, Vec<_>) = group.into_iter().unzip();
    match write_all(shared, connection, &all_writes) {
        Ok((outcomes, published, revision)) => {
            shared.revision.store(revision, Ordering::Release);
            if !published.is_empty() {
                let _ = events.send(Arc::new(published));
            }
            for (reply, outcome) in replies.into_iter().zip(outcomes) {
                let _ = reply.send(Ok(outcome));
            }
        }
        Err(error) => {
            tracing::error!(error = %error, "a group of {} writes failed", replies.len());
            // The transaction was rolled back: every request of the group failed alike.
            for reply in replies {
                let again = rusqlite_copy(&error);
                let _ = reply.send(Err(shared.failed(again)));
            }
        }
    }
}

/// rusqlite's errors cannot be cloned; the code and the message are what matters.
fn rusqlite_copy(error: &rusqlite::Error) -> rusqlite::Error {
    match error {
        rusqlite::Error::SqliteFailure(code, message) => {
            rusqlite::Error::SqliteFailure(*code, message.clone())
        }
        other => rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ERROR),
            Some(other.to_string()),
        ),
    }
}

type Committed = (Vec<Outcome>, Vec<Event>, Revision);

fn write_all(
    shared: &Shared,
    connection: &mut Connection,
    group: &[Vec<Write>],
) -> rusqlite::Result<Committed> {
    let mut revision = shared.revision.load(Ordering::Acquire);
    let mut outcomes = Vec::with_capacity(group.len());
    let mut published = Vec::new();
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for writes in group {
        if let Some(failed) = first_failed(&tx, writes)? {
            outcomes.push(failed);
            continue;
        }
        revision += 1;
        for write in writes {
            tx.prepare_cached("INSERT INTO log (revision, key, value) VALUES (?1, ?2, ?3)")?
                .execute(params![revision, write.key, write.value.as_deref()])?;
            published.push(Event {
                key: write.key.clone(),
                value: write.value.clone(),
                revision,
            });
        }
        outcomes.push(Outcome::Committed(revision));
    }
    if published.is_empty() {
        tx.rollback()?;
    } else {
        tx.prepare_cached("UPDATE meta SET value = ?1 WHERE name = 'revision'")?
            .execute([revision])?;
        tx.commit()?;
    }
    Ok((outcomes, published, revision))
}

fn first_failed(tx: &Transaction<'_>, writes: &[Write]) -> rusqlite::Result<Option<Outcome>> {
    for write in writes {
        if write.expect == Expect::Any {
            continue;
        }
        let current = tx
            .prepare_cached(
                "SELECT revision, value IS NOT NULL FROM log WHERE key = ?1 ORDER BY revision DESC LIMIT 1",
            )?
            .query_row([&write.key], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, bool>(1)?))
            })
            .optional()?
            .and_then(|(revision, exists)| exists.then_some(revision));
        let holds = match write.expect {
            Expect::Any => true,
            Expect::Absent => current.is_none(),
            Expect::Revision(expected) => current == Some(expected),
        };
        if !holds {
            let current = match current {
                None => None,
                Some(_) => super::read::get(tx, &write.key)?,
            };
            return Ok(Some(Outcome::Failed {
                key: write.key.clone(),
                current,
            }));
        }
    }
    Ok(None)
}

fn compact(
    shared: &Shared,
    connection: &mut Connection,
    revision: Revision,
) -> rusqlite::Result<()> {
    let newest = shared.revision.load(Ordering::Acquire);
    let revision = revision.min(newest);
    if revision <= shared.compacted.load(Ordering::Acquire) {
        return Ok(());
    }
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Of each key, rows older than its newest row at `revision`, and that row too if it deletes.
    tx.execute(
        "DELETE FROM log WHERE revision <= ?1 AND (value IS NULL OR EXISTS (
             SELECT 1 FROM log AS newer
             WHERE newer.key = log.key AND newer.revision > log.revision AND newer.revision <= ?1))",
        [revision],
    )?;
    tx.execute(
        "UPDATE meta SET value = ?1 WHERE name = 'compacted'",
        [revision],
    )?;
    // Readers must see the new boundary no later than the rows go.
    shared.compacted.store(revision, Ordering::Release);
    tx.commit()?;
    Ok(())
}

/// A row as a key with its value.
pub(super) fn key_value(key: String, revision: Revision, value: Vec<u8>) -> KeyValue {
    KeyValue {
        key,
        value: Bytes::from(value),
        revision,
    }
}
