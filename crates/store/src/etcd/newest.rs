//! The newest revision of the store, and what an etcd that has lost data looks like.
//!
//! Whoever asks for the newest revision must get one that holds after the question was put; those who wait at the same
//! time share an answer ([`Flights`]). A head that is older than one that was seen before means that etcd was put back
//! to an earlier state (a snapshot, a copy of its files). Its revisions then come a second time for other objects. The
//! first server that notices adds so much to all revisions that none is given out twice; every cache is read anew.

use std::sync::atomic::{AtomicU64, Ordering};

use etcd_client::{Compare, CompareOp, GetOptions, GetResponse, Txn, TxnOp};

use super::layout::{Format, end_of};
use super::members::Kind;
use super::{Etcd, Known, Seen};
use crate::{Revision, StoreError};

/// Added on top of what is known to be lost: other servers may have seen more than this one.
const MARGIN: Revision = 1_000_000;

/// Questions for the newest revision, of which one is asked at a time.
#[derive(Default)]
pub(super) struct Flights {
    begun: AtomicU64,
    last: tokio::sync::Mutex<Answered>,
}

#[derive(Default)]
struct Answered {
    flight: u64,
    answer: Option<Result<Revision, String>>,
}

/// What `~berth/format` and `~berth/head` say.
struct Own {
    /// The format and its revision.
    format: Option<(Format, Revision)>,
    head: Revision,
}

impl Etcd {
    pub(super) async fn newest_now(&self) -> Result<Revision, StoreError> {
        let begun = self.flights.begun.load(Ordering::Acquire);
        let mut last = self.flights.last.lock().await;
        if last.flight > begun {
            // It was put after this question was.
            match &last.answer {
                Some(Ok(revision)) => return Ok(*revision),
                Some(Err(detail)) => {
                    return Err(StoreError::Unavailable {
                        detail: detail.clone(),
                    });
                }
                None => {}
            }
        }
        let flight = self.flights.begun.fetch_add(1, Ordering::AcqRel) + 1;
        // Kept when this future is dropped half way: nobody takes an answer that has not come.
        *last = Answered {
            flight: 0,
            answer: None,
        };
        let answer = self.ask_newest().await;
        *last = Answered {
            flight,
            answer: Some(answer.as_ref().copied().map_err(ToString::to_string)),
        };
        answer
    }

    async fn ask_newest(&self) -> Result<Revision, StoreError> {
        let known = self.known();
        let own = self.read_own().await?;
        let (format, revision) = own.format.ok_or(StoreError::Lost)?;
        let reached = known.newest + known.offset;
        if own.head + format.revision_offset < reached {
            self.go_on_above(reached, revision, own.head).await?;
            return Err(StoreError::PutBack);
        }
        if revision != known.format {
            self.adopt(&format, revision, own.head);
            return Err(StoreError::PutBack);
        }
        self.saw_head(own.head);
        Ok(own.head + known.offset)
    }

    /// Remembers a revision of the head.
    pub(super) fn saw_head(&self, revision: Revision) {
        let mut known = self.state.known.lock();
        known.newest = known.newest.max(revision);
    }

    /// Reads the format at the start.
    pub(super) async fn learn_format(&self) -> Result<(), StoreError> {
        let own = self.read_own().await?;
        let (format, revision) = own.format.ok_or(StoreError::Lost)?;
        self.adopt(&format, revision, own.head);
        Ok(())
    }

    /// After a transaction failed though all that it expected is so: because the prefix is another than it was.
    pub(super) async fn check_format(&self) -> Result<(), StoreError> {
        self.ask_newest().await.map(drop)
    }

    fn adopt(&self, format: &Format, revision: Revision, head: Revision) {
        *self.state.known.lock() = Known {
            offset: format.revision_offset,
            format: revision,
            newest: head,
        };
        self.state.compaction.store(0, Ordering::Release);
        *self.seen.lock() = Seen::default();
    }

    /// Raises what is added to etcd's revisions, so that they go on above one that was reached before.
    async fn go_on_above(
        &self,
        reached: Revision,
        format: Revision,
        head: Revision,
    ) -> Result<(), StoreError> {
        tracing::error!(
            reached,
            head,
            "etcd's revision went back: it was put back to an earlier state, and what was written since is lost; going \
             on with revisions above all that were known"
        );
        let raised = Format::new(reached - head + MARGIN);
        let answer = self
            .members
            .call(Kind::Write, |mut member| {
                let key = self.layout.format();
                let unchanged = Compare::mod_revision(key.clone(), CompareOp::Equal, format);
                let puts = [
                    TxnOp::put(key, raised.encode(), None),
                    TxnOp::put(self.layout.head(), Vec::new(), None),
                ];
                let txn = Txn::new().when([unchanged]).and_then(puts);
                async move { member.kv.txn(txn).await }
            })
            .await
            .map_err(|failure| self.failed(failure, 0))?;
        if !answer.succeeded() {
            // Another server was faster; the next look shows whether that is enough.
            return Ok(());
        }
        let own = self.read_own().await?;
        let (format, revision) = own.format.ok_or(StoreError::Lost)?;
        self.adopt(&format, revision, own.head);
        Ok(())
    }

    async fn read_own(&self) -> Result<Own, StoreError> {
        let got = self
            .members
            .call(Kind::Read, |mut member| {
                let start = self.layout.compaction();
                let options = GetOptions::new().with_range(end_of(self.layout.head().as_bytes()));
                async move { member.kv.get(start, Some(options)).await }
            })
            .await
            .map_err(|failure| self.failed(failure, 0))?;
        let format = self.format_in(&got)?;
        let head = self.layout.head();
        let head = got.kvs().iter().find(|kv| kv.key() == head.as_bytes());
        Ok(Own {
            format,
            head: head.map_or(0, etcd_client::KeyValue::mod_revision),
        })
    }

    fn format_in(&self, got: &GetResponse) -> Result<Option<(Format, Revision)>, StoreError> {
        let key = self.layout.format();
        let Some(kv) = got.kvs().iter().find(|kv| kv.key() == key.as_bytes()) else {
            return Ok(None);
        };
        let format = Format::decode(kv.value()).map_err(|newer| StoreError::Refused {
            detail: match newer {
                Some(found) => format!(
                    "{key} was written by a newer version of berth (schema {found}, this one knows {}): use that version",
                    Format::known()
                ),
                None => format!("{key} cannot be read by this version of berth"),
            },
        })?;
        Ok(Some((format, kv.mod_revision())))
    }
}
