//! A container's root file system, which berth mounts or the shim does ([`RootfsMounter`]).
//!
//! What berth itself needs of it (users, volumes that the image declares) it reads where it has mounted it, or else in a
//! mount that is nowhere, so that nothing is left of it however berth ends.

use std::path::{Path, PathBuf};

use berth_image::DetachedRoot;
use berth_shim::client::RootfsMount;

use crate::engine::Engine;
use crate::error::CriError;
use crate::record::{ContainerRecord, SandboxRecord};
use crate::runtime::RootfsMounter;
use crate::sandbox::{self, Mapped};

/// Where a new container's files can be read.
pub(super) enum Files {
    Mounted(PathBuf),
    Detached(DetachedRoot),
}

impl Files {
    /// Good as long as this value lives.
    pub(super) fn path(&self) -> PathBuf {
        match self {
            Self::Mounted(path) => path.clone(),
            Self::Detached(root) => root.path(),
        }
    }
}

/// What a shim binds to `rootfs` for a pod with a user namespace: few shims can map owners themselves.
pub(super) fn mapped_root(engine: &Engine, id: &str) -> PathBuf {
    engine.layout.bundle(id).join("mapped")
}

/// Mounts a new container's snapshot, as far as that is berth's to do.
pub(super) fn prepare(
    engine: &Engine,
    id: &str,
    pod: &SandboxRecord,
    mounter: RootfsMounter,
) -> Result<Files, CriError> {
    let mapped = Mapped::of(engine, &pod.id, &pod.config.0)?;
    let target = match (mounter, &mapped) {
        (RootfsMounter::Berth, _) => engine.layout.bundle(id).join("rootfs"),
        (RootfsMounter::Shim, Some(_)) => mapped_root(engine, id),
        (RootfsMounter::Shim, None) => {
            return Ok(Files::Detached(engine.images.open_root(id, None)?));
        }
    };
    std::fs::create_dir_all(&target).map_err(CriError::io("make", &target))?;
    match mapped {
        Some(mapped) => engine.images.mount_mapped(id, &target, mapped.mapping())?,
        None => engine.images.mount(id, &target)?,
    }
    Ok(Files::Mounted(target))
}

/// What the shim is to mount on `rootfs` before it creates the container.
pub(super) fn for_create(
    engine: &Engine,
    record: &ContainerRecord,
    pod: &SandboxRecord,
) -> Result<Vec<RootfsMount>, CriError> {
    if record.rootfs == RootfsMounter::Shim {
        // A Create that was cut short together with an earlier server may have come as far as this.
        let rootfs = engine.layout.bundle(&record.id).join("rootfs");
        sandbox::unmount(&rootfs).map_err(CriError::io("unmount", &rootfs))?;
    }
    match record.rootfs {
        RootfsMounter::Berth => Ok(Vec::new()),
        RootfsMounter::Shim if sandbox::root_of(&pod.config.0)?.is_some() => {
            Ok(vec![bind(&mapped_root(engine, &record.id))])
        }
        RootfsMounter::Shim => {
            let plan = engine.images.plan_root(&record.id)?;
            Ok(vec![RootfsMount {
                kind: plan.kind,
                source: plan.source,
                options: plan.options,
            }])
        }
    }
}

/// A directory of the host as a root file system, in containerd's words.
pub(crate) fn bind(source: &Path) -> RootfsMount {
    RootfsMount {
        kind: "bind".to_owned(),
        source: source.to_string_lossy().into_owned(),
        options: ["rbind", "rw"].map(str::to_owned).to_vec(),
    }
}

/// Gives all of it back. What a shim has mounted and not unmounted is unmounted as well.
pub(super) fn give_back(engine: &Engine, id: &str) -> Result<(), CriError> {
    let rootfs = engine.layout.bundle(id).join("rootfs");
    sandbox::unmount(&rootfs).map_err(CriError::io("unmount", &rootfs))?;
    engine.images.remove_snapshot(id)?;
    // Not known to the image store when berth was killed while it was mounted.
    let mapped = mapped_root(engine, id);
    sandbox::unmount(&mapped).map_err(CriError::io("unmount", &mapped))
}
