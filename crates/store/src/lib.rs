//! Revisioned key-value store with watch: SQLite (embedded default) and etcd.
//!
//! A revision is a number of the whole store; it grows with every transaction. [`Store::transact`]
//! answers only after the change is durable. [`Store::watch`] delivers every change from a
//! revision on, in order, without gaps, or ends with [`StoreError::Compacted`].
//!
//! All keys begin with `/registry/`.

pub mod backup;
mod error;
pub mod etcd;
pub mod sqlite;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

pub use error::{BackupError, OpenError, StoreError};

/// A number of the whole store that grows with every transaction; 0 is before the first.
pub type Revision = i64;

/// A key with its value at some revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// Key.
    pub key: String,
    /// Value.
    pub value: Bytes,
    /// Revision of the last change.
    pub revision: Revision,
}

/// What must hold for a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The key does not exist.
    Absent,
    /// The key exists and was last changed at this revision.
    Revision(Revision),
    /// Anything.
    Any,
}

/// A change of one key.
#[derive(Clone, Debug)]
pub struct Write {
    /// Key.
    pub key: String,
    /// What must hold.
    pub expect: Expect,
    /// The new value; none deletes.
    pub value: Option<Bytes>,
}

/// How a transaction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All writes are durable, at this revision.
    Committed(Revision),
    /// Nothing was written: the expectation of this key failed. Its current state is given.
    Failed {
        /// The key.
        key: String,
        /// Its state, none when it does not exist.
        current: Option<KeyValue>,
    },
}

/// Which keys a range takes.
#[derive(Clone, Debug, Default)]
pub struct Range {
    /// Common prefix.
    pub prefix: String,
    /// Only keys after this one.
    pub after: Option<String>,
    /// At most so many; 0 is all.
    pub limit: usize,
    /// The state at this revision; 0 is now.
    pub revision: Revision,
}

/// The answer to a range.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Keys in byte order.
    pub items: Vec<KeyValue>,
    /// Revision that the items show.
    pub revision: Revision,
    /// Whether keys follow that did not fit the limit.
    pub more: bool,
}

/// A change, as watches deliver it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Key.
    pub key: String,
    /// New value; none when the key was deleted.
    pub value: Option<Bytes>,
    /// Revision of the change.
    pub revision: Revision,
}

/// A part of what a watch delivers: changes of whole transactions, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The changes; none when it only says how far the watch is.
    pub events: Vec<Event>,
    /// Everything up to here has been delivered with this batch.
    pub revision: Revision,
}

/// The batches of a watch. When the stream ends, or with an error that says nothing of the past, the watch can be begun
/// again after the revision of the last batch.
pub type WatchStream = BoxStream<'static, Result<Batch, StoreError>>;

/// A revisioned key-value store.
pub trait Store: Send + Sync + 'static {
    /// The state of a key now.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<KeyValue>, StoreError>>;

    /// The state of the keys with a prefix.
    fn range(&self, range: Range) -> BoxFuture<'_, Result<Page, StoreError>>;

    /// Writes all or nothing, and answers when it is durable.
    fn transact(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<Outcome, StoreError>>;

    /// Changes of keys with a prefix from `from` (inclusive) on.
    fn watch(
        &self,
        prefix: String,
        from: Revision,
    ) -> BoxFuture<'_, Result<WatchStream, StoreError>>;

    /// The revision of the last transaction.
    fn revision(&self) -> BoxFuture<'_, Result<Revision, StoreError>>;

    /// Forgets history before `revision`; what is current is kept.
    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Whether other processes write to it at the same time.
    fn is_shared(&self) -> bool;
}
