//! Opening a database that may be absent, ours, somebody else's or damaged.

use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use crate::{OpenError, Revision};

/// `brth`: tells our databases from others (SQLite's application_id).
pub(super) const APPLICATION_ID: i64 = 0x6272_7468;
/// The version of the schema (SQLite's user_version).
pub(super) const SCHEMA: i64 = 1;
/// First bytes of every SQLite database.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Databases up to this size are checked whole at every start.
const CHECKED_SIZE: u64 = 64 << 20;

pub(super) const CREATE: &str = "
CREATE TABLE log (
    seq INTEGER PRIMARY KEY,
    revision INTEGER NOT NULL,
    key TEXT NOT NULL,
    value BLOB
);
CREATE UNIQUE INDEX log_key ON log (key, revision);
CREATE INDEX log_revision ON log (revision);
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta (name, value) VALUES ('revision', 0), ('compacted', 0);
";

pub(super) struct Opened {
    pub(super) path: PathBuf,
    pub(super) writer: Connection,
    pub(super) reader: Connection,
    pub(super) revision: Revision,
    pub(super) compacted: Revision,
}

/// Opens or makes `berth.db` in a directory that is already locked.
pub(super) fn open(dir: &Path) -> Result<Opened, OpenError> {
    let path = dir.join("berth.db");
    let size = check_magic(&path)?;
    let failed = |source: rusqlite::Error| match source.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
            OpenError::Corrupt {
                path: path.clone(),
                detail: source.to_string(),
            }
        }
        _ => OpenError::Sqlite {
            path: path.clone(),
            source,
        },
    };
    if size == 0 {
        create_private(&path)?;
    }
    let mut writer = Connection::open(&path).map_err(failed)?;
    writer
        .busy_timeout(Duration::from_secs(5))
        .map_err(failed)?;
    let number = |c: &Connection, sql: &str| c.query_row(sql, [], |row| row.get::<_, i64>(0));
    if size > 0 {
        let tables = number(&writer, "SELECT count(*) FROM sqlite_master").map_err(failed)?;
        // One that was made and not filled yet is ours to fill.
        let id = number(&writer, "PRAGMA application_id").map_err(failed)?;
        if id != 0 || tables != 0 {
            check_owner(&writer, &path)?;
        }
        if size <= CHECKED_SIZE {
            let detail: String = writer
                .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
                .map_err(failed)?;
            if detail != "ok" {
                return Err(OpenError::Corrupt { path, detail });
            }
        }
    }
    writer
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -1024;
             PRAGMA wal_autocheckpoint = 1000; PRAGMA journal_size_limit = 4194304;",
        )
        .map_err(failed)?;
    // A plan must not depend on what is bound: a statement would be planned again each time that it is used.
    writer
        .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
        .map_err(failed)?;
    if number(&writer, "PRAGMA user_version").map_err(failed)? == 0 {
        let tx = writer.transaction().map_err(failed)?;
        tx.execute_batch(CREATE).map_err(failed)?;
        tx.pragma_update(None, "application_id", APPLICATION_ID)
            .map_err(failed)?;
        tx.pragma_update(None, "user_version", SCHEMA)
            .map_err(failed)?;
        tx.commit().map_err(failed)?;
    }
    let meta = |name: &str| {
        writer.query_row("SELECT value FROM meta WHERE name = ?1", [name], |row| {
            row.get::<_, i64>(0)
        })
    };
    let revision = meta("revision").map_err(failed)?;
    let compacted = meta("compacted").map_err(failed)?;
    let reader = Connection::open_with_flags(
        &path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(failed)?;
    reader
        .execute_batch("PRAGMA cache_size = -512;")
        .map_err(failed)?;
    reader
        .busy_timeout(Duration::from_secs(5))
        .map_err(failed)?;
    Ok(Opened {
        path,
        writer,
        reader,
        revision,
        compacted,
    })
}

/// Refuses what is another program's, or a newer version's.
pub(super) fn check_owner(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let number = |sql: &str| {
        connection
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .map_err(|source| OpenError::Sqlite {
                path: path.to_owned(),
                source,
            })
    };
    let id = number("PRAGMA application_id")?;
    if id != APPLICATION_ID {
        return Err(OpenError::Foreign {
            path: path.to_owned(),
            id,
        });
    }
    let found = number("PRAGMA user_version")?;
    if found > SCHEMA {
        return Err(OpenError::Newer {
            path: path.to_owned(),
            found,
            known: SCHEMA,
        });
    }
    Ok(())
}

/// Makes an empty file that only its owner can read, unless one is there.
pub(super) fn create_private(path: &Path) -> Result<(), OpenError> {
    std::fs::File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map(drop)
        .map_err(|source| OpenError::Directory {
            path: path.to_owned(),
            source,
        })
}

/// The file's size, 0 when absent; an error when it is something else than a SQLite database.
pub(super) fn check_magic(path: &Path) -> Result<u64, OpenError> {
    let failed = |source| OpenError::Directory {
        path: path.to_owned(),
        source,
    };
    let mut file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(failed(error)),
    };
    let size = file.metadata().map_err(failed)?.len();
    let mut start = [0; 16];
    if size > 0 && (file.read_exact(&mut start).is_err() || &start != MAGIC) {
        return Err(OpenError::NotADatabase {
            path: path.to_owned(),
        });
    }
    Ok(size)
}
