//! Backups, restores and the move to another store.
//!
//! A backup is a database like the embedded store's with the newest state of every key, so one of either store can be
//! restored into either. Values are taken as they are: what is encrypted stays so.

use std::path::Path;

use crate::etcd::{Etcd, EtcdConfig, Fill};
use crate::sqlite::{DirectoryLock, NewFile, Snapshot};
use crate::{BackupError, Range, Revision, Store, StoreError};

/// Keys that are read from etcd at once.
const PAGE: usize = 200;
/// What every key begins with.
const REGISTRY: &str = "/registry/";

/// What was copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Keys.
    pub keys: usize,
    /// Bytes of their values.
    pub bytes: usize,
    /// The revision that they are of, or that they have now.
    pub revision: Revision,
}

impl Copied {
    fn count(&mut self, kv: &crate::KeyValue) {
        self.keys += 1;
        self.bytes += kv.value.len();
    }
}

/// Writes a backup of a database that another process may be using.
///
/// # Errors
/// See [`BackupError`]; no file is left then.
pub fn of_sqlite(database: &Path, file: &Path) -> Result<Copied, BackupError> {
    let snapshot = Snapshot::open(database)?;
    let new = NewFile::create(file)?;
    let mut copied = Copied {
        revision: snapshot.revision(),
        ..Copied::default()
    };
    snapshot.for_each(|kv| {
        copied.count(&kv);
        new.add(&kv)
    })?;
    new.finish(snapshot.revision())?;
    Ok(copied)
}

/// Writes a backup of an etcd that servers may be using: page by page, all at one revision.
///
/// # Errors
/// See [`BackupError`]; no file is left then.
pub async fn of_etcd(store: &Etcd, file: &Path) -> Result<Copied, BackupError> {
    let revision = store.revision().await?;
    let new = NewFile::create(file)?;
    let mut copied = Copied {
        revision,
        ..Copied::default()
    };
    each_of_etcd(store, revision, |kv| {
        copied.count(&kv);
        new.add(&kv)
    })
    .await?;
    new.finish(revision)?;
    Ok(copied)
}

/// Hands over every key of an etcd at a revision.
///
/// # Errors
/// When etcd fails; what `each` fails with.
pub async fn each_of_etcd<E: From<BackupError>>(
    store: &Etcd,
    revision: Revision,
    mut each: impl FnMut(crate::KeyValue) -> Result<(), E>,
) -> Result<(), E> {
    let mut after = None;
    loop {
        let range = Range {
            prefix: REGISTRY.to_owned(),
            after: after.take(),
            limit: PAGE,
            revision,
        };
        let page = store.range(range).await.map_err(BackupError::from)?;
        after = page.items.last().map(|kv| kv.key.clone());
        for kv in page.items {
            each(kv)?;
        }
        if !page.more || after.is_none() {
            return Ok(());
        }
    }
}

/// What a restored store begins above: clients that have seen more than the backup must not meet its revisions again.
fn raised(revision: Revision, by: Revision) -> Result<Revision, BackupError> {
    revision
        .checked_add(by)
        .filter(|raised| *raised < Revision::MAX / 2)
        .ok_or(BackupError::Revision { revision })
}

/// Makes the database of a directory that has none from a backup, with revisions raised by so much.
///
/// # Errors
/// See [`BackupError`]; nothing is left then.
pub fn to_sqlite(file: &Path, dir: &Path, raise: Revision) -> Result<Copied, BackupError> {
    let snapshot = Snapshot::open(file)?;
    snapshot.check()?;
    let _lock = DirectoryLock::take(dir)?;
    let new = NewFile::create(&dir.join("berth.db"))?;
    let mut copied = Copied {
        revision: raised(snapshot.revision(), raise)?,
        ..Copied::default()
    };
    snapshot.for_each(|kv| {
        copied.count(&kv);
        new.add(&kv)
    })?;
    new.finish(copied.revision)?;
    Ok(copied)
}

/// Fills an empty prefix of an etcd from a backup or database, with revisions that are above all in it, raised by so
/// much. Only when all is there does the prefix become one that servers take.
///
/// # Errors
/// See [`BackupError`]. When that happens half way, what was written stays, and the prefix is refused by all servers.
pub async fn to_etcd(
    file: &Path,
    config: &EtcdConfig,
    raise: Revision,
) -> Result<Copied, BackupError> {
    let snapshot = Snapshot::open(file)?;
    snapshot.check()?;
    let above = raised(snapshot.revision(), raise)?;
    let mut copied = Copied::default();
    // The rows are read in one go on a thread that may wait; etcd takes them from a queue.
    let (rows, mut queue) = tokio::sync::mpsc::channel(PAGE);
    let reading = tokio::task::spawn_blocking(move || {
        snapshot.for_each(|kv| {
            rows.blocking_send(kv)
                .map_err(|_| BackupError::Store(StoreError::Closed))
        })
    });
    let mut fill = Fill::begin(config, above).await?;
    while let Some(kv) = queue.recv().await {
        copied.count(&kv);
        fill.add(kv).await?;
    }
    match reading.await {
        Ok(read) => read?,
        Err(_) => return Err(BackupError::Store(StoreError::Closed)),
    }
    copied.revision = fill.finish().await?;
    Ok(copied)
}

/// Moves the database of a directory that no server uses into an empty prefix of an etcd, whose revisions go on above.
///
/// # Errors
/// See [`to_etcd`]. The database stays as it is.
pub async fn migrate(dir: &Path, config: &EtcdConfig) -> Result<Copied, BackupError> {
    let _lock = DirectoryLock::take(dir)?;
    to_etcd(&dir.join("berth.db"), config, 0).await
}
