//! Volumes that an image declares (`VOLUME`): each container gets directories of its own for them, with what the
//! image has there, writable where the root file system is not, and gone with the container.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use berth_cri_api::v1::ContainerConfig;
use berth_image::ImageConfig;
use berth_oci::{Mount, Propagation};
use rustix::fs::{AtFlags, CWD, Mode, Timespec, Timestamps, XattrFlags};

use crate::engine::Engine;
use crate::error::CriError;
use crate::inside;

/// No image needs more. Each is a copy of what the image has there, which can be all of it.
const MOST_VOLUMES: usize = 64;

/// The directory of all volumes of a container.
pub(crate) fn folder(engine: &Engine, id: &str) -> PathBuf {
    engine.layout.container_record(id).join("volumes")
}

/// The volumes' places in the container, and where they are on the host.
fn places(
    engine: &Engine,
    id: &str,
    config: &ContainerConfig,
    image: &ImageConfig,
) -> Vec<(PathBuf, PathBuf)> {
    let folder = folder(engine, id);
    let mut seen = BTreeSet::new();
    let taken: Vec<PathBuf> = config
        .mounts
        .iter()
        .map(|mount| clean(Path::new(&mount.container_path)))
        .collect();
    image
        .volumes
        .iter()
        .map(|volume| clean(Path::new(volume)))
        .enumerate()
        // The root is no volume, and what the pod mounts there wins.
        .filter(|(_, path)| path.parent().is_some() && !taken.contains(path))
        .filter(|(_, path)| seen.insert(path.clone()))
        .map(|(number, path)| (path, folder.join(number.to_string())))
        .collect()
}

/// Makes the volumes of a container whose files are at `rootfs`.
pub(super) fn make(
    engine: &Engine,
    id: &str,
    rootfs: &Path,
    config: &ContainerConfig,
    image: &ImageConfig,
) -> Result<(), CriError> {
    let places = places(engine, id, config, image);
    if places.len() > MOST_VOLUMES {
        return Err(CriError::Invalid(format!(
            "the image declares {} volumes; a container can have {MOST_VOLUMES} of them",
            places.len()
        )));
    }
    let room = |at: &Path, bytes| {
        let room = engine.images.require_space(at, bytes);
        room.map_err(|error| io::Error::new(io::ErrorKind::StorageFull, error))
    };
    for (path, place) in places {
        fs::create_dir_all(&place).map_err(CriError::io("make", &place))?;
        let copied = match inside::open_dir(rootfs, &path) {
            Ok(Some(source)) => {
                // A directory by its descriptor: no link in the image leads out of it.
                let source = PathBuf::from(format!("/proc/self/fd/{}/.", source.as_raw_fd()));
                Copy::new(&place, &room).directory(&source, &place)
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        copied.map_err(CriError::io("fill the image's volume", &place))?;
    }
    Ok(())
}

/// The mounts of the volumes that [`make`] made.
pub(super) fn mounts(
    engine: &Engine,
    id: &str,
    config: &ContainerConfig,
    image: &ImageConfig,
) -> Vec<Mount> {
    places(engine, id, config, image)
        .into_iter()
        .map(|(container_path, host_path)| Mount {
            container_path,
            host_path,
            readonly: false,
            recursive_read_only: false,
            propagation: Propagation::Private,
            options: Vec::new(),
        })
        .collect()
}

/// A path from the root, without `.` and `..`.
fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    out
}

const BLOCK: u64 = 4096;

/// One copy of a tree, by what its files are and not by what links point to.
struct Copy<'a> {
    /// Files with several names: where the first one went.
    links: HashMap<(u64, u64), PathBuf>,
    /// Where all of it goes, and whether so many bytes more may go there.
    to: &'a Path,
    room: &'a dyn Fn(&Path, u64) -> io::Result<()>,
}

impl<'a> Copy<'a> {
    fn new(to: &'a Path, room: &'a dyn Fn(&Path, u64) -> io::Result<()>) -> Self {
        Self {
            links: HashMap::new(),
            to,
            room,
        }
    }

    fn directory(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            self.entry(&entry.path(), &to.join(entry.file_name()))?;
        }
        attributes(from, to, &from.symlink_metadata()?)
    }

    fn entry(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let found = from.symlink_metadata()?;
        let kind = found.file_type();
        if kind.is_dir() {
            (self.room)(self.to, BLOCK)?;
            fs::create_dir(to)?;
            return self.directory(from, to);
        }
        if found.nlink() > 1 {
            let key = (found.dev(), found.ino());
            if let Some(first) = self.links.get(&key) {
                return fs::hard_link(first, to);
            }
            self.links.insert(key, to.to_owned());
        }
        // A file without content takes room, too. What is sparse here may not be so there.
        (self.room)(self.to, found.len().max(BLOCK))?;
        if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(from)?, to)?;
        } else if kind.is_file() {
            fs::copy(from, to)?;
        } else {
            let mode = rustix::fs::FileType::from_raw_mode(found.mode());
            rustix::fs::mknodat(CWD, to, mode, Mode::from_raw_mode(0o600), found.rdev())?;
        }
        attributes(from, to, &found)
    }
}

/// Owner, mode, extended attributes and times.
fn attributes(from: &Path, to: &Path, found: &fs::Metadata) -> io::Result<()> {
    let owner = (
        Some(rustix::process::Uid::from_raw(found.uid())),
        Some(rustix::process::Gid::from_raw(found.gid())),
    );
    rustix::fs::chownat(CWD, to, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
    if !found.file_type().is_symlink() {
        fs::set_permissions(to, fs::Permissions::from_mode(found.mode() & 0o7777))?;
        extended(from, to)?;
    }
    let time = |seconds, nanoseconds| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = Timestamps {
        last_access: time(found.atime(), found.atime_nsec()),
        last_modification: time(found.mtime(), found.mtime_nsec()),
    };
    Ok(rustix::fs::utimensat(
        CWD,
        to,
        &times,
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

/// Extended attributes, such as files' capabilities; none where the file system has none.
fn extended(from: &Path, to: &Path) -> io::Result<()> {
    let mut names = vec![0_u8; 64 << 10];
    let Ok(length) = rustix::fs::listxattr(from, &mut names[..]) else {
        return Ok(());
    };
    for name in names[..length].split(|byte| *byte == 0) {
        // What the overlay keeps for itself is no part of the file.
        if name.is_empty() || name.starts_with(b"trusted.overlay.") {
            continue;
        }
        let mut value = vec![0_u8; 64 << 10];
        let length = rustix::fs::getxattr(from, name, &mut value[..])?;
        match rustix::fs::setxattr(to, name, &value[..length], XattrFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below_the_root() {
        for (path, want) in [
            ("/data", "/data"),
            ("data/", "/data"),
            ("/a/../../b/./c", "/b/c"),
            ("/", "/"),
            ("..", "/"),
        ] {
            assert_eq!(clean(Path::new(path)), PathBuf::from(want), "{path}");
        }
    }

    #[test]
    fn a_tree_is_copied_as_it_is_and_links_lead_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let (root, to) = (dir.path().join("root"), dir.path().join("to"));
        fs::create_dir_all(root.join("real/sub")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(dir.path().join("outside"), "outside").unwrap();
        fs::write(root.join("real/file"), "inside").unwrap();
        fs::set_permissions(root.join("real/file"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::hard_link(root.join("real/file"), root.join("real/sub/again")).unwrap();
        std::os::unix::fs::symlink("../../outside", root.join("real/link")).unwrap();
        // The volume's path is a link too, which means the image's own root.
        std::os::unix::fs::symlink("/real", root.join("data")).unwrap();
        let source = inside::open_dir(&root, Path::new("/data"))
            .unwrap()
            .unwrap();
        let source = PathBuf::from(format!("/proc/self/fd/{}/.", source.as_raw_fd()));
        Copy::new(&to, &|_, _| Ok(()))
            .directory(&source, &to)
            .unwrap();
        let file = fs::metadata(to.join("file")).unwrap();
        assert_eq!((file.mode() & 0o7777, file.nlink()), (0o640, 2));
        assert_eq!(
            fs::read_link(to.join("link")).unwrap(),
            Path::new("../../outside")
        );
        assert_eq!(fs::read_to_string(to.join("sub/again")).unwrap(), "inside");
        // No more is copied than there is room for.
        let left = std::cell::Cell::new(2 * BLOCK);
        let room = |_: &Path, bytes: u64| {
            let rest = left.get().checked_sub(bytes);
            left.set(rest.ok_or(io::ErrorKind::StorageFull)?);
            Ok(())
        };
        let other = dir.path().join("other");
        fs::create_dir(&other).unwrap();
        let error = Copy::new(&other, &room).directory(&source, &other);
        assert_eq!(error.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(
            inside::open_dir(&root, Path::new("/none"))
                .unwrap()
                .is_none()
        );
        assert!(
            inside::open_dir(&root, Path::new("/real/file"))
                .unwrap()
                .is_none()
        );
    }
}
