//! The files that the installer has put into its folder on the node: it takes away these, and no others.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::installer::host::Host;

fn path(dir: &Path) -> PathBuf {
    dir.join("made.json")
}

/// Their names below the folder.
///
/// # Errors
/// When the note of them can't be read.
pub(crate) fn names(host: &Host, dir: &Path) -> anyhow::Result<BTreeSet<String>> {
    let path = path(dir);
    let Some(text) = host.read_text(&path)? else {
        return Ok(BTreeSet::new());
    };
    serde_json::from_str(&text).with_context(|| {
        format!(
            "{} of the node can't be read: remove it, and what the installer has in its folder",
            path.display()
        )
    })
}

/// Writes a file there, and notes before that it does.
///
/// # Errors
/// When it can't be written.
pub(crate) fn write(
    host: &Host,
    dir: &Path,
    name: &str,
    bytes: &[u8],
    mode: u32,
) -> anyhow::Result<()> {
    let mut names = names(host, dir)?;
    if names.insert(name.to_owned()) {
        note(host, dir, &names)?;
    }
    host.write(&dir.join(name), bytes, mode)
}

/// Removes a file that was noted.
///
/// # Errors
/// When it can't be removed.
pub(crate) fn take(host: &Host, dir: &Path, name: &str) -> anyhow::Result<()> {
    let mut names = names(host, dir)?;
    if names.contains(name) {
        host.remove(&dir.join(name))?;
        names.remove(name);
        note(host, dir, &names)?;
    }
    Ok(())
}

fn note(host: &Host, dir: &Path, names: &BTreeSet<String>) -> anyhow::Result<()> {
    if names.is_empty() {
        return host.remove(&path(dir));
    }
    host.write(
        &path(dir),
        serde_json::to_string_pretty(names)?.as_bytes(),
        0o600,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_others_in_the_folder_stay() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(root.path());
        let dir = Path::new("/opt/berth");
        let theirs = Path::new("/opt/berth/handlers/theirs.json");
        host.write(theirs, b"x", 0o644).unwrap();
        write(&host, dir, "handlers/a.json", b"a", 0o644).unwrap();
        write(&host, dir, "bin/b", b"b", 0o755).unwrap();
        take(&host, dir, "handlers/theirs.json").unwrap();
        take(&host, dir, "handlers/a.json").unwrap();
        assert_eq!(
            names(&host, dir).unwrap(),
            BTreeSet::from(["bin/b".to_owned()])
        );
        take(&host, dir, "bin/b").unwrap();
        assert_eq!(host.names(dir), ["bin", "handlers"]);
        assert_eq!(host.names(&dir.join("handlers")), ["theirs.json"]);
    }
}
