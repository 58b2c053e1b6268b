//! `subPath` without a way out of the volume.
//!
//! The path is walked with openat2 and `RESOLVE_BENEATH`, so a symbolic link inside the volume can
//! never lead outside, and the opened descriptor itself is bind-mounted to a place of the agent's
//! own: what the container changes afterwards has no effect on what is mounted.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use crate::own_dirs;

/// Why a subPath cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubPathError {
    #[error("subPath {0:?} must be relative and must not contain '..'")]
    Invalid(String),
    #[error("failed to prepare subPath {path:?} of the volume at {}: {source}", volume.display())]
    Open {
        path: String,
        volume: PathBuf,
        source: std::io::Error,
    },
}

/// Binds `sub` below `volume` to `place`, making missing directories.
pub(crate) fn bind(volume: &Path, sub: &str, place: &Path) -> Result<(), SubPathError> {
    let fail = |e: std::io::Error| SubPathError::Open {
        path: sub.to_owned(),
        volume: volume.to_owned(),
        source: e,
    };
    let parts: Vec<&str> = Path::new(sub)
        .components()
        .filter(|c| !matches!(c, Component::CurDir))
        .map(|c| match c {
            Component::Normal(name) => name.to_str(),
            Component::Prefix(_)
            | Component::RootDir
            | Component::CurDir
            | Component::ParentDir => None,
        })
        .collect::<Option<_>>()
        .ok_or_else(|| SubPathError::Invalid(sub.to_owned()))?;
    let target = open(volume, &parts).map_err(|e| fail(e.into()))?;
    let meta = fs::metadata(format!("/proc/self/fd/{}", target.as_raw_fd())).map_err(fail)?;
    if let Some(parent) = place.parent() {
        own_dirs::make(parent).map_err(fail)?;
    }
    if meta.is_dir() {
        own_dirs::make(place).map_err(fail)?;
    } else if !place.exists() {
        fs::write(place, "").map_err(fail)?;
    }
    // A restarted container gets a fresh look at the path.
    while rustix::mount::unmount(
        place,
        rustix::mount::UnmountFlags::DETACH | rustix::mount::UnmountFlags::NOFOLLOW,
    )
    .is_ok()
    {}
    rustix::mount::mount_bind(format!("/proc/self/fd/{}", target.as_raw_fd()), place)
        .map_err(|e| fail(e.into()))
}

fn open(volume: &Path, parts: &[&str]) -> Result<OwnedFd, Errno> {
    let root = rustix::fs::open(volume, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let beneath = |path: &str, flags: OFlags| {
        openat2(
            &root,
            path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
        )
    };
    // New directories are as open as the volume itself: its users have to reach them.
    let mode = Mode::from_raw_mode(rustix::fs::fstat(&root)?.st_mode & 0o7777);
    let mut path = String::from(".");
    let mut here = beneath(&path, OFlags::PATH)?;
    for part in parts {
        path.push('/');
        path.push_str(part);
        here = match beneath(&path, OFlags::PATH) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => {
                match rustix::fs::mkdirat(&here, *part, mode) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(e) => return Err(e),
                }
                let made = beneath(&path, OFlags::DIRECTORY)?;
                rustix::fs::fchmod(&made, mode)?;
                made
            }
            Err(e) => return Err(e),
        };
    }
    Ok(here)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_inside_are_followed_and_links_outside_refused() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("v");
        fs::create_dir_all(volume.join("real/deep")).unwrap();
        symlink("real", volume.join("inside")).unwrap();
        symlink("/etc", volume.join("absolute")).unwrap();
        symlink("../..", volume.join("up")).unwrap();
        assert!(open(&volume, &["real", "deep"]).is_ok());
        assert!(open(&volume, &["inside", "deep"]).is_ok());
        assert!(open(&volume, &["new", "dirs"]).is_ok());
        assert!(volume.join("new/dirs").is_dir());
        assert_eq!(
            open(&volume, &["absolute", "passwd"]).unwrap_err(),
            Errno::XDEV
        );
        assert_eq!(open(&volume, &["up"]).unwrap_err(), Errno::XDEV);
    }

    #[test]
    fn a_parent_is_refused_before_anything_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        for bad in ["../x", "/etc", "a/../b"] {
            let result = bind(dir.path(), bad, &dir.path().join("place"));
            assert!(matches!(result, Err(SubPathError::Invalid(_))), "{bad}");
        }
    }
}
