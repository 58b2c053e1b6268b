//! What the shim notes in a bundle, so that it outlives the shim.

use std::path::Path;
use std::time::{Duration, SystemTime};

use berth_oci::runtime::RuntimeCommand;
use serde::{Deserialize, Serialize};

use crate::client::Exit;
use crate::record::{self, RecordError};

const EXIT: &str = "exit.json";
const COMMAND: &str = "runtime.json";
/// The form of both.
const VERSION: u64 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct ExitNote {
    code: u32,
    seconds: u64,
    nanos: u32,
    #[serde(default)]
    oom_killed: bool,
}

/// Notes how the container's first process ended, and whether the kernel killed something in it for want of memory.
///
/// # Errors
/// When the bundle can't be written.
pub fn save_exit(bundle: &Path, exit: Exit, oom_killed: bool) -> Result<(), RecordError> {
    let at = exit
        .at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let note = ExitNote {
        code: exit.code,
        seconds: at.as_secs(),
        nanos: at.subsec_nanos(),
        oom_killed,
    };
    record::save(&bundle.join(EXIT), VERSION, &note)
}

/// The note; one that can't be read is moved aside, and how the container ended is unknown then.
fn note(bundle: &Path) -> Option<ExitNote> {
    let path = bundle.join(EXIT);
    let error = match record::load(&path, VERSION) {
        Ok(note) => return note,
        Err(error) => error,
    };
    let aside = match &error {
        RecordError::Malformed { .. } => record::quarantine(&path).ok(),
        RecordError::Io { .. } | RecordError::Newer { .. } => None,
    };
    tracing::error!(
        error = error.with_source(),
        moved_to = %aside.unwrap_or_default().display(),
        "how a container ended can't be read"
    );
    None
}

/// Whether the kernel killed something in the container for want of memory.
#[must_use]
pub fn load_oom_killed(bundle: &Path) -> bool {
    note(bundle).is_some_and(|n| n.oom_killed)
}

/// Reads it back.
#[must_use]
pub fn load_exit(bundle: &Path) -> Option<Exit> {
    let note = note(bundle)?;
    let at =
        Duration::from_secs(note.seconds).saturating_add(Duration::from_nanos(note.nanos.into()));
    Some(Exit {
        code: note.code,
        at: SystemTime::UNIX_EPOCH
            .checked_add(at)
            .unwrap_or(SystemTime::UNIX_EPOCH),
    })
}

/// Removes the note of an end.
///
/// # Errors
/// When there is one that stays.
pub fn forget_exit(bundle: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(bundle.join(EXIT)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Notes how the container's runtime is called.
///
/// # Errors
/// When the bundle can't be written.
pub fn save_command(bundle: &Path, command: &RuntimeCommand) -> Result<(), RecordError> {
    record::save(&bundle.join(COMMAND), VERSION, command)
}

/// Reads it back; `None` when the runtime was never called.
///
/// # Errors
/// When there is one that can't be read: then nobody knows how to end the container.
pub fn load_command(bundle: &Path) -> Result<Option<RuntimeCommand>, RecordError> {
    record::load(&bundle.join(COMMAND), VERSION)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_that_cannot_be_read_is_kept_and_unknown() {
        let bundle = tempfile::tempdir().expect("tempdir");
        let path = bundle.path().join(EXIT);
        // As it was before records had versions.
        std::fs::write(&path, r#"{"code":3,"seconds":5,"nanos":7}"#).expect("write");
        assert_eq!(load_exit(bundle.path()).map(|exit| exit.code), Some(3));
        std::fs::write(&path, r#"{"code":3,"sec"#).expect("write");
        assert!(load_exit(bundle.path()).is_none());
        let aside = record::quarantined(&path);
        assert_eq!(
            std::fs::read_to_string(aside).expect("kept"),
            r#"{"code":3,"sec"#
        );
        // Too large for any clock, but no reason to panic.
        let text = format!(r#"{{"code":1,"seconds":{},"nanos":4294967295}}"#, u64::MAX);
        std::fs::write(&path, text).expect("write");
        assert_eq!(load_exit(bundle.path()).map(|exit| exit.code), Some(1));
    }

    #[test]
    fn a_command_that_cannot_be_read_is_an_error() {
        let bundle = tempfile::tempdir().expect("tempdir");
        assert!(load_command(bundle.path()).expect("absent").is_none());
        std::fs::write(bundle.path().join(COMMAND), "{}").expect("write");
        load_command(bundle.path()).expect_err("malformed");
        std::fs::write(bundle.path().join(COMMAND), r#"{"version":2}"#).expect("write");
        load_command(bundle.path()).expect_err("newer");
    }
}
