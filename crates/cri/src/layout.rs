//! Which file is where.
//!
//! ```text
//! root_dir/                        survives a reboot
//!   images/                        the image store
//!   sandboxes/ID/record.json
//!   containers/ID/{record.json,volumes/}  volumes that the image declares
//! state_dir/                       cleared by a reboot
//!   pods/ID/{net,ipc,uts}          namespace pins
//!   pods/ID/{shm,hostname,hosts,resolv.conf}
//!   pods/ID/pause/                 the sandbox container's files, where its shim mounts them
//!   bundles/ID/{config.json,rootfs}  of containers and of sandbox containers
//!   bundles/ID/mapped              for a shim to mount: the container's files, owned as its user namespace counts
//!   l/                             short names of layers, for long lists of them
//!   runtime/HANDLER/               the runtimes' own state
//!   s/                             shims' sockets
//! ```

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use berth_shim::private;

use crate::Config;

#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
    state: PathBuf,
}

impl Layout {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            root: config.root_dir.clone(),
            state: config.state_dir.clone(),
        }
    }

    /// Directories that have to be there before anything else, with their modes. Local users have no business in any of
    /// them: images have programs that run as root, whoever calls them, and records and bundles have secrets. Where
    /// something lies that a pod's own user namespace mounts, its root (nobody special on the host) may pass through, to
    /// the directories that are open to it ([`make_private`]).
    pub(crate) fn all(&self) -> [(PathBuf, u32); 8] {
        [
            (self.images(), 0o700),
            (self.sandboxes(), 0o700),
            (self.containers(), 0o711),
            (self.pods(), 0o711),
            (self.bundles(), 0o711),
            (self.state.join("runtime"), 0o700),
            (self.sockets(), 0o700),
            (self.layer_links(), 0o700),
        ]
    }

    pub(crate) fn images(&self) -> PathBuf {
        self.root.join("images")
    }

    pub(crate) fn sandboxes(&self) -> PathBuf {
        self.root.join("sandboxes")
    }

    pub(crate) fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    pub(crate) fn sockets(&self) -> PathBuf {
        self.state.join("s")
    }

    pub(crate) fn layer_links(&self) -> PathBuf {
        self.state.join("l")
    }

    pub(crate) fn pods(&self) -> PathBuf {
        self.state.join("pods")
    }

    pub(crate) fn bundles(&self) -> PathBuf {
        self.state.join("bundles")
    }

    pub(crate) fn sandbox_record(&self, id: &str) -> PathBuf {
        self.sandboxes().join(id)
    }

    pub(crate) fn container_record(&self, id: &str) -> PathBuf {
        self.containers().join(id)
    }

    pub(crate) fn pod(&self, id: &str) -> PathBuf {
        self.pods().join(id)
    }

    pub(crate) fn bundle(&self, id: &str) -> PathBuf {
        self.bundles().join(id)
    }
}

/// Makes a directory of [`Layout::all`], or gives one that an older version made its mode.
pub(crate) fn make_shared(dir: &Path, mode: u32) -> io::Result<()> {
    private::create_dir(dir)?;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode))
}

/// Makes a directory of one pod or container: nobody else's, but passable for the root of its user namespace (if it has
/// one), who mounts what lies in it.
///
/// This is also what keeps local users from the programs in a root file system that run as root for everybody: the mount
/// itself can't be `nosuid`, since runtimes bind it into the container with the flags that it has.
pub(crate) fn make_private(dir: &Path, root: Option<(u32, u32)>) -> io::Result<()> {
    private::create_dir(dir)?;
    let mode = match root {
        Some((_, gid)) => {
            std::os::unix::fs::chown(dir, None, Some(gid))?;
            0o710
        }
        None => 0o700,
    };
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode))
}

/// Closes what an older version has left open of a pod or container: its directories, and the spec in its bundle.
pub(crate) fn close_old(
    dirs: &[PathBuf],
    bundle: &Path,
    root: Option<(u32, u32)>,
) -> io::Result<()> {
    for dir in dirs.iter().map(PathBuf::as_path).chain([bundle]) {
        if dir.is_dir() {
            make_private(dir, root)?;
        }
    }
    let closed = std::fs::Permissions::from_mode(0o600);
    match std::fs::set_permissions(bundle.join("config.json"), closed) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes a directory tree that may be gone already; one in which something is mounted stays.
pub(crate) fn remove_tree(path: &Path) -> std::io::Result<()> {
    berth_tree::remove(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_pod_s_directory_is_its_own() {
        let top = tempfile::tempdir().unwrap();
        let dir = top.path().join("pod");
        std::fs::create_dir(&dir).unwrap();
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        make_private(&dir, None).unwrap();
        assert_eq!(dir.metadata().unwrap().mode() & 0o7777, 0o700);
        make_shared(&dir, 0o711).unwrap();
        assert_eq!(dir.metadata().unwrap().mode() & 0o7777, 0o711);
        // Our own group, so that the test needs no privilege.
        let gid = top.path().metadata().unwrap().gid();
        make_private(&dir, Some((70_000, gid))).unwrap();
        let made = dir.metadata().unwrap();
        assert_eq!((made.mode() & 0o7777, made.gid()), (0o710, gid));
    }
}
