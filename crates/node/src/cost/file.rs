//! The file with what was measured, so that a restart forgets nothing.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use berth_cost::Ledger;

/// A ledger is never longer: 128 classes with all their counts.
const MAX_BYTES: u64 = 64 << 20;

/// Why there is nothing to go on from. The file is put aside, so that the next one can be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{reason}; the file is kept as {kept}")]
    Malformed { reason: String, kept: String },
}

/// Reads it; empty when there is none.
pub(super) fn load(path: &Path) -> Result<Ledger, LoadError> {
    let mut text = Vec::new();
    match fs::File::open(path) {
        Ok(file) => file.take(MAX_BYTES).read_to_end(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ledger::default()),
        Err(error) => return Err(error.into()),
    };
    match serde_json::from_slice(&text) {
        Ok(ledger) => Ok(ledger),
        Err(error) => {
            let aside = path.with_extension("json.unreadable");
            fs::rename(path, &aside)?;
            Err(LoadError::Malformed {
                reason: error.to_string(),
                kept: aside.display().to_string(),
            })
        }
    }
}

/// Writes it whole or not at all.
pub(super) fn save(path: &Path, ledger: &Ledger) -> io::Result<()> {
    let text = serde_json::to_vec(ledger)?;
    let new = path.with_extension("json.new");
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_cost::{ClassKey, Cost, Parts, State};

    #[test]
    fn what_is_written_is_read_and_what_is_broken_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("overhead.json");
        assert_eq!(load(&path).unwrap(), Ledger::default());
        let mut ledger = Ledger::default();
        let cost = Cost {
            state: State::Idle,
            memory: Parts::default(),
            cpu: Parts::default(),
        };
        ledger.add(&ClassKey::default(), &cost, true, 1);
        save(&path, &ledger).unwrap();
        assert_eq!(load(&path).unwrap(), ledger);
        fs::write(&path, "{\"version\":1").unwrap();
        let error = load(&path).unwrap_err().to_string();
        assert!(error.contains("overhead.json.unreadable"), "{error}");
        assert!(!path.exists() && dir.path().join("overhead.json.unreadable").exists());
        save(&path, &ledger).unwrap();
        assert_eq!(load(&path).unwrap(), ledger);
    }
}
