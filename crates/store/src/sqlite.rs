//! The embedded store: one SQLite database, one writer.
//!
//! Every change is a row of `log`; the newest row of a key is its state. One thread owns the
//! writing connection: it takes whatever requests wait, writes them in one transaction, syncs
//! (WAL, `synchronous=FULL`), publishes the events and only then answers. Reads of the past and
//! the backlog of new watches go through a second, reading connection.
//!
//! Threads and channels: `store-writer` owns the writing connection and receives [`Job`]s over a
//! bounded channel; events go out over one broadcast channel. A watch that lags behind it reads
//! what it missed from the log.

mod company;
mod lock;
mod open;
mod read;
mod snapshot;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::{
    Event, KeyValue, OpenError, Outcome, Page, Range, Revision, Store, StoreError, WatchStream,
    Write,
};
use writer::Job;

pub(crate) use lock::DirectoryLock;
pub use snapshot::{NewFile, Snapshot};

/// Requests that may wait for the writer.
const QUEUE: usize = 256;
/// Transactions that a watch may lag behind before it reads the log again.
const BACKLOG: usize = 1024;

/// What goes out to watches: the events of one transaction.
pub(crate) type Published = Arc<Vec<Event>>;

/// The embedded store.
pub struct Sqlite {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
    writer: Option<std::thread::JoinHandle<()>>,
    _lock: lock::DirectoryLock,
}

/// What the writer, the reads and the watches share.
struct Shared {
    path: PathBuf,
    reader: Mutex<Connection>,
    revision: AtomicI64,
    compacted: AtomicI64,
    /// The writer has the strong one, so that watches end with it.
    events: broadcast::WeakSender<Published>,
}

impl std::fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sqlite({})", self.shared.path.display())
    }
}

impl Sqlite {
    /// Opens the database in a directory; makes both when absent.
    ///
    /// # Errors
    /// When another process has it, or it is not ours, or damaged. Nothing is changed then.
    pub async fn open(dir: &Path) -> Result<Self, OpenError> {
        let dir = dir.to_owned();
        match tokio::task::spawn_blocking(move || Self::open_blocking(&dir)).await {
            Ok(result) => result,
            Err(join) => std::panic::resume_unwind(join.into_panic()),
        }
    }

    /// [`Sqlite::open`] for callers without a runtime.
    ///
    /// # Errors
    /// See there.
    pub fn open_blocking(dir: &Path) -> Result<Self, OpenError> {
        let lock = lock::DirectoryLock::take(dir)?;
        let opened = open::open(dir)?;
        let events = broadcast::Sender::new(BACKLOG);
        let shared = Arc::new(Shared {
            path: opened.path,
            reader: Mutex::new(opened.reader),
            revision: AtomicI64::new(opened.revision),
            compacted: AtomicI64::new(opened.compacted),
            events: events.downgrade(),
        });
        let (jobs, queue) = mpsc::channel(QUEUE);
        let for_writer = Arc::clone(&shared);
        let connection = opened.writer;
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer::run(&for_writer, &events, connection, queue))
            .map_err(|source| OpenError::Directory {
                path: dir.to_owned(),
                source,
            })?;
        Ok(Self {
            shared,
            jobs,
            writer: Some(writer),
            _lock: lock,
        })
    }

    /// Limits the database to so many pages; for tests of a full disk.
    #[doc(hidden)]
    pub async fn limit_pages(&self, pages: Option<u32>) -> Result<(), StoreError> {
        self.ask(|reply| Job::LimitPages { pages, reply }).await
    }

    async fn ask<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Job,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.jobs
            .send(job(reply))
            .await
            .map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared, &Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.shared);
        match tokio::task::spawn_blocking(move || {
            let reader = shared.reader.lock();
            work(&shared, &reader)
        })
        .await
        {
            Ok(result) => result,
            Err(join) => match join.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(StoreError::Closed),
            },
        }
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        // Closing the queue ends the writer after what already waits in it.
        let (closed, _) = mpsc::channel(1);
        self.jobs = closed;
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

impl Store for Sqlite {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<KeyValue>, StoreError>> {
        let key = key.to_owned();
        Box::pin(
            self.read(move |shared, reader| read::get(reader, &key).map_err(|e| shared.failed(e))),
        )
    }

    fn range(&self, range: Range) -> BoxFuture<'_, Result<Page, StoreError>> {
        Box::pin(self.read(move |shared, reader| read::range(shared, reader, &range)))
    }

    fn transact(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<Outcome, StoreError>> {
        Box::pin(self.ask(|reply| Job::Transact { writes, reply }))
    }

    fn watch(
        &self,
        prefix: String,
        from: Revision,
    ) -> BoxFuture<'_, Result<WatchStream, StoreError>> {
        Box::pin(async move {
            let compacted = self.shared.compacted.load(Ordering::Acquire);
            if from <= compacted {
                return Err(StoreError::Compacted { compacted });
            }
            read::watch(Arc::clone(&self.shared), prefix, from)
        })
    }

    fn revision(&self) -> BoxFuture<'_, Result<Revision, StoreError>> {
        let revision = self.shared.revision.load(Ordering::Acquire);
        Box::pin(std::future::ready(Ok(revision)))
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.ask(move |reply| Job::Compact { revision, reply }))
    }

    fn is_shared(&self) -> bool {
        false
    }
}

impl Shared {
    /// Sorts SQLite's errors.
    fn failed(&self, source: rusqlite::Error) -> StoreError {
        let path = self.path.clone();
        match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => StoreError::DiskFull { path },
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                StoreError::Corrupt { path, source }
            }
            _ => StoreError::Sqlite { path, source },
        }
    }
}
