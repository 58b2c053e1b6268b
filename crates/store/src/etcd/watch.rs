//! Watches: etcd's events in the store's words, with a look for gaps.
//!
//! etcd promises to leave nothing out. A watch of everything also sees `~berth/head`, whose version grows by one with
//! every transaction: when it jumps, something was lost after all (an etcd that was put back to an older state and went
//! on from there), and the watch ends with [`StoreError::Gap`].

use std::time::Duration;

use etcd_client::{EventType, WatchOptions, WatchResponse};
use futures::StreamExt;

use super::layout::{REGISTRY, end_of};
use super::{Etcd, Seen};
use crate::etcd::failure::Failure;
use crate::{Batch, Event, Revision, StoreError, WatchStream};

/// How long it may take until a watch has begun.
const START_TIMEOUT: Duration = Duration::from_secs(5);

struct Watching {
    store: Etcd,
    stream: etcd_client::WatchStream,
    member: usize,
    /// What is added to etcd's revisions; a store that has been put back adds more, and its watches begin anew.
    offset: Revision,
    /// Whether everything is watched.
    whole: bool,
    /// The next revision to deliver, as etcd counts.
    next: Revision,
    /// The version of the head that was seen last.
    version: Option<i64>,
    ended: bool,
}

impl Etcd {
    pub(super) async fn watch_now(
        &self,
        prefix: String,
        from: Revision,
    ) -> Result<WatchStream, StoreError> {
        let offset = self.offset();
        let whole = prefix == REGISTRY;
        let (start, end) = if whole {
            let all = self.layout.all();
            let end = end_of(all.as_bytes());
            (all, end)
        } else {
            (self.layout.full(&prefix), self.layout.end_of(&prefix))
        };
        let next = from - offset;
        if next < 1 && offset > 0 {
            return Err(StoreError::Compacted { compacted: offset });
        }
        let next = next.max(1);
        let options = WatchOptions::new()
            .with_range(end)
            .with_start_revision(next)
            .with_progress_notify();
        let (at, mut member) = self.members.active();
        let starting = member.watch.watch(start, Some(options));
        let started = match tokio::time::timeout(START_TIMEOUT, starting).await {
            Ok(started) => started.map_err(|error| Failure::of(&error)),
            Err(_) => Err(Failure::Unknown("no answer in time".to_owned())),
        };
        let stream = started.map_err(|failure| {
            self.members.leave(at);
            failure.into_error()
        })?;
        let version = if whole {
            self.version_before(next)
        } else {
            None
        };
        let watching = Watching {
            store: self.clone(),
            stream,
            member: at,
            offset,
            whole,
            next,
            version,
            ended: false,
        };
        Ok(futures::stream::unfold(watching, |mut w| async move {
            if w.ended {
                return None;
            }
            let batch = w.next_batch().await.transpose()?;
            w.ended = batch.is_err();
            Some((batch, w))
        })
        .boxed())
    }

    fn version_before(&self, next: Revision) -> Option<i64> {
        let seen = self.seen.lock();
        (seen.upto + 1 == next).then_some(seen.version).flatten()
    }
}

impl Watching {
    /// The next batch; none when the watch has ended and is to be begun again.
    async fn next_batch(&mut self) -> Result<Option<Batch>, StoreError> {
        loop {
            // Whoever calls notices first that a member no longer answers: an open watch on it would stay silent.
            let message = tokio::select! {
                message = self.stream.message() => message,
                () = self.store.members.left(self.member) => return Ok(None),
            };
            let answer = match message {
                Ok(Some(answer)) => answer,
                Ok(None) => {
                    self.store.members.leave(self.member);
                    return Ok(None);
                }
                Err(error) => {
                    self.store.members.leave(self.member);
                    return Err(Failure::of(&error).into_error());
                }
            };
            if answer.compact_revision() > 0 {
                return Err(StoreError::Compacted {
                    compacted: answer.compact_revision() + self.offset,
                });
            }
            if answer.canceled() {
                self.store.members.leave(self.member);
                let reason = answer.cancel_reason();
                tracing::debug!(reason, "etcd has ended a watch");
                return Ok(None);
            }
            if answer.created() {
                continue;
            }
            if self.offset != self.store.offset() {
                return Ok(None);
            }
            if let Some(batch) = self.take(&answer)? {
                return Ok(Some(batch));
            }
        }
    }

    fn take(&mut self, answer: &WatchResponse) -> Result<Option<Batch>, StoreError> {
        let mut events = Vec::with_capacity(answer.events().len());
        let mut upto = None;
        let head = self.store.layout.head();
        for event in answer.events() {
            let Some(kv) = event.kv() else { continue };
            let revision = kv.mod_revision();
            if revision < self.next {
                // Already delivered.
                continue;
            }
            upto = Some(revision);
            if kv.key() == head.as_bytes() {
                self.follow_head(kv.version())?;
                self.store.saw_head(revision);
            }
            let Some(key) = self.store.layout.key(kv.key()) else {
                continue;
            };
            events.push(Event {
                key,
                value: match event.event_type() {
                    EventType::Put => Some(bytes::Bytes::copy_from_slice(kv.value())),
                    EventType::Delete => None,
                },
                revision: revision + self.offset,
            });
        }
        if answer.events().is_empty() {
            // A progress notification: everything up to there has been delivered. (Those that are asked for on the
            // stream can be wrong in etcd before 3.4.31 and 3.5.13; we ask for none.)
            let at = answer
                .header()
                .map_or(0, etcd_client::ResponseHeader::revision);
            if at >= self.next {
                upto = Some(at);
            }
        }
        let Some(upto) = upto else { return Ok(None) };
        self.next = upto + 1;
        if self.whole {
            *self.store.seen.lock() = Seen {
                upto,
                version: self.version,
            };
        }
        Ok(Some(Batch {
            events,
            revision: upto + self.offset,
        }))
    }

    fn follow_head(&mut self, version: i64) -> Result<(), StoreError> {
        let before = self.version.replace(version);
        match before {
            Some(before) if version != before + 1 => Err(StoreError::Gap {
                expected: before + 1,
                found: version,
            }),
            _ => Ok(()),
        }
    }
}
