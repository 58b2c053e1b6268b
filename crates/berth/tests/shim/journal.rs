//! What tests read of the calls that came.

use std::io::Write;
use std::path::Path;

use serde_json::Value;

/// Adds a line to `calls`, whole.
pub(crate) fn call(dir: &Path, call: &Value) {
    let _ = std::fs::create_dir_all(dir);
    let file = std::fs::File::options()
        .append(true)
        .create(true)
        .open(dir.join("calls"));
    if let Ok(mut file) = file {
        let _ = file.write_all(format!("{call}\n").as_bytes());
    }
}

/// Replaces `record/ID.json`.
pub(crate) fn record(dir: &Path, id: &str, record: &Value) -> std::io::Result<()> {
    let folder = dir.join("record");
    std::fs::create_dir_all(&folder)?;
    let temporary = folder.join(format!(".{id}"));
    std::fs::write(&temporary, record.to_string())?;
    std::fs::rename(temporary, folder.join(format!("{id}.json")))
}
