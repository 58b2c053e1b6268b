//! What the shim notes in a bundle, so that it outlives the shim.

use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::client::Exit;

const EXIT: &str = "exit.json";

#[derive(Debug, Serialize, Deserialize)]
struct ExitNote {
    code: u32,
    seconds: u64,
    nanos: u32,
}

/// Notes how the container's first process ended.
///
/// # Errors
/// When the bundle can't be written.
pub fn save_exit(bundle: &Path, exit: Exit) -> std::io::Result<()> {
    let at = exit
        .at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let note = ExitNote {
        code: exit.code,
        seconds: at.as_secs(),
        nanos: at.subsec_nanos(),
    };
    let temporary = bundle.join(".exit.json");
    std::fs::write(&temporary, serde_json::to_vec(&note)?)?;
    std::fs::rename(&temporary, bundle.join(EXIT))
}

/// Reads it back.
#[must_use]
pub fn load_exit(bundle: &Path) -> Option<Exit> {
    let note: ExitNote = serde_json::from_slice(&std::fs::read(bundle.join(EXIT)).ok()?).ok()?;
    Some(Exit {
        code: note.code,
        at: SystemTime::UNIX_EPOCH + Duration::new(note.seconds, note.nanos),
    })
}
