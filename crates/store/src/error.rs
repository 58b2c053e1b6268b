//! What can go wrong with a store.

use std::path::PathBuf;

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
    /// etcd failed.
    #[error("etcd failed")]
    Etcd(#[source] Box<etcd_client::Error>),
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
    /// etcd cannot be reached.
    #[error("cannot reach etcd at {endpoints}")]
    Etcd {
        /// The endpoints.
        endpoints: String,
        /// What the client says.
        #[source]
        source: Box<etcd_client::Error>,
    },
}
