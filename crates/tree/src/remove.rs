//! Removes a directory that a pod has filled: of any depth, and never across a mount.
//!
//! The standard library goes down by recursion, which ends with the stack; a pod can nest directories deeper than
//! that. Here what lies deep is moved up before it is looked into.

use std::ffi::{CStr, CString};
use std::io;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, Mode, OFlags, ResolveFlags, openat, openat2, renameat, unlinkat,
};
use rustix::io::Errno;

/// Directories that are open at a time.
const MOST_LEVELS: usize = 256;

/// Removes the directory and everything in it; one that is not there is removed.
///
/// # Errors
/// When it is no directory, or something is mounted in it: what is mounted stays as it is.
pub fn remove(path: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut moved = 0_u64;
    loop {
        let root = match openat(CWD, path, flags, Mode::empty()) {
            Ok(root) => root,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let before = moved;
        empty(Dir::new(root)?, &mut moved)?;
        if moved == before {
            break;
        }
    }
    match unlinkat(CWD, path, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Empties a directory but for what it moves up into it; counts that in `moved`.
fn empty(root: Dir, moved: &mut u64) -> Result<(), Errno> {
    let mut open: Vec<(Dir, CString)> = vec![(root, CString::default())];
    while let Some((here, _)) = open.last_mut() {
        let Some(entry) = here.read() else {
            if let Some((done, name)) = open.pop()
                && let Some((above, _)) = open.last()
            {
                drop(done);
                gone(unlinkat(above.fd()?, &name, AtFlags::REMOVEDIR))?;
            }
            continue;
        };
        let name = entry?.file_name().to_owned();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match unlinkat(here.fd()?, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error),
        }
        if open.len() < MOST_LEVELS {
            if let Some((here, _)) = open.last()
                && let Some(below) = enter(here, &name)?
            {
                open.push((below, name));
            }
            continue;
        }
        if let (Some((here, _)), Some((root, _))) = (open.last(), open.first()) {
            move_up(here, &name, root, moved)?;
        }
    }
    Ok(())
}

fn enter(here: &Dir, name: &CStr) -> Result<Option<Dir>, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // What is mounted there is somebody else's.
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH;
    match openat2(here.fd()?, name, flags, Mode::empty(), resolve) {
        Ok(below) => Dir::new(below).map(Some),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Gives a deep directory a name in the root that nothing there has.
fn move_up(here: &Dir, name: &CStr, root: &Dir, moved: &mut u64) -> Result<(), Errno> {
    loop {
        *moved += 1;
        let place = format!(".deep-{}-{moved}", rand::random::<u64>());
        match renameat(here.fd()?, name, root.fd()?, place.as_str()) {
            Err(Errno::EXIST | Errno::NOTEMPTY) => {}
            result => return gone(result),
        }
    }
}

fn gone(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn directories_nested_deeper_than_the_stack_go() {
        // So many are slow to make on a disk.
        let memory = Path::new("/dev/shm");
        let dir = match memory.is_dir() {
            true => tempfile::tempdir_in(memory).unwrap(),
            false => tempfile::tempdir().unwrap(),
        };
        let root = dir.path().join("v");
        fs::create_dir(&root).unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut here = openat(CWD, &root, flags, Mode::empty()).unwrap();
        for _ in 0..20_000 {
            rustix::fs::mkdirat(&here, "d", Mode::RWXU).unwrap();
            here = openat(&here, "d", flags, Mode::empty()).unwrap();
        }
        drop(here);
        fs::write(root.join("d/d/f"), "x").unwrap();
        remove(&root).unwrap();
        assert!(!root.exists());
        remove(&root).unwrap();
    }

    #[test]
    fn what_is_mounted_in_it_stays() {
        use rustix::mount::{UnmountFlags, mount_bind, unmount};
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let (root, other) = (dir.path().join("v"), dir.path().join("other"));
        fs::create_dir_all(root.join("a/point")).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(other.join("f"), "x").unwrap();
        mount_bind(&other, root.join("a/point")).unwrap();
        let error = remove(&root).unwrap_err();
        unmount(root.join("a/point"), UnmountFlags::DETACH).unwrap();
        assert_eq!(error.raw_os_error(), Some(Errno::XDEV.raw_os_error()));
        assert_eq!(fs::read_to_string(other.join("f")).unwrap(), "x");
        remove(&root).unwrap();
        assert!(!root.exists());
    }

    #[test]
    fn links_are_removed_and_what_they_name_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (root, other) = (dir.path().join("v"), dir.path().join("other"));
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(other.join("f"), "x").unwrap();
        symlink(&other, root.join("a/link")).unwrap();
        remove(&root).unwrap();
        assert!(other.join("f").exists() && !root.exists());
        // The directory itself may be none either.
        symlink(&other, &root).unwrap();
        assert!(remove(&root).is_err());
        assert!(other.join("f").exists());
    }
}
