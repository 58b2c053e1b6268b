//! Keeps containers from writing to berth's binary.
//!
//! A process that enters a container still has the binary as its `/proc/self/exe`, and a hostile image can make
//! it execute itself there and write to the file through that link (CVE-2019-5736). So it executes itself from
//! where nobody can write: a private read-only overlay over the binary's directory, which costs next to nothing,
//! or a sealed copy in memory where the kernel has no such overlay.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags, StatVfsMountFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use crate::error::Error;

const SELF: &str = "/proc/self/exe";

/// Returns in a process whose binary is out of reach: this one if it is so, else the same command line anew.
pub(crate) fn ensure() -> Result<(), Error> {
    if is_sealed() {
        return Ok(());
    }
    let binary = overlay().or_else(|_| copy()).map_err(|error| {
        Error::System("protect berth's binary from the container", error.into())
    })?;
    let path = format!("/proc/self/fd/{}", binary.as_raw_fd());
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_default();
    let error = std::process::Command::new(path)
        .arg0(name)
        .args(words)
        .exec();
    Err(Error::System("execute berth's protected binary", error))
}

/// Whether the running binary is on a read-only mount or a sealed file.
fn is_sealed() -> bool {
    let read_only =
        rustix::fs::statvfs(SELF).is_ok_and(|stat| stat.f_flag.contains(StatVfsMountFlags::RDONLY));
    read_only
        || File::open(SELF)
            .and_then(|file| Ok(rustix::fs::fcntl_get_seals(&file)?))
            .is_ok_and(|seals| seals.contains(SealFlags::WRITE))
}

/// The binary in a detached read-only overlay of its directory and an empty one.
fn overlay() -> rustix::io::Result<OwnedFd> {
    let path = std::fs::read_link(SELF).map_err(|_| rustix::io::Errno::NOENT)?;
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(rustix::io::Errno::NOENT);
    };
    // Overlay's options have these characters for themselves.
    if dir
        .to_string_lossy()
        .contains([':', ',', '\\', char::REPLACEMENT_CHARACTER])
    {
        return Err(rustix::io::Errno::INVAL);
    }
    let private = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOSUID;
    let mount = |fs: &str, options: &[(&str, &str)]| {
        let context = rustix::mount::fsopen(fs, FsOpenFlags::FSOPEN_CLOEXEC)?;
        for (key, value) in options {
            rustix::mount::fsconfig_set_string(context.as_fd(), *key, *value)?;
        }
        rustix::mount::fsconfig_create(context.as_fd())?;
        rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, private)
    };
    // An overlay without an upper layer wants two lower ones.
    let empty = mount("tmpfs", &[])?;
    let lower = format!("/proc/self/fd/{}:{}", empty.as_raw_fd(), dir.display());
    let sealed = mount("overlay", &[("lowerdir", &lower)])?;
    let binary = rustix::fs::openat(
        &sealed,
        Path::new(name),
        OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW,
        Mode::empty(),
    )?;
    // The directory may hold another file by that name by now (an upgrade): then it is not ours to run.
    let same = |a: &rustix::fs::Stat, b: &rustix::fs::Stat| {
        a.st_size == b.st_size && a.st_mtime == b.st_mtime && a.st_mtime_nsec == b.st_mtime_nsec
    };
    let (own, found) = (rustix::fs::stat(SELF)?, rustix::fs::fstat(&binary)?);
    same(&own, &found)
        .then_some(binary)
        .ok_or(rustix::io::Errno::STALE)
}

/// The binary in memory, sealed.
fn copy() -> rustix::io::Result<OwnedFd> {
    let io = |error: std::io::Error| {
        rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO)
    };
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut memory = File::from(rustix::fs::memfd_create("berth", flags)?);
    std::io::copy(&mut File::open(SELF).map_err(io)?, &mut memory).map_err(io)?;
    memory.flush().and_then(|()| memory.rewind()).map_err(io)?;
    rustix::fs::fcntl_add_seals(
        &memory,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    Ok(memory.into())
}
