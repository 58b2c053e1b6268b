//! Paths inside a root file system that an image or a container has filled.
//!
//! A link there means a place in there, whatever it says, and a name may be anything: a FIFO on which an open hangs, a
//! device for which being opened is enough (a watchdog resets the machine), a file without end. So a path is looked up
//! without leaving the root, looked at without being opened, and read up to a limit.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// How often a lookup is repeated that was disturbed by a change of names elsewhere on the machine.
const ATTEMPTS: usize = 64;

/// Finds a path without opening what is there; `None` where nothing is.
pub(crate) fn find(root: &Path, path: &Path) -> io::Result<Option<OwnedFd>> {
    look_up(root, path, OFlags::PATH)
}

/// Opens a directory; `None` where none is.
pub(crate) fn open_dir(root: &Path, path: &Path) -> io::Result<Option<OwnedFd>> {
    look_up(root, path, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// The content of a regular file of at most `limit` bytes; `None` where nothing is.
pub(crate) fn read_file(root: &Path, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let Some(found) = find(root, path)? else {
        return Ok(None);
    };
    if FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) != FileType::RegularFile {
        return Err(unusable("it is not a regular file"));
    }
    // The file that was looked at, and no other that has its name by now.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let link = format!("/proc/self/fd/{}", found.as_raw_fd());
    let file = File::from(rustix::fs::openat(CWD, link, flags, Mode::empty())?);
    let mut content = Vec::new();
    file.take(limit + 1).read_to_end(&mut content)?;
    if u64::try_from(content.len()).unwrap_or(u64::MAX) > limit {
        return Err(unusable(&format!("it has more than {limit} bytes")));
    }
    Ok(Some(content))
}

fn unusable(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

fn look_up(root: &Path, path: &Path, flags: OFlags) -> io::Result<Option<OwnedFd>> {
    let top = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, top, Mode::empty())?;
    let path = path.strip_prefix("/").unwrap_or(path);
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    for _ in 0..ATTEMPTS {
        match rustix::fs::openat2(&root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Ok(found) => return Ok(Some(found)),
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(Errno::AGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Err(Errno::AGAIN.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const LIMIT: u64 = 100;

    fn read(root: &Path, path: &str) -> io::Result<Option<String>> {
        let content = read_file(root, Path::new(path), LIMIT)?;
        Ok(content.map(|content| String::from_utf8(content).unwrap()))
    }

    #[test]
    fn links_mean_places_inside() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("etc/real")).unwrap();
        std::fs::write(dir.path().join("passwd"), "outside").unwrap();
        std::fs::write(root.join("etc/real/passwd"), "inside").unwrap();
        for (name, target) in [
            ("up", "../../passwd"),
            ("host", "/etc/passwd"),
            ("absolute", "/etc/real/passwd"),
            ("magic", "/proc/self/root/etc/passwd"),
        ] {
            symlink(target, root.join("etc").join(name)).unwrap();
        }
        assert_eq!(read(&root, "etc/up").unwrap(), None);
        assert_eq!(read(&root, "/etc/host").unwrap(), None);
        assert_eq!(read(&root, "/etc/magic").unwrap(), None);
        assert_eq!(
            read(&root, "/etc/absolute").unwrap().as_deref(),
            Some("inside")
        );
        assert_eq!(read(&root, "/etc/none").unwrap(), None);
        symlink("loop", root.join("loop")).unwrap();
        read(&root, "loop").unwrap_err();
        assert!(open_dir(&root, Path::new("/")).unwrap().is_some());
        assert!(
            open_dir(&root, Path::new("/etc/absolute"))
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn only_regular_files_are_opened_and_only_so_much_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let mode = nix::sys::stat::Mode::S_IRWXU;
        nix::unistd::mkfifo(&root.join("fifo"), mode).unwrap();
        std::fs::create_dir(root.join("directory")).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap();
        // The null device, in place of one that does harm; as root only.
        let device = nix::sys::stat::makedev(1, 3);
        let kind = nix::sys::stat::SFlag::S_IFCHR;
        let _ = nix::sys::stat::mknod(&root.join("device"), kind, mode, device);
        for name in ["fifo", "directory", "socket", "device"] {
            if root.join(name).exists() {
                let error = read(root, name).unwrap_err();
                assert!(
                    error.to_string().contains("not a regular file"),
                    "{name}: {error}"
                );
            }
        }
        std::fs::write(root.join("full"), "x".repeat(100)).unwrap();
        assert_eq!(read(root, "full").unwrap().unwrap().len(), 100);
        std::fs::write(root.join("over"), "x".repeat(101)).unwrap();
        read(root, "over").unwrap_err();
        // 20 GB that take no room.
        let sparse = File::create(root.join("sparse")).unwrap();
        sparse.set_len(20 << 30).unwrap();
        read(root, "sparse").unwrap_err();
    }
}
