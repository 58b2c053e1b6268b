//! The directories that shims make for a sandbox, with what is mounted in them, and its cgroups.
//!
//! Their last part is the sandbox's id, 64 random digits, so they are nobody else's. What lies in them a guest may have
//! filled: no link in them is followed.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use berth_oci::cgroup::Cgroups;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags, openat2, statx};
use rustix::mount::{UnmountFlags, unmount};

/// Where they are, below which a sandbox's directory has its id for a name. All are Kata's: what it shares with the guest,
/// and the state, sockets and jails of its monitors, of the shim in Rust (`/run/kata`) and of the one in Go (`/run/vc`).
const PARENTS: [&str; 7] = [
    "/run/kata-containers/shared/sandboxes",
    "/run/kata-containers/shared/initdata",
    "/run/kata/firecracker",
    "/run/kata",
    "/run/vc/sbs",
    "/run/vc/vm",
    "/run/vc/firecracker",
];

/// The directories that a sandbox may have; `more` are where its handler's shim makes some besides.
pub(super) fn of(id: &str, more: &[PathBuf]) -> Vec<PathBuf> {
    let parents = PARENTS.iter().map(Path::new);
    parents
        .chain(more.iter().map(PathBuf::as_path))
        .map(|parent| parent.join(id))
        .collect()
}

/// Unmounts all that is mounted there or below, and removes the directory. Blocks.
pub(super) fn remove(directory: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (directory.parent(), directory.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // The way to it is the administrator's, who may have made links; mount tables know none.
    let directory = match parent.canonicalize() {
        Ok(parent) => parent.join(name),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    match directory.symlink_metadata() {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    unmount_below(&directory)?;
    berth_tree::remove(&directory)
}

/// A mount: its id, and where it is.
#[derive(Debug, PartialEq, Eq)]
struct Mounted {
    id: u64,
    point: PathBuf,
}

fn unmount_below(directory: &Path) -> io::Result<()> {
    loop {
        let table = std::fs::read("/proc/self/mountinfo")?;
        let mounts: Vec<Mounted> = parse(&table)
            .into_iter()
            .filter(|mounted| mounted.point.starts_with(directory))
            .collect();
        if mounts.is_empty() {
            return Ok(());
        }
        // The last first; what another mount hides comes to light when that is gone.
        let mut last = None;
        let mut progress = false;
        for mounted in mounts.iter().rev() {
            match unmount_one(mounted) {
                Ok(gone) => progress |= gone,
                Err(error) => last = Some(error),
            }
        }
        if !progress {
            let what = || io::Error::other("something is mounted in it that can't be reached");
            return Err(last.unwrap_or_else(what));
        }
    }
}

/// Unmounts exactly this; false when it can't be reached at its place, or is gone.
fn unmount_one(mounted: &Mounted) -> io::Result<bool> {
    let Ok(found) = reach(&mounted.point) else {
        return Ok(false);
    };
    // Its file system may have died with the shim, and is not asked for anything.
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let seen = statx(&found, "", flags, StatxFlags::MNT_ID)?;
    if seen.stx_mnt_id != mounted.id {
        return Ok(false);
    }
    // By its descriptor, so by no path that could be another's by now; open it is busy, hence detached.
    let path = format!("/proc/self/fd/{}", found.as_raw_fd());
    unmount(path, UnmountFlags::DETACH)?;
    Ok(true)
}

/// Opens a place without following links. A guest that moves what it shares may make the way there longer than the kernel
/// takes at once.
fn reach(place: &Path) -> rustix::io::Result<OwnedFd> {
    const PART: usize = 2048;
    let open = |at: BorrowedFd<'_>, part: &Path| {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        openat2(at, part, flags, Mode::empty(), resolve)
    };
    let mut at = open(CWD, Path::new("/"))?;
    let mut part = PathBuf::new();
    for component in place.strip_prefix("/").unwrap_or(place).components() {
        if part.as_os_str().len() + component.as_os_str().len() > PART {
            at = open(at.as_fd(), &part)?;
            part = PathBuf::new();
        }
        part.push(component);
    }
    match part.as_os_str().is_empty() {
        true => Ok(at),
        false => open(at.as_fd(), &part),
    }
}

fn parse(table: &[u8]) -> Vec<Mounted> {
    table
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let mut fields = line.split(|byte| *byte == b' ');
            let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
            let point = unescape(fields.nth(3)?);
            Some(Mounted { id, point })
        })
        .collect()
}

/// mountinfo writes blanks, tabs, line ends and backslashes as a backslash and three octal digits.
fn unescape(text: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        let digits = tail
            .get(..3)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                out.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    std::ffi::OsString::from_vec(out).into()
}

/// Removes cgroups that have the name of a sandbox or container and no process. Those that stay hold nothing up.
pub(super) fn remove_cgroups(cgroups: &Cgroups, paths: &[PathBuf]) {
    let hierarchies: BTreeSet<&PathBuf> = cgroups.mounts.values().chain(&cgroups.unified).collect();
    for hierarchy in hierarchies {
        for path in paths {
            let path = berth_oci::cgroup::directory(path);
            let directory = hierarchy.join(path.strip_prefix("/").unwrap_or(&path));
            remove_cgroup(&directory, LEVELS);
        }
    }
}

/// A container may have made cgroups in its own, as deep as it likes.
const LEVELS: usize = 16;

fn remove_cgroup(directory: &Path, levels: usize) {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries {
        if levels > 0 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path(), levels - 1);
        }
    }
    let _ = std::fs::remove_dir(directory);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn mount_tables_are_read_with_all_that_a_name_can_have() {
        let table = b"36 35 98:0 / /run/a\\040b\\134\\011\\012x rw - ext3 /dev/root rw\n\
            37 36 98:0 /mnt1 /run/\xff rw,noatime master:1 - ext3 /dev/root rw\nbroken\n";
        use std::os::unix::ffi::OsStrExt;
        let point = |bytes: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
        assert_eq!(
            parse(table),
            [
                Mounted {
                    id: 36,
                    point: point(b"/run/a b\\\t\nx")
                },
                Mounted {
                    id: 37,
                    point: point(b"/run/\xff")
                }
            ]
        );
        assert_eq!(unescape(b"/a\\9"), Path::new("/a\\9"));
    }

    #[test]
    fn mounts_below_go_and_what_links_name_stays() {
        use rustix::mount::{MountFlags, mount, mount_bind};
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let top = tempfile::tempdir().unwrap();
        let dir = top.path().join("sandbox");
        let other = top.path().join("other");
        for path in [dir.join("shared/a b"), dir.join("mounts"), other.join("m")] {
            std::fs::create_dir_all(path).unwrap();
        }
        std::fs::write(other.join("file"), "theirs").unwrap();
        let tmpfs = |target: &Path| {
            let nothing = None::<&std::ffi::CStr>;
            mount("tmpfs", target, "tmpfs", MountFlags::empty(), nothing).unwrap();
        };
        tmpfs(&other.join("m"));
        // Stacked, nested, the directory itself, a file, and one that shows what others have.
        mount_bind(&dir, &dir).unwrap();
        tmpfs(&dir.join("shared"));
        tmpfs(&dir.join("shared"));
        std::fs::create_dir(dir.join("shared/a b")).unwrap();
        tmpfs(&dir.join("shared/a b"));
        mount_bind(&other, dir.join("mounts")).unwrap();
        std::fs::write(dir.join("target"), "").unwrap();
        mount_bind(other.join("file"), dir.join("target")).unwrap();
        symlink(other.join("m"), dir.join("link")).unwrap();
        remove(&dir).unwrap();
        assert!(!dir.exists());
        assert_eq!(
            std::fs::read_to_string(other.join("file")).unwrap(),
            "theirs"
        );
        let table = std::fs::read("/proc/self/mountinfo").unwrap();
        let mounted = |point: &Path| parse(&table).iter().any(|mounted| mounted.point == point);
        assert!(mounted(&other.join("m")), "somebody else's mount is gone");
        // A link in the directory's place is not followed, and told.
        symlink(&other, &dir).unwrap();
        remove(&dir).unwrap_err();
        assert!(other.join("file").exists());
        unmount(other.join("m"), UnmountFlags::DETACH).unwrap();
        // Nothing there is fine.
        remove(&top.path().join("none")).unwrap();
    }

    #[test]
    fn no_way_to_a_mount_is_too_long() {
        use rustix::fs::{mkdirat, openat};
        use rustix::mount::{MountFlags, mount};
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let top = tempfile::tempdir().unwrap();
        let dir = top.path().join("sandbox");
        std::fs::create_dir(&dir).unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut at = rustix::fs::open(&dir, flags, Mode::empty()).unwrap();
        let name = "d".repeat(250);
        for _ in 0..40 {
            mkdirat(&at, &name, Mode::RWXU).unwrap();
            at = openat(&at, &name, flags, Mode::empty()).unwrap();
        }
        let place = format!("/proc/self/fd/{}", at.as_raw_fd());
        let nothing = None::<&std::ffi::CStr>;
        mount("tmpfs", place, "tmpfs", MountFlags::empty(), nothing).unwrap();
        drop(at);
        remove(&dir).unwrap();
        assert!(!dir.exists());
    }
}
