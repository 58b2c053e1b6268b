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
    #[serde(default)]
    oom_killed: bool,
}

/// Notes how the container's first process ended, and whether the kernel killed something in it for want of memory.
///
/// # Errors
/// When the bundle can't be written.
pub fn save_exit(bundle: &Path, exit: Exit, oom_killed: bool) -> std::io::Result<()> {
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
    let temporary = bundle.join(".exit.json");
    std::fs::write(&temporary, serde_json::to_vec(&note)?)?;
    std::fs::rename(&temporary, bundle.join(EXIT))
}

fn note(bundle: &Path) -> Option<ExitNote> {
    serde_json::from_slice(&std::fs::read(bundle.join(EXIT)).ok()?).ok()
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
