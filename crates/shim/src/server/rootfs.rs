//! Mounts what a create request brings along on `bundle/rootfs`.

use std::ffi::CString;
use std::path::Path;

use containerd_shim_protos::api::Mount;
use rustix::mount::{MountFlags, UnmountFlags};

use super::error::Error;

/// Mounts them in order; on failure what was mounted is taken back.
pub(super) fn mount(mounts: &[Mount], target: &Path) -> Result<(), Error> {
    if mounts.is_empty() {
        return Ok(());
    }
    let failed = |source: std::io::Error| Error::File {
        what: "rootfs",
        path: target.to_owned(),
        source,
    };
    std::fs::create_dir_all(target).map_err(failed)?;
    for (done, m) in mounts.iter().enumerate() {
        if let Err(e) = one(m, target) {
            for _ in 0..done {
                unmount(target);
            }
            return Err(failed(e));
        }
    }
    Ok(())
}

/// Takes one mount away, if there is one.
pub(super) fn unmount(target: &Path) {
    let _ = rustix::mount::unmount(target, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
}

fn one(m: &Mount, target: &Path) -> std::io::Result<()> {
    let mut flags = MountFlags::empty();
    let mut data = Vec::new();
    for option in &m.options {
        match option.as_str() {
            "ro" => flags |= MountFlags::RDONLY,
            "rw" | "defaults" => {}
            "nosuid" => flags |= MountFlags::NOSUID,
            "nodev" => flags |= MountFlags::NODEV,
            "noexec" => flags |= MountFlags::NOEXEC,
            "noatime" => flags |= MountFlags::NOATIME,
            "relatime" => flags |= MountFlags::RELATIME,
            "bind" => flags |= MountFlags::BIND,
            "rbind" => flags |= MountFlags::BIND | MountFlags::REC,
            other => data.push(other),
        }
    }
    if flags.contains(MountFlags::BIND) || m.type_ == "bind" {
        let recursive = MountFlags::BIND | (flags & MountFlags::REC);
        rustix::mount::mount(m.source.as_str(), target, "", recursive, None)?;
        let rest = flags - MountFlags::BIND - MountFlags::REC;
        if !rest.is_empty() {
            rustix::mount::mount_remount(target, MountFlags::BIND | rest, "")?;
        }
        return Ok(());
    }
    let data = CString::new(data.join(","))?;
    rustix::mount::mount(
        m.source.as_str(),
        target,
        m.type_.as_str(),
        flags,
        data.as_c_str(),
    )?;
    Ok(())
}
