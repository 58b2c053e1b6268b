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
use super::{Etcd, Seen};
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
        let before = self.state.newest.load(Ordering::Acquire);
        let known = self.state.format.load(Ordering::Acquire);
        let own = self.read_own().await?;
        let Some((format, revision)) = own.format else {
            return Err(StoreError::Lost);
        };
        if revision != known {
            self.adopt(&format, revision, own.head);
            return Err(StoreError::PutBack);
        }
        if own.head < before {
            self.go_on_above(&format, revision, before, own.head)
                .await?;
            return Err(StoreError::PutBack);
        }
        self.saw_head(own.head);
        Ok(self.logical(own.head))
    }

    /// Remembers a revision of the head.
    pub(super) fn saw_head(&self, revision: Revision) {
        self.state.newest.fetch_max(revision, Ordering::AcqRel);
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
        let own = self.read_own().await?;
        let (format, revision) = own.format.ok_or(StoreError::Lost)?;
        if revision == self.state.format.load(Ordering::Acquire) {
            return Ok(());
        }
        self.adopt(&format, revision, own.head);
        Err(StoreError::PutBack)
    }

    fn adopt(&self, format: &Format, revision: Revision, head: Revision) {
        let offset = format.revision_offset;
        self.state.offset.store(offset, Ordering::Release);
        self.state.newest.store(head, Ordering::Release);
        self.state.compaction.store(0, Ordering::Release);
        *self.seen.lock() = Seen::default();
        self.state.format.store(revision, Ordering::Release);
    }

    async fn go_on_above(
        &self,
        format: &Format,
        revision: Revision,
        before: Revision,
        found: Revision,
    ) -> Result<(), StoreError> {
        tracing::error!(
            known = before,
            found,
            "etcd's revision went back: it was put back to an earlier state, and what was written since is lost; going \
             on with revisions above all that were known"
        );
        let raised = Format::new(format.revision_offset + (before - found) + MARGIN);
        let answer = self
            .members
            .call(Kind::Write, |mut member| {
                let key = self.layout.format();
                let unchanged = Compare::mod_revision(key.clone(), CompareOp::Equal, revision);
                let puts = [
                    TxnOp::put(key, raised.encode(), None),
                    TxnOp::put(self.layout.head(), Vec::new(), None),
                ];
                let txn = Txn::new().when([unchanged]).and_then(puts);
                async move { member.kv.txn(txn).await }
            })
            .await
            .map_err(|failure| self.failed(failure, 0))?;
        // Whoever was faster has done the same.
        let _ = answer.succeeded();
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
        let format = Format::decode(kv.value()).map_err(|_| StoreError::Refused {
            detail: format!("{key} cannot be read by this version of berth"),
        })?;
        Ok(Some((format, kv.mod_revision())))
    }
}
