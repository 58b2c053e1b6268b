//! Records: JSON files that outlive the process that wrote them, and may be read by another version of it.
//!
//! A record says which version of its form it has; one without is of the first. A record that can't be read is never
//! taken for one that isn't there: whoever does so gives back what is still in use. It is moved aside, where people can
//! look at it, and a record of a newer form than this program knows stays where it is.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::{DeserializeOwned, Error as _};
use serde_json::{Map, Value};

use crate::private;

/// The member that tells the version.
const VERSION: &str = "version";
/// What a record that was moved aside is called by.
const UNREADABLE: &str = ".unreadable";

/// Why a record can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file can't be read or written.
    #[error("record {} can't be read or written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no record of its kind.
    #[error("record {} is malformed", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// It was written by a newer program.
    #[error(
        "record {} has version {version}, and this berth knows versions up to {known}: start the newer berth that wrote it",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// What it says.
        version: u64,
        /// What we know.
        known: u64,
    },
}

impl RecordError {
    /// Its text and its source's, in one line.
    #[must_use]
    pub fn with_source(&self) -> String {
        match self {
            Self::Io { source, .. } => format!("{self}: {source}"),
            Self::Malformed { source, .. } => format!("{self}: {source}"),
            Self::Newer { .. } => self.to_string(),
        }
    }
}

/// Replaces a record whole, for its owner's eyes only.
///
/// # Errors
/// When it can't be written.
pub fn save<T: Serialize>(path: &Path, version: u64, record: &T) -> Result<(), RecordError> {
    let text = serde_json::to_vec(&Versioned { version, record });
    let text = text.map_err(|source| RecordError::Malformed {
        path: path.to_owned(),
        source,
    })?;
    private::write(path, &text).map_err(|source| RecordError::Io {
        path: path.to_owned(),
        source,
    })
}

/// A record as it stands in its file.
#[derive(Serialize)]
struct Versioned<'a, T> {
    version: u64,
    #[serde(flatten)]
    record: &'a T,
}

/// Reads a record; `None` where there is none.
///
/// # Errors
/// When there is one, and it can't be used.
pub fn load<T: DeserializeOwned>(path: &Path, known: u64) -> Result<Option<T>, RecordError> {
    let malformed = |source| RecordError::Malformed {
        path: path.to_owned(),
        source,
    };
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(RecordError::Io {
                path: path.to_owned(),
                source,
            });
        }
    };
    let members: Map<String, Value> = serde_json::from_slice(&text).map_err(malformed)?;
    let version = match members.get(VERSION) {
        None => 1,
        Some(version) => version
            .as_u64()
            .ok_or_else(|| malformed(serde_json::Error::custom("its version is no number")))?,
    };
    if version > known {
        return Err(RecordError::Newer {
            path: path.to_owned(),
            version,
            known,
        });
    }
    serde_json::from_value(Value::Object(members))
        .map(Some)
        .map_err(malformed)
}

/// Moves a record that can't be read aside; gives its new name.
///
/// # Errors
/// When it can't be renamed.
pub fn quarantine(path: &Path) -> io::Result<PathBuf> {
    let aside = quarantined(path);
    std::fs::rename(path, &aside)?;
    Ok(aside)
}

/// Where [`quarantine`] puts a record.
#[must_use]
pub fn quarantined(path: &Path) -> PathBuf {
    path.with_file_name(name(path, UNREADABLE))
}

fn name(path: &Path, behind: &str) -> OsString {
    let mut name = OsString::from(path.file_name().unwrap_or_default());
    name.push(behind);
    name
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Thing {
        count: u32,
    }

    #[test]
    fn records_come_back_and_are_closed_to_others() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("r.json");
        assert!(load::<Thing>(&path, 1).expect("absent").is_none());
        save(&path, 2, &Thing { count: 3 }).expect("save");
        assert_eq!(load(&path, 2).expect("load"), Some(Thing { count: 3 }));
        let mode = path.metadata().expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // As a version before versions wrote it.
        std::fs::write(&path, r#"{"count":4,"unknown":true}"#).expect("write");
        assert_eq!(load(&path, 2).expect("load"), Some(Thing { count: 4 }));
    }

    #[test]
    fn what_cannot_be_read_is_no_absence() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("r.json");
        for text in [
            "",
            "{",
            "[]",
            "{\"count\":-1}",
            "{\"version\":\"2\",\"count\":1}",
            "{}",
        ] {
            std::fs::write(&path, text).expect("write");
            let error = load::<Thing>(&path, 1).expect_err(text);
            assert!(matches!(error, RecordError::Malformed { .. }), "{error}");
        }
        save(&path, 2, &Thing { count: 1 }).expect("save");
        let error = load::<Thing>(&path, 1).expect_err("newer");
        assert!(
            matches!(
                error,
                RecordError::Newer {
                    version: 2,
                    known: 1,
                    ..
                }
            ),
            "{error}"
        );
        std::fs::remove_file(&path).expect("remove");
        std::fs::create_dir(&path).expect("directory");
        let error = load::<Thing>(&path, 1).expect_err("a directory");
        assert!(matches!(error, RecordError::Io { .. }), "{error}");
        let aside = quarantine(&path).expect("aside");
        assert!(aside.ends_with("r.json.unreadable") && aside.exists() && !path.exists());
    }
}
