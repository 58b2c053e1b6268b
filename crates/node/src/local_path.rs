//! Volumes that are directories of this node, below one directory of the agent's: made for the controller that asks, removed when
//! the volume's object says that it may be.
//!
//! ```text
//!   root (0700, root's)
//!   └── pvc-UID (0777)    what the pods of one claim see; they can make any links in it, and none counts outside
//! ```
//!
//! No name comes from a user: [`berth_core::local_path::is_volume_name`] knows what a name is. The root is opened once for each
//! step, and what is done is done below the descriptor, so nothing that is renamed meanwhile leads elsewhere.

use std::collections::HashSet;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, ResolveFlags, fchmod, fstat, fstatvfs, fsync, mkdirat, openat,
    openat2, unlinkat,
};
use rustix::io::Errno;

/// With less left than this the disk counts as full.
const LEAST_FREE: u64 = 1 << 20;

/// Why a directory can't be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalPathError {
    #[error("the directory for local-path volumes {} can't be used: {reason}", path.display())]
    Root { path: PathBuf, reason: String },
    #[error("the disk of the directory for local-path volumes {} is full", path.display())]
    Full { path: PathBuf },
    #[error("the directory of the volume {} is missing: somebody has removed it, or its disk is not mounted", path.display())]
    Missing { path: PathBuf },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// The directory of them all.
pub(crate) struct LocalPath {
    root: PathBuf,
    /// Directories that are being removed: a large one takes longer than a request.
    removing: Mutex<HashSet<String>>,
}

/// A directory that is there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Made {
    pub(crate) path: PathBuf,
    /// What is left on the disk.
    pub(crate) free_bytes: u64,
}

/// Makes the root where it is the agent's own.
pub(crate) fn prepare(root: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(root)
}

impl LocalPath {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self {
            root,
            removing: Mutex::default(),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Opens the root, which nobody but root may write: who could, would exchange one volume for another.
    fn open(&self) -> Result<OwnedFd, LocalPathError> {
        let unusable = |reason: String| LocalPathError::Root {
            path: self.root.clone(),
            reason,
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = openat(CWD, &self.root, flags, Mode::empty());
        let root = root.map_err(|error| match error {
            Errno::NOENT => unusable("it is missing".to_owned()),
            Errno::LOOP | Errno::NOTDIR => unusable("it is no directory".to_owned()),
            error => unusable(error.to_string()),
        })?;
        let meta = fs::metadata(place(&root)).map_err(|error| unusable(error.to_string()))?;
        if meta.uid() != rustix::process::geteuid().as_raw() {
            return Err(unusable("it is not root's".to_owned()));
        }
        if meta.mode() & 0o033 != 0 {
            let mode = meta.mode() & 0o7777;
            return Err(unusable(format!(
                "others than root may write to it or enter it (mode {mode:04o})"
            )));
        }
        Ok(root)
    }

    fn io(&self, name: &str) -> impl Fn(Errno) -> LocalPathError {
        let path = self.root.join(name);
        move |error| LocalPathError::Io {
            path: path.clone(),
            source: error.into(),
        }
    }

    /// Makes the directory of a volume, or finds it. `name` is one of [`berth_core::local_path`].
    pub(crate) fn make(&self, name: &str) -> Result<Made, LocalPathError> {
        let root = self.open()?;
        let full = || LocalPathError::Full {
            path: self.root.clone(),
        };
        let stat = fstatvfs(&root).map_err(self.io(""))?;
        let free_bytes = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free_bytes < LEAST_FREE {
            return Err(full());
        }
        // Containers run as any user. The mode is set after it, since the process has a mask.
        match mkdirat(&root, name, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(Errno::NOSPC | Errno::DQUOT) => return Err(full()),
            Err(error) => return Err(self.io(name)(error)),
        }
        let dir = below(&root, name).map_err(self.io(name))?;
        if fstat(&dir).map_err(self.io(name))?.st_mode & 0o7777 == 0o700 {
            fchmod(&dir, Mode::from_raw_mode(0o777)).map_err(self.io(name))?;
        }
        // The volume's object is written after this, and says that the directory is there.
        fsync(&root).map_err(self.io(""))?;
        Ok(Made {
            path: self.root.join(name),
            free_bytes,
        })
    }

    /// Where the directory of a volume is.
    pub(crate) fn find(&self, name: &str) -> Result<PathBuf, LocalPathError> {
        let root = self.open()?;
        let path = self.root.join(name);
        match below(&root, name) {
            Ok(_) => Ok(path),
            Err(Errno::NOENT) => Err(LocalPathError::Missing { path }),
            Err(error) => Err(self.io(name)(error)),
        }
    }

    /// Removes the directory with everything in it: of any depth, no link followed, nothing that is mounted in it touched.
    pub(crate) fn remove(&self, name: &str) -> Result<(), LocalPathError> {
        let root = self.open()?;
        // By the descriptor: the path may lead elsewhere by now.
        let removed = berth_tree::remove(&place(&root).join(name));
        removed.map_err(|source| LocalPathError::Io {
            path: self.root.join(name),
            source,
        })
    }

    /// Removes the directory when nothing is in it.
    pub(crate) fn discard(&self, name: &str) -> Result<(), LocalPathError> {
        let root = self.open()?;
        match unlinkat(&root, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.io(name)(error)),
        }
    }

    /// Takes note that the directory is being removed. False when it was already.
    pub(crate) fn begin_removal(&self, name: &str) -> bool {
        self.removing.lock().insert(name.to_owned())
    }

    pub(crate) fn end_removal(&self, name: &str) {
        self.removing.lock().remove(name);
    }
}

/// The path of what is open.
fn place(open: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()))
}

/// The directory of this name itself: no link, and nothing that is mounted there.
fn below(root: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    openat2(root, name, flags, Mode::empty(), resolve)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    const NAME: &str = "pvc-0b1c2d3e-0000-4000-8000-000000000001";

    fn in_temporary() -> (tempfile::TempDir, LocalPath) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("local-path");
        prepare(&root).unwrap();
        (dir, LocalPath::new(root))
    }

    #[test]
    fn a_directory_is_made_found_and_removed_as_often_as_asked() {
        let (_dir, local) = in_temporary();
        assert!(matches!(
            local.find(NAME),
            Err(LocalPathError::Missing { .. })
        ));
        let made = local.make(NAME).unwrap();
        assert!(made.free_bytes > 0 && made.path == local.root().join(NAME));
        fs::write(made.path.join("data"), "x").unwrap();
        local.make(NAME).unwrap();
        assert_eq!(fs::read_to_string(made.path.join("data")).unwrap(), "x");
        assert_eq!(fs::metadata(&made.path).unwrap().mode() & 0o7777, 0o777);
        assert!(local.discard(NAME).is_err(), "something is in it");
        assert_eq!(local.find(NAME).unwrap(), made.path);
        local.remove(NAME).unwrap();
        local.remove(NAME).unwrap();
        local.discard(NAME).unwrap();
        assert!(!made.path.exists());
        local.make(NAME).unwrap();
        local.discard(NAME).unwrap();
        assert!(!made.path.exists());
    }

    /// What a pod plants in its volume, and what stands where a volume should be.
    #[test]
    fn links_lead_nowhere() {
        let (dir, local) = in_temporary();
        let other = dir.path().join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("precious"), "x").unwrap();
        let made = local.make(NAME).unwrap();
        symlink(&other, made.path.join("link")).unwrap();
        symlink("/", made.path.join("root")).unwrap();
        symlink(other.join("precious"), made.path.join("file")).unwrap();
        local.remove(NAME).unwrap();
        assert!(!made.path.exists() && other.join("precious").exists());
        symlink(&other, &made.path).unwrap();
        assert!(local.find(NAME).is_err());
        assert!(local.make(NAME).is_err());
        assert!(local.remove(NAME).is_err());
        assert!(local.discard(NAME).is_err());
        let mode = fs::metadata(&other).unwrap().mode() & 0o7777;
        assert_ne!(mode, 0o777, "the mode of what the link names stays");
        assert!(other.join("precious").exists());
    }

    #[test]
    fn a_root_that_is_missing_a_link_or_open_to_others_is_told() {
        let (dir, local) = in_temporary();
        let reason = |local: &LocalPath| match local.make(NAME) {
            Err(LocalPathError::Root { reason, .. }) => reason,
            other => panic!("{other:?}"),
        };
        fs::set_permissions(local.root(), fs::Permissions::from_mode(0o770)).unwrap();
        assert!(reason(&local).contains("may write"));
        fs::set_permissions(local.root(), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(reason(&local).contains("or enter it"));
        fs::set_permissions(local.root(), fs::Permissions::from_mode(0o744)).unwrap();
        local.make(NAME).unwrap();
        let link = dir.path().join("link");
        symlink(local.root(), &link).unwrap();
        assert!(reason(&LocalPath::new(link)).contains("no directory"));
        let gone = LocalPath::new(dir.path().join("gone"));
        assert!(reason(&gone).contains("missing"));
        // A removal from a root that is not there has removed nothing.
        assert!(gone.remove(NAME).is_err());
    }

    #[test]
    fn a_full_disk_is_told() {
        use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let flags = MountFlags::empty();
        let options = Some(c"size=2m,mode=0700");
        mount("tmpfs", dir.path(), "tmpfs", flags, options).unwrap();
        let local = LocalPath::new(dir.path().to_owned());
        let before = local.make(NAME).map(|made| made.free_bytes);
        fs::write(dir.path().join(NAME).join("fill"), vec![0; 3 << 19]).unwrap();
        let after = local.make(NAME);
        unmount(dir.path(), UnmountFlags::DETACH).unwrap();
        assert!(before.unwrap() <= 2 << 20);
        assert!(
            matches!(after, Err(LocalPathError::Full { .. })),
            "{after:?}"
        );
    }
}
