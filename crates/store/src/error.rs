//! What can go wrong with a store.

use std::path::{Path, PathBuf};

use crate::Revision;

/// Errors of operations.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// History before this revision is gone.
    #[error("history before revision {compacted} has been compacted")]
    Compacted {
        /// The oldest revision that can still be read.
        compacted: Revision,
    },
    /// The revision has not happened yet.
    #[error("revision {asked} is in the future, the store is at {current}")]
    Future {
        /// The revision asked for.
        asked: Revision,
        /// The store's.
        current: Revision,
    },
    /// The disk is full; nothing was written, and writing works again once there is space.
    #[error(
        "no space left on the disk that holds {path}: nothing was written; free some space and try again"
    )]
    DiskFull {
        /// The database.
        path: PathBuf,
    },
    /// The database is damaged.
    #[error("the database {path} is damaged")]
    Corrupt {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// SQLite failed otherwise.
    #[error("the database {path} failed")]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// No member of the etcd can be reached, or none has a leader. Nothing was written.
    #[error("etcd cannot be reached or has no leader ({detail}): nothing was written; try again")]
    Unavailable {
        /// What etcd or the connection says.
        detail: String,
    },
    /// etcd did not answer, so nobody knows whether it has written.
    #[error(
        "etcd did not answer ({detail}): a change that was asked for may or may not have been made; read before trying \
         again"
    )]
    Interrupted {
        /// What etcd or the connection says.
        detail: String,
    },
    /// etcd's database has reached its quota.
    #[error(
        "etcd's database is full (alarm NOSPACE): nothing was written; compact and defragment it or raise its \
         --quota-backend-bytes, then run etcdctl alarm disarm"
    )]
    EtcdFull,
    /// More than etcd takes in one request.
    #[error("{detail}")]
    TooLarge {
        /// What etcd says.
        detail: String,
    },
    /// etcd refuses: nothing was written.
    #[error("etcd refused: {detail}")]
    Refused {
        /// What etcd says.
        detail: String,
    },
    /// What makes the prefix ours is no longer in etcd.
    #[error(
        "etcd no longer holds this cluster's data: nothing was written; restore a snapshot of etcd, or a backup with \
         berth store restore"
    )]
    Lost,
    /// etcd was put back to an earlier state, or is another one; what was read from it before no longer holds.
    #[error(
        "etcd was put back to an earlier state: nothing was written; all objects are read anew, try again"
    )]
    PutBack,
    /// A watch has left something out.
    #[error("transaction {found} follows where {expected} should: all objects are read anew")]
    Gap {
        /// The number of the transaction that should have come.
        expected: i64,
        /// The one that came.
        found: i64,
    },
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
}

/// Why a store could not be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be made or read.
    #[error("cannot use the data directory {path}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another process has it open.
    #[error(
        "{path} is in use by process {pid}: stop that process first, or choose another data directory"
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// Holder's process id, or "unknown".
        pid: String,
    },
    /// The file is not a SQLite database.
    #[error(
        "{path} is not a SQLite database: it was not touched; move it away, or choose another data directory"
    )]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// The database belongs to another program.
    #[error(
        "{path} is a database of another program (application id {id:#x}): it was not touched; choose another data directory"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Its application id.
        id: i64,
    },
    /// The database was written by a newer berth.
    #[error(
        "{path} was written by a newer version of berth (schema {found}, this one knows {known}): it was not touched; use that version"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The database is damaged.
    #[error(
        "{path} is damaged ({detail}): it was not touched; restore it from a copy, or move it away to start empty"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What the check found.
        detail: String,
    },
    /// SQLite failed otherwise.
    #[error("cannot open the database {path}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: rusqlite::Error,
    },
    /// The flags about etcd are wrong.
    #[error(transparent)]
    EtcdConfig(#[from] crate::etcd::EtcdConfigError),
    /// etcd cannot be used.
    #[error("cannot use etcd at {endpoints}: {detail}")]
    Etcd {
        /// The endpoints.
        endpoints: String,
        /// What etcd or the connection says.
        detail: String,
    },
    /// The prefix has data of another program.
    #[error(
        "etcd prefix {prefix:?} holds data that berth has not written ({key} is {whose}): nothing was written; choose \
         another with --etcd-prefix, e.g. /berth"
    )]
    ForeignPrefix {
        /// The prefix.
        prefix: String,
        /// A key.
        key: String,
        /// Whose the value seems to be.
        whose: &'static str,
    },
    /// A prefix that should have objects has none.
    #[error("etcd prefix {prefix:?} is empty; is it the right one?")]
    EmptyPrefix {
        /// The prefix.
        prefix: String,
    },
    /// A prefix that should be empty is not.
    #[error(
        "etcd prefix {prefix:?} is not empty (it holds {key}): nothing was written; choose another with --etcd-prefix, or \
         remove what is there (etcdctl del --prefix) if nobody needs it"
    )]
    PrefixInUse {
        /// The prefix.
        prefix: String,
        /// A key.
        key: String,
    },
    /// The prefix was written by a newer berth.
    #[error(
        "etcd prefix {prefix:?} was written by a newer version of berth (schema {found}, this one knows {known}): \
         nothing was written; use that version"
    )]
    NewerPrefix {
        /// The prefix.
        prefix: String,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// What says that the prefix is ours cannot be read.
    #[error(
        "etcd prefix {prefix:?} is damaged (key {key} cannot be read): nothing was written; restore it from a backup, or \
         choose another with --etcd-prefix"
    )]
    DamagedPrefix {
        /// The prefix.
        prefix: String,
        /// The key.
        key: String,
    },
}

/// Why there is no backup, or nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Nothing is overwritten.
    #[error("{path} exists: nothing was written; name a new file, or move that one away", path = .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// There is nothing to read.
    #[error("{path} is empty or does not exist", path = .path.display())]
    Absent {
        /// The file.
        path: PathBuf,
    },
    /// The file is damaged.
    #[error("{path} is damaged ({detail})", path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        detail: String,
    },
    /// A file cannot be used.
    #[error("cannot use {path}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// SQLite failed otherwise.
    #[error("cannot use the database {path}", path = .path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The store cannot be opened, or what is in it is not ours.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Revisions would not fit.
    #[error("revision {revision} cannot be raised any further")]
    Revision {
        /// The revision.
        revision: Revision,
    },
}

impl BackupError {
    pub(crate) fn of(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
                Self::Damaged {
                    path,
                    detail: source.to_string(),
                }
            }
            _ => Self::Sqlite { path, source },
        }
    }
}
