//! What berth mounts for a container after its shim was started: images as volumes, and copies of mounts that map owners.
//!
//! A shim that has a mount namespace of its own (as Kata's has) doesn't see them where the host's `/` is a private mount,
//! as it is on machines without systemd. So they are mounted there as well, before Create.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns, unshare};
use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::mount::{OpenTreeFlags, UnmountFlags, open_tree, unmount};

use super::{rootfs, volumes};
use crate::engine::Engine;
use crate::error::CriError;
use crate::record::SandboxRecord;
use crate::sandbox::ProcessId;

/// Mounts in the namespace of the pod's shim what it doesn't see of a container's mounts.
pub(super) fn show(engine: &Engine, id: &str, pod: &SandboxRecord) -> Result<(), CriError> {
    let Some(shim) = apart(pod) else {
        return Ok(());
    };
    for point in points(engine, id) {
        let failed = |error| CriError::io("show to the shim", &point)(error);
        if !is_mount_point(&point).map_err(failed)? {
            continue;
        }
        let flags = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE;
        let tree = open_tree(CWD, &point, flags).map_err(|error| failed(error.into()))?;
        let there = point.clone();
        let attach = move || match is_mount_point(&there)? {
            // It was propagated.
            true => Ok(()),
            false => berth_image::attach(tree, &there),
        };
        in_namespace_of(&shim, attach).map_err(failed)?;
    }
    Ok(())
}

/// Takes away what [`show`] has mounted; what is not there is fine. With the shim its namespace goes, too.
pub(super) fn hide(engine: &Engine, id: &str, pod: &SandboxRecord) {
    let Some(shim) = apart(pod) else {
        return;
    };
    let points = points(engine, id);
    if points.is_empty() {
        return;
    }
    let done = in_namespace_of(&shim, move || {
        for point in points {
            while unmount(&point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_ok() {}
        }
        Ok(())
    });
    if let Err(error) = done {
        tracing::warn!(id, %error, "mounts of a container stay in the namespace of its shim");
    }
}

fn points(engine: &Engine, id: &str) -> Vec<PathBuf> {
    let mapped = rootfs::mapped_root(engine, id);
    let mapped = mapped.exists().then_some(mapped);
    volumes::places(engine, id)
        .into_iter()
        .chain(mapped)
        .collect()
}

/// The pod's shim, if it lives in a mount namespace other than ours.
fn apart(pod: &SandboxRecord) -> Option<OwnedFd> {
    let shim: ProcessId = pod.shim_processes.shim()?;
    let process = shim.open()?;
    let namespace = |of: &str| {
        let found = std::fs::metadata(format!("/proc/{of}/ns/mnt")).ok()?;
        Some((found.dev(), found.ino()))
    };
    let theirs = namespace(&shim.pid.to_string())?;
    (Some(theirs) != namespace("self")).then_some(process)
}

/// Whether something is mounted there: the path lies on another mount than the directory above it.
fn is_mount_point(path: &Path) -> std::io::Result<bool> {
    let mount = |path: &Path| {
        statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::MNT_ID).map(|seen| seen.stx_mnt_id)
    };
    let above = path.parent().unwrap_or(path);
    Ok(mount(path)? != mount(above)?)
}

/// Does something on a thread in the mount namespace of a process, whose directories it sees.
fn in_namespace_of<T: Send>(
    process: &OwnedFd,
    work: impl FnOnce() -> std::io::Result<T> + Send,
) -> std::io::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // The thread's own working directory and root, which the namespace replaces; it ends below.
            unshare(CloneFlags::CLONE_FS)?;
            setns(process.as_fd(), CloneFlags::CLONE_NEWNS)?;
            work()
        });
        thread
            .join()
            .unwrap_or_else(|_| Err(std::io::Error::other("the thread was lost")))
    })
}
