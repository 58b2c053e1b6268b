//! The agent's own directories, with the modes of the stock kubelet: nobody else on the machine looks into a pod.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Of the agent's root directory. Volumes below it are open to all users, since containers run as any.
const ROOT: u32 = 0o700;
/// Of everything of the agent's below it, and of the directory of all logs.
const BELOW: u32 = 0o750;

/// Makes what the agent needs at its start. A root directory that was there before is closed to others, too.
pub(crate) fn prepare(root: &Path, logs: &Path) -> Result<(), (PathBuf, io::Error)> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| (path, error)
    };
    if let Some(parent) = root.parent() {
        fs::create_dir_all(parent).map_err(failed(parent))?;
    }
    make_with(root, ROOT).map_err(failed(root))?;
    fs::set_permissions(root, Permissions::from_mode(ROOT)).map_err(failed(root))?;
    let pods = root.join("pods");
    make(&pods).map_err(failed(&pods))?;
    if let Some(parent) = logs.parent() {
        fs::create_dir_all(parent).map_err(failed(parent))?;
    }
    make(logs).map_err(failed(logs))
}

/// Makes a directory of the agent's and those above it, where they are missing.
pub(crate) fn make(path: &Path) -> io::Result<()> {
    make_with(path, BELOW)
}

fn make_with(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_the_agents_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (root, logs) = (dir.path().join("var/node"), dir.path().join("log/pods"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        fs::create_dir_all(&root).unwrap();
        fs::set_permissions(&root, Permissions::from_mode(0o755)).unwrap();
        prepare(&root, &logs).unwrap();
        assert_eq!((mode(&root), mode(&root.join("pods"))), (0o700, 0o750));
        assert_eq!(mode(&logs), 0o750);
        make(&root.join("pods/u/volumes")).unwrap();
        assert_eq!(mode(&root.join("pods/u")), 0o750);
    }
}
