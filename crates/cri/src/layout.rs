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
//!   bundles/ID/{config.json,rootfs}  of containers and of sandbox containers
//!   runtime/HANDLER/               the runtimes' own state
//!   s/                             shims' sockets
//! ```

use std::path::{Path, PathBuf};

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

    /// Directories that have to be there before anything else.
    pub(crate) fn all(&self) -> [PathBuf; 7] {
        [
            self.images(),
            self.sandboxes(),
            self.containers(),
            self.pods(),
            self.bundles(),
            self.state.join("runtime"),
            self.sockets(),
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

/// Removes a directory tree that may be gone already.
pub(crate) fn remove_tree(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
