//! Mounts that show owners as a user namespace counts them (id-mapped mounts, Linux 5.12).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

/// A pod's user namespace, as mounts need it.
#[derive(Debug, Clone, Copy)]
pub struct UserMapping<'a> {
    /// The namespace, with its maps written.
    pub namespace: BorrowedFd<'a>,
    /// Who is user and group 0 of it on the host.
    pub root: (u32, u32),
}

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    namespace: u64,
}

const IDMAP: u64 = 0x0010_0000;

/// A copy of the mount at `source`, with all below it if `recursive`, whose files belong to those whom the namespace
/// maps their owners to. It is nowhere until [`attach`].
///
/// # Errors
/// `EINVAL` when a filesystem knows no mapping, or is mapped already.
pub fn clone_mapped(
    source: &Path,
    namespace: BorrowedFd<'_>,
    recursive: bool,
) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mut at = libc::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
        at |= libc::AT_RECURSIVE;
    }
    let tree = open_tree(CWD, source, flags)?;
    let attributes = Attributes {
        set: IDMAP,
        clear: 0,
        propagation: 0,
        namespace: u64::try_from(namespace.as_raw_fd()).map_err(io::Error::other)?,
    };
    // SAFETY: both descriptors are open, the path is an empty string that AT_EMPTY_PATH allows, and the structure is
    // as large as is said.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            at,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    if done == 0 {
        Ok(tree)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Puts a mount that is nowhere to `target`, a directory or a file as its root is.
///
/// # Errors
/// As move_mount(2).
pub fn attach(tree: impl AsFd, target: &Path) -> io::Result<()> {
    move_mount(
        tree,
        "",
        CWD,
        target,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )?;
    Ok(())
}
