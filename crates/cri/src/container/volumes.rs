//! What a container's mounts need on the host: images as volumes, and copies of mounts that show owners as the pod's
//! user namespace counts them. Both lie in the bundle's `volumes/`, by the mount's number.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use berth_cri_api::v1::{IdMapping, Mount, MountPropagation};

use crate::engine::Engine;
use crate::error::CriError;
use crate::inside;
use crate::record::SandboxRecord;
use crate::sandbox::{self, Mapped};

/// One mount of one container.
pub(super) struct Volume<'a> {
    pub(super) engine: &'a Engine,
    pub(super) pod: &'a SandboxRecord,
    pub(super) id: &'a str,
    pub(super) index: usize,
}

impl Volume<'_> {
    fn place(&self) -> PathBuf {
        place(self.engine, self.id).join(self.index.to_string())
    }

    fn mapped(&self) -> Result<Option<Mapped>, CriError> {
        Mapped::of(self.engine, &self.pod.id, &self.pod.config.0)
    }

    /// An image's files, of which nothing can be changed.
    pub(super) fn of_image(&self, image: &str, mount: &Mount) -> Result<PathBuf, CriError> {
        if !mount.readonly {
            return Err(CriError::Invalid(format!(
                "mount {}: an image can only be mounted read-only",
                mount.container_path
            )));
        }
        let key = key(self.id, self.index);
        let target = self.place();
        std::fs::create_dir_all(&target).map_err(CriError::io("make", &target))?;
        self.engine.images.view(&key, image)?;
        match self.mapped()? {
            Some(mapped) => self
                .engine
                .images
                .mount_mapped(&key, &target, mapped.mapping())?,
            None => self.engine.images.mount(&key, &target)?,
        }
        below(&target, &mount.image_sub_path)
    }

    /// A path of the host, or a copy of its mount when it is to be mapped.
    pub(super) fn of_host(&self, source: PathBuf, mount: &Mount) -> Result<PathBuf, CriError> {
        if mount.uid_mappings.is_empty() && mount.gid_mappings.is_empty() {
            return Ok(source);
        }
        let invalid = |why: &str| {
            Err(CriError::Invalid(format!(
                "mount {}: {why}",
                mount.container_path
            )))
        };
        let Some(mapped) = self.mapped()? else {
            return invalid("it is to be id-mapped, but the pod has no user namespace");
        };
        let user = self
            .pod
            .config
            .0
            .linux
            .as_ref()
            .and_then(|linux| linux.security_context.as_ref())
            .and_then(|security| security.namespace_options.as_ref())
            .and_then(|options| options.userns_options.as_ref());
        let same = |one: &[IdMapping], other: Option<&Vec<IdMapping>>| {
            other.is_some_and(|other| one == other)
        };
        if !same(&mount.uid_mappings, user.map(|user| &user.uids))
            || !same(&mount.gid_mappings, user.map(|user| &user.gids))
        {
            return invalid("its id mappings are not those of the pod's user namespace");
        }
        if mount.propagation() != MountPropagation::PropagationPrivate {
            return invalid("an id-mapped mount does not propagate");
        }
        let target = self.place();
        let make = || {
            if source.is_dir() {
                return std::fs::create_dir_all(&target);
            }
            std::fs::create_dir_all(place(self.engine, self.id))?;
            std::fs::File::create(&target).map(drop)
        };
        make().map_err(CriError::io("make", &target))?;
        let tree = berth_image::clone_mapped(&source, mapped.mapping().namespace, true)
            .map_err(CriError::io("map the owners of", &source))?;
        berth_image::attach(tree, &target).map_err(CriError::io("mount on", &target))?;
        Ok(target)
    }
}

fn place(engine: &Engine, id: &str) -> PathBuf {
    engine.layout.bundle(id).join("volumes")
}

fn key(id: &str, index: usize) -> String {
    format!("{id}-volume-{index}")
}

/// A path inside an image that is mounted at `root`; links in it lead nowhere else.
fn below(root: &Path, sub_path: &str) -> Result<PathBuf, CriError> {
    if sub_path.is_empty() {
        return Ok(root.to_owned());
    }
    let failed = |error| CriError::io("resolve in the image", sub_path)(error);
    let found = inside::find(root, Path::new(sub_path))
        .map_err(failed)?
        .ok_or_else(|| CriError::Invalid(format!("sub path {sub_path:?} is not in the image")))?;
    std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd())).map_err(failed)
}

/// Where those of a container are that have been mounted.
pub(super) fn places(engine: &Engine, id: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(place(engine, id));
    let entries = entries.into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// Gives all of them back.
pub(super) fn give_back(engine: &Engine, id: &str) -> Result<(), CriError> {
    let Ok(entries) = std::fs::read_dir(place(engine, id)) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        if let Some(index) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        {
            engine.images.remove_snapshot(&key(id, index))?;
        }
        let path = entry.path();
        sandbox::unmount(&path).map_err(CriError::io("unmount", path))?;
    }
    Ok(())
}
