//! What the shim notes in a bundle, so that it outlives the shim.

use std::path::Path;
use std::time::{Duration, SystemTime};

use berth_oci::runtime::RuntimeCommand;
use serde::{Deserialize, Serialize};

use crate::client::Exit;

const EXIT: &str = "exit.json";
const COMMAND: &str = "runtime.json";

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

/// Notes how the container's runtime is called.
///
/// # Errors
/// When the bundle can't be written.
pub fn save_command(bundle: &Path, command: &RuntimeCommand) -> std::io::Result<()> {
    std::fs::write(bundle.join(COMMAND), serde_json::to_vec(command)?)
}

/// Reads it back.
#[must_use]
pub fn load_command(bundle: &Path) -> Option<RuntimeCommand> {
    serde_json::from_slice(&std::fs::read(bundle.join(COMMAND)).ok()?).ok()
}
