//! Root file systems that `Create` brings.

use std::path::Path;

use containerd_shim_protos::api::Mount;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Mounts one over the other on `target`.
pub(crate) fn mount_all(mounts: &[Mount], target: &Path) -> Result<(), String> {
    std::fs::create_dir_all(target).map_err(|e| format!("{}: {e}", target.display()))?;
    for entry in mounts {
        let mut flags = MsFlags::empty();
        let mut data = Vec::new();
        for option in &entry.options {
            match option.as_str() {
                "ro" => flags |= MsFlags::MS_RDONLY,
                "rw" => {}
                "bind" => flags |= MsFlags::MS_BIND,
                "rbind" => flags |= MsFlags::MS_BIND | MsFlags::MS_REC,
                "nosuid" => flags |= MsFlags::MS_NOSUID,
                "nodev" => flags |= MsFlags::MS_NODEV,
                "noexec" => flags |= MsFlags::MS_NOEXEC,
                other => data.push(other),
            }
        }
        if entry.type_ == "bind" && !flags.contains(MsFlags::MS_BIND) {
            flags |= MsFlags::MS_BIND;
        }
        let (kind, data) = (entry.type_.as_str(), data.join(","));
        mount(
            Some(entry.source.as_str()),
            target,
            Some(kind),
            flags,
            (!data.is_empty()).then_some(data.as_str()),
        )
        .map_err(|e| {
            let target = target.display();
            format!(
                "mount {kind} {} on {target} with {data:?}: {e}",
                entry.source
            )
        })?;
        let read_only_bind = MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        if flags.contains(read_only_bind) {
            let flags = read_only_bind | MsFlags::MS_REMOUNT;
            mount(None::<&str>, target, None::<&str>, flags, None::<&str>)
                .map_err(|e| format!("remount {} read-only: {e}", target.display()))?;
        }
    }
    Ok(())
}

/// Takes away what is mounted there.
pub(crate) fn unmount(target: &Path) {
    while umount2(target, MntFlags::MNT_DETACH).is_ok() {}
}
