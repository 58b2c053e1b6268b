//! The distributed store: an etcd cluster, for several servers side by side.
//!
//! | file | what is in it |
//! |---|---|
//! | `config` | the flags, and what does not go together |
//! | `members` | one member is used until it fails; what may be tried again |
//! | `failure` | what etcd's errors mean |
//! | `layout` | the keys |
//! | `open` | whose the prefix is |
//! | `write`, `watch`, `newest` | transactions, watches, the newest revision |
//! | `fill` | an empty prefix is filled from a backup |
//!
//! Every transaction also writes one key of ours, `~berth/head`. Its revision is that of the last transaction, so that a
//! consistent read costs one look at one key, and a quiet store needs no progress notification to be known as such.

mod config;
mod failure;
mod fill;
mod layout;
mod members;
mod newest;
mod open;
mod watch;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use etcd_client::{CompactionOptions, Compare, CompareOp, GetOptions, ResponseHeader, Txn, TxnOp};
use etcd_client::{SortOrder, SortTarget};
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;

use self::failure::Failure;
use self::layout::Layout;
use self::members::{Kind, Members};
use self::newest::Flights;
use crate::{
    KeyValue, OpenError, Outcome, Page, Range, Revision, Store, StoreError, WatchStream, Write,
};

pub use config::{EtcdConfig, EtcdConfigError};
pub use fill::Fill;

/// A store in etcd.
#[derive(Clone)]
pub struct Etcd {
    members: Arc<Members>,
    layout: Layout,
    state: Arc<State>,
    /// How far the watch of everything has come.
    seen: Arc<Mutex<Seen>>,
    flights: Arc<Flights>,
}

/// What is known of the prefix.
#[derive(Default)]
struct State {
    known: Mutex<Known>,
    /// The revision of `~berth/compaction` at the last look.
    compaction: AtomicI64,
}

/// Revisions are as etcd counts them.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// What is added to them.
    offset: Revision,
    /// Revision of `~berth/format`.
    format: Revision,
    /// The newest revision of `~berth/head` that was seen.
    newest: Revision,
}

/// Up to where the watch of everything has delivered, and the version of the head there.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    upto: Revision,
    version: Option<i64>,
}

impl std::fmt::Debug for Etcd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Etcd({})", self.layout.all())
    }
}

impl Etcd {
    /// Connects, and looks whose the prefix is; an empty one is made ours.
    ///
    /// # Errors
    /// When the configuration is wrong, no member answers, or the prefix is not ours. Nothing was written then.
    pub async fn open(config: &EtcdConfig) -> Result<Self, OpenError> {
        Self::open_above(config, 0).await
    }

    /// [`Etcd::open`], of a prefix that must be ours already.
    ///
    /// # Errors
    /// See there, and when it is empty. Nothing is written.
    pub async fn open_existing(config: &EtcdConfig) -> Result<Self, OpenError> {
        let layout = Layout::new(config.root()?);
        let members = Arc::new(Members::of(config).await?);
        open::open_existing(config, &members, &layout).await?;
        Self::opened(config, members, layout).await
    }

    /// [`Etcd::open`]; when the prefix is empty, its revisions begin above `revision`.
    ///
    /// # Errors
    /// See there.
    pub async fn open_above(config: &EtcdConfig, revision: Revision) -> Result<Self, OpenError> {
        let layout = Layout::new(config.root()?);
        let members = Arc::new(Members::of(config).await?);
        open::open(config, &members, &layout, revision).await?;
        Self::opened(config, members, layout).await
    }

    async fn opened(
        config: &EtcdConfig,
        members: Arc<Members>,
        layout: Layout,
    ) -> Result<Self, OpenError> {
        let store = Self {
            members,
            layout,
            state: Arc::default(),
            seen: Arc::default(),
            flights: Arc::default(),
        };
        store
            .learn_format()
            .await
            .map_err(|error| OpenError::Etcd {
                endpoints: config.endpoints.join(","),
                detail: error.to_string(),
            })?;
        Ok(store)
    }

    fn known(&self) -> Known {
        *self.state.known.lock()
    }

    fn offset(&self) -> Revision {
        self.known().offset
    }

    /// A revision of etcd's as the store counts.
    fn logical(&self, physical: Revision) -> Revision {
        physical + self.offset()
    }

    /// A revision of the store's as etcd counts; not above zero for one from before this etcd.
    fn physical(&self, logical: Revision) -> Revision {
        logical - self.offset()
    }

    fn read(&self, kv: &etcd_client::KeyValue) -> Option<KeyValue> {
        Some(KeyValue {
            key: self.layout.key(kv.key())?,
            value: Bytes::copy_from_slice(kv.value()),
            revision: self.logical(kv.mod_revision()),
        })
    }

    /// The store's error for a failed call; `asked` is the revision that it was about.
    fn failed(&self, failure: Failure, asked: Revision) -> StoreError {
        match failure.into_error() {
            StoreError::Compacted { .. } => StoreError::Compacted { compacted: asked },
            StoreError::Future { .. } => StoreError::Future {
                asked,
                current: self.logical(self.known().newest),
            },
            other => other,
        }
    }

    async fn range_now(&self, range: Range) -> Result<Page, StoreError> {
        let asked = if range.revision == 0 {
            0
        } else {
            match self.physical(range.revision) {
                known if known > 0 => known,
                _ => {
                    let compacted = self.offset();
                    return Err(StoreError::Compacted { compacted });
                }
            }
        };
        let start = match &range.after {
            // The next possible key after this one.
            Some(after) => format!("{}\0", self.layout.full(after)),
            None => self.layout.full(&range.prefix),
        };
        let options = GetOptions::new()
            .with_range(self.layout.end_of(&range.prefix))
            .with_limit(i64::try_from(range.limit).unwrap_or(0))
            .with_revision(asked)
            .with_sort(SortTarget::Key, SortOrder::Ascend);
        let got = self
            .members
            .call(Kind::Read, |mut member| {
                let (start, options) = (start.clone(), options.clone());
                async move { member.kv.get(start, Some(options)).await }
            })
            .await
            .map_err(|failure| self.failed(failure, range.revision))?;
        let now = got.header().map_or(0, ResponseHeader::revision);
        Ok(Page {
            items: got.kvs().iter().filter_map(|kv| self.read(kv)).collect(),
            revision: if range.revision == 0 {
                self.logical(now)
            } else {
                range.revision
            },
            more: got.more(),
        })
    }

    /// One server of those that want to compacts: who finds that nobody else has since its last look.
    async fn is_ours_to_compact(&self) -> Result<bool, StoreError> {
        let known = self.state.compaction.load(Ordering::Acquire);
        let answer = self
            .members
            .call(Kind::Write, |mut member| {
                let key = self.layout.compaction();
                let unchanged = Compare::mod_revision(key.clone(), CompareOp::Equal, known);
                let ours = Compare::mod_revision(
                    self.layout.format(),
                    CompareOp::Equal,
                    self.known().format,
                );
                let txn = Txn::new()
                    .when([unchanged, ours])
                    .and_then([TxnOp::put(key.clone(), Vec::new(), None)])
                    .or_else([TxnOp::get(key, None)]);
                async move { member.kv.txn(txn).await }
            })
            .await
            .map_err(|failure| self.failed(failure, 0))?;
        let now = if answer.succeeded() {
            answer.header().map_or(0, ResponseHeader::revision)
        } else {
            let found = answer.op_responses().into_iter().find_map(|op| match op {
                etcd_client::TxnOpResponse::Get(got) => got.kvs().first().cloned(),
                _ => None,
            });
            found.map_or(0, |kv| kv.mod_revision())
        };
        self.state.compaction.store(now, Ordering::Release);
        Ok(answer.succeeded())
    }

    async fn compact_now(&self, revision: Revision) -> Result<(), StoreError> {
        let at = self.physical(revision);
        if at <= 0 || !self.is_ours_to_compact().await? {
            return Ok(());
        }
        let compacted = self
            .members
            .call(Kind::Read, |mut member| async move {
                let options = CompactionOptions::new();
                member.kv.compact(at, Some(options)).await
            })
            .await;
        match compacted {
            // Another server, or etcd itself, was further.
            Ok(_) | Err(Failure::Compacted) => Ok(()),
            Err(failure) => Err(self.failed(failure, revision)),
        }
    }
}

impl Store for Etcd {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<KeyValue>, StoreError>> {
        async move {
            let key = self.layout.full(key);
            let got = self
                .members
                .call(Kind::Read, |mut member| {
                    let key = key.clone();
                    async move { member.kv.get(key, None).await }
                })
                .await
                .map_err(|failure| self.failed(failure, 0))?;
            Ok(got.kvs().first().and_then(|kv| self.read(kv)))
        }
        .boxed()
    }

    fn range(&self, range: Range) -> BoxFuture<'_, Result<Page, StoreError>> {
        self.range_now(range).boxed()
    }

    fn transact(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        self.transact_now(writes).boxed()
    }

    fn watch(
        &self,
        prefix: String,
        from: Revision,
    ) -> BoxFuture<'_, Result<WatchStream, StoreError>> {
        self.watch_now(prefix, from).boxed()
    }

    fn revision(&self) -> BoxFuture<'_, Result<Revision, StoreError>> {
        self.newest_now().boxed()
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<(), StoreError>> {
        self.compact_now(revision).boxed()
    }

    fn is_shared(&self) -> bool {
        true
    }
}
