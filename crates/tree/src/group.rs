//! Gives a directory and everything in it to a group, as the stock kubelet does it for a pod's `fsGroup`.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, chownat, fstat, openat, openat2,
};
use rustix::io::Errno;

/// Each level costs a descriptor while it is looked at.
const MOST_LEVELS: usize = 512;

/// Lets the group read and write everything, and gives new files to it: directories get the bit that does so. No link is followed
/// and nothing that is mounted below is touched.
///
/// # Errors
/// When it is no directory, is nested deeper than 512 levels, or something of it cannot be changed.
pub fn give_to_group(path: &Path, group: u32) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = openat(CWD, path, flags, Mode::empty())?;
    give(root.as_fd(), group)?;
    let mut open = vec![read(&root)?];
    while let Some(here) = open.last_mut() {
        let Some(entry) = here.read() else {
            open.pop();
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let Some(found) = enter(here.fd()?, name)? else {
            continue;
        };
        if !give(found.as_fd(), group)? {
            continue;
        }
        if open.len() >= MOST_LEVELS {
            let why = format!(
                "{}: nested deeper than {MOST_LEVELS} levels",
                path.display()
            );
            return Err(io::Error::other(why));
        }
        open.push(read(&found)?);
    }
    Ok(())
}

/// What has this name, opened for nothing but to be named; nothing when it is gone or mounted there.
fn enter(here: BorrowedFd<'_>, name: &CStr) -> Result<Option<std::os::fd::OwnedFd>, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::BENEATH;
    match openat2(here, name, flags, Mode::empty(), resolve) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::XDEV) => Ok(None),
        Err(error) => Err(error),
    }
}

fn read(dir: impl AsFd) -> Result<Dir, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Dir::new(openat(dir, ".", flags, Mode::empty())?)
}

/// Changes one thing. Whether it is a directory.
fn give(found: BorrowedFd<'_>, group: u32) -> io::Result<bool> {
    let kind = FileType::from_raw_mode(fstat(found)?.st_mode);
    chownat(
        found,
        c"",
        None,
        Some(Gid::from_raw(group)),
        AtFlags::EMPTY_PATH,
    )?;
    let (more, is_dir) = match kind {
        FileType::Symlink => return Ok(false),
        FileType::Directory => (0o2770, true),
        _ => (0o660, false),
    };
    let mode = (fstat(found)?.st_mode & 0o7777) | more;
    // The descriptor itself, which is no link: it can have no other name by now.
    let place = format!("/proc/self/fd/{}", found.as_raw_fd());
    fs::set_permissions(place, fs::Permissions::from_mode(mode))?;
    Ok(is_dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    #[test]
    fn everything_is_the_groups_and_links_lead_nowhere() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (root, other) = (dir.path().join("v"), dir.path().join("other"));
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/f"), "x").unwrap();
        fs::set_permissions(root.join("a/f"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::create_dir(&other).unwrap();
        fs::set_permissions(&other, fs::Permissions::from_mode(0o700)).unwrap();
        symlink(&other, root.join("link")).unwrap();
        give_to_group(&root, 4321).unwrap();
        let look = |path: &Path| {
            let meta = fs::symlink_metadata(path).unwrap();
            (meta.gid(), meta.mode() & 0o7777)
        };
        assert_eq!(look(&root.join("a/f")), (4321, 0o660));
        assert_eq!(look(&root.join("a/b")), (4321, 0o2775));
        assert_eq!(look(&root).0, 4321);
        assert_eq!(fs::symlink_metadata(root.join("link")).unwrap().gid(), 4321);
        assert_eq!(
            look(&other),
            (0, 0o700),
            "what the link names stays as it is"
        );
        symlink(&other, dir.path().join("direct")).unwrap();
        assert!(give_to_group(&dir.path().join("direct"), 4321).is_err());
    }
}
