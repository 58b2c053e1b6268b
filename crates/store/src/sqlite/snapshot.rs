//! A database as it is at one moment, read beside the server that uses it; and backups, which are such databases.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, params};

use super::open::{self, APPLICATION_ID, SCHEMA};
use crate::{BackupError, KeyValue, Revision};

/// A database that is read, and not changed, in one read transaction.
#[derive(Debug)]
pub struct Snapshot {
    connection: Connection,
    path: PathBuf,
    revision: Revision,
}

impl Snapshot {
    /// Opens the database or backup in this file. Another process may be writing to it.
    ///
    /// # Errors
    /// When it is no database of berth's, a newer version's, or damaged.
    pub fn open(path: &Path) -> Result<Self, BackupError> {
        let failed = |source| BackupError::of(path, source);
        if open::check_magic(path)? == 0 {
            return Err(BackupError::Absent {
                path: path.to_owned(),
            });
        }
        let connection =
            Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
        connection
            .busy_timeout(Duration::from_secs(5))
            .map_err(failed)?;
        open::check_owner(&connection, path)?;
        connection.execute_batch("BEGIN").map_err(failed)?;
        // The first read fixes the moment.
        let revision = connection
            .query_row(
                "SELECT value FROM meta WHERE name = 'revision'",
                [],
                |row| row.get(0),
            )
            .map_err(failed)?;
        Ok(Self {
            connection,
            path: path.to_owned(),
            revision,
        })
    }

    /// The newest revision in it.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Looks at every page of the file.
    ///
    /// # Errors
    /// What SQLite finds wrong first.
    pub fn check(&self) -> Result<(), BackupError> {
        let detail: String = self
            .connection
            .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
            .map_err(|source| BackupError::of(&self.path, source))?;
        if detail == "ok" {
            return Ok(());
        }
        Err(BackupError::Damaged {
            path: self.path.clone(),
            detail,
        })
    }

    /// Hands over every key with its value, in order.
    ///
    /// # Errors
    /// When it cannot be read; what `each` fails with.
    pub fn for_each<E: From<BackupError>>(
        &self,
        mut each: impl FnMut(KeyValue) -> Result<(), E>,
    ) -> Result<(), E> {
        let failed = |source| BackupError::of(&self.path, source);
        let mut statement = self
            .connection
            .prepare(
                "SELECT key, revision, value FROM log AS l WHERE value IS NOT NULL AND NOT EXISTS (
                     SELECT 1 FROM log AS newer WHERE newer.key = l.key AND newer.revision > l.revision)
                 ORDER BY key",
            )
            .map_err(failed)?;
        let mut rows = statement.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let key = row.get(0).map_err(failed)?;
            let revision = row.get(1).map_err(failed)?;
            let value: Vec<u8> = row.get(2).map_err(failed)?;
            each(super::writer::key_value(key, revision, value))?;
        }
        Ok(())
    }
}

/// A new file with a database in it, that is there only when it is whole.
#[derive(Debug)]
pub struct NewFile {
    connection: Connection,
    path: PathBuf,
    partial: PathBuf,
}

impl NewFile {
    /// Begins one; nothing may be there yet.
    ///
    /// # Errors
    /// When something is there, or the directory cannot be written.
    pub fn create(path: &Path) -> Result<Self, BackupError> {
        if path.symlink_metadata().is_ok() {
            return Err(BackupError::Exists {
                path: path.to_owned(),
            });
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let partial = path.with_file_name(format!(".{name}.{}.partial", std::process::id()));
        // Made by us with these rights before SQLite sees it.
        open::create_private(&partial)?;
        let failed = |source| BackupError::of(&partial, source);
        let begin = || -> rusqlite::Result<Connection> {
            let connection = Connection::open(&partial)?;
            connection
                .execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN")?;
            connection.execute_batch(open::CREATE)?;
            connection.pragma_update(None, "application_id", APPLICATION_ID)?;
            connection.pragma_update(None, "user_version", SCHEMA)?;
            Ok(connection)
        };
        match begin().map_err(failed) {
            Ok(connection) => Ok(Self {
                connection,
                path: path.to_owned(),
                partial,
            }),
            Err(error) => {
                let _ = std::fs::remove_file(&partial);
                Err(error)
            }
        }
    }

    /// Adds a key with its value.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn add(&self, kv: &KeyValue) -> Result<(), BackupError> {
        self.connection
            .prepare_cached("INSERT INTO log (revision, key, value) VALUES (?1, ?2, ?3)")
            .and_then(|mut insert| insert.execute(params![kv.revision, kv.key, &kv.value[..]]))
            .map(drop)
            .map_err(|source| BackupError::of(&self.partial, source))
    }

    /// Brings it to the disk under its name, at this revision; nothing before it can be read or watched.
    ///
    /// # Errors
    /// When the disk is full, or something has come under the name.
    pub fn finish(self, revision: Revision) -> Result<(), BackupError> {
        let failed = |source| BackupError::of(&self.partial, source);
        self.connection
            .execute("UPDATE meta SET value = ?1", [revision])
            .map_err(failed)?;
        self.connection.execute_batch("COMMIT").map_err(failed)?;
        let io = |source| BackupError::File {
            path: self.path.clone(),
            source,
        };
        std::fs::File::open(&self.partial)
            .and_then(|file| file.sync_all())
            .map_err(io)?;
        // A link fails when the name is taken; a rename would not.
        std::fs::hard_link(&self.partial, &self.path).map_err(|source| match source.kind() {
            std::io::ErrorKind::AlreadyExists => BackupError::Exists {
                path: self.path.clone(),
            },
            _ => io(source),
        })?;
        let dir = self.path.parent().filter(|dir| !dir.as_os_str().is_empty());
        std::fs::File::open(dir.unwrap_or(Path::new(".")))
            .and_then(|dir| dir.sync_all())
            .map_err(io)
        // The partial name goes with `self`.
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.partial);
    }
}
