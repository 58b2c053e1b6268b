//! The store: one directory, and everything that is done with it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::Semaphore;

use crate::blobs::Blobs;
use crate::catalog::{Catalog, Images, Record};
use crate::digest::Digest;
use crate::error::{ErrorKind, ImageError};
use crate::files;
use crate::flights::Flights;
use crate::idmap::UserMapping;
use crate::layers::Layers;
use crate::lease::Leases;
use crate::mount::{DetachedRoot, MountPlan};
use crate::options::StoreOptions;
use crate::reference::Reference;
use crate::snapshots::{SnapshotRecord, Snapshots};
use crate::space::Space;
use crate::sweeper::Sweeper;
use crate::syncer::Syncer;
use crate::types::{
    FsInfo, GcReport, Image, ImportReport, ProgressFn, PullRequest, Removed, Snapshot,
    SnapshotKind, Usage,
};

/// A store of images, their unpacked layers and the snapshots of containers. Cheap to clone.
///
/// Methods that are not `async` block for at most a few milliseconds, except [`ImageStore::gc`],
/// [`ImageStore::remove`] and [`ImageStore::fs_info`], which walk directories.
#[derive(Debug, Clone)]
pub struct ImageStore {
    inner: Arc<Inner>,
}

/// What all clones of a store share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) root: PathBuf,
    pub(crate) options: StoreOptions,
    /// Instead of the options', once somebody has changed them.
    hosts_dirs: RwLock<Option<Vec<PathBuf>>>,
    pub(crate) catalog: Catalog,
    pub(crate) blobs: Blobs,
    pub(crate) layers: Layers,
    pub(crate) snapshots: Snapshots,
    pub(crate) leases: Arc<Leases>,
    /// Who is going to write how much.
    pub(crate) space: Arc<Space>,
    pub(crate) sweeper: Sweeper,
    pub(crate) syncer: Syncer,
    /// Downloads. Apart from the layers': an uncompressed lowest layer has the same digest in both.
    pub(crate) blob_flights: Flights,
    /// Unpacking.
    pub(crate) layer_flights: Flights,
    /// As many layers are unpacked at a time as there are processors, at most four.
    pub(crate) unpackers: Arc<Semaphore>,
}

impl Inner {
    /// The directories of registries' settings in force.
    pub(crate) fn hosts_dirs(&self) -> Vec<PathBuf> {
        let changed = self.hosts_dirs.read().clone();
        changed.unwrap_or_else(|| self.options.hosts_dirs.clone())
    }
}

impl ImageStore {
    /// Opens the store in `root`, which is made if it isn't there. Leftovers of a crash are removed.
    ///
    /// # Errors
    /// The directory can't be made or is no store of this version.
    pub fn open(root: impl AsRef<Path>, options: StoreOptions) -> Result<Self, ImageError> {
        let root = root.as_ref().to_owned();
        let directories = [
            "",
            "blobs/sha256",
            "ingest",
            "layers",
            "snapshots",
            "leases",
            "trash",
            "empty/0",
            "empty/1",
        ];
        for directory in directories {
            files::make_directory(&root.join(directory))?;
        }
        for empty in ["empty/0", "empty/1"] {
            let path = root.join(empty);
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
                .map_err(|e| ImageError::io("changing the mode of", &path, e))?;
        }
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let inner = Inner {
            catalog: Catalog::new(&root),
            blobs: Blobs::new(&root),
            layers: Layers::new(&root),
            snapshots: Snapshots::new(&root, options.links.clone()),
            leases: Arc::new(Leases::new(&root)),
            space: Space::new(options.limits.keep_free),
            sweeper: Sweeper::new(root.join("trash")),
            syncer: Syncer::new(&root),
            blob_flights: Flights::default(),
            layer_flights: Flights::default(),
            unpackers: Arc::new(Semaphore::new(processors.min(4))),
            root,
            options,
            hosts_dirs: RwLock::default(),
        };
        inner.catalog.read()?;
        inner.sweeper.empty();
        inner.forget_lost_layers()?;
        inner.collect()?;
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Takes other directories of registries' settings than the options named, from the next pull on.
    pub fn set_hosts_dirs(&self, dirs: Vec<PathBuf>) {
        *self.inner.hosts_dirs.write() = Some(dirs);
    }

    /// The store's directory.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// All images, by id.
    ///
    /// # Errors
    /// The catalog can't be read.
    pub fn list(&self) -> Result<Vec<Image>, ImageError> {
        let images = self.inner.catalog.read()?;
        Ok(images
            .images
            .iter()
            .map(|(id, record)| self.image(id, record))
            .collect())
    }

    /// The image with this name, digest (`name@sha256:...`), id (`sha256:...` or bare) or beginning of an id.
    ///
    /// # Errors
    /// The catalog can't be read, or an id's beginning is that of several images.
    pub fn get(&self, reference: &str) -> Result<Option<Image>, ImageError> {
        let images = self.inner.catalog.read()?;
        Ok(find(&images, reference)?.map(|(id, record)| self.image(id, record)))
    }

    /// The config document of an image, as its maker wrote it (OCI's `image-spec` or Docker's).
    ///
    /// # Errors
    /// It isn't there, or can't be read.
    pub fn config_document(&self, id: &Digest) -> Result<Vec<u8>, ImageError> {
        let document = self.inner.blobs.read(id)?;
        document.ok_or_else(|| ImageError::NotFound {
            reference: id.to_string(),
        })
    }

    /// Brings an image from its registry into the store and unpacks it.
    ///
    /// # Errors
    /// See [`ImageError`]: reference, registry, content, disk.
    pub async fn pull(
        &self,
        request: PullRequest,
        progress: ProgressFn,
    ) -> Result<Image, ImageError> {
        if let Some(handler) = request
            .runtime_handler
            .as_deref()
            .filter(|handler| !handler.is_empty())
        {
            tracing::debug!(
                handler,
                image = request.reference,
                "all handlers share one image store"
            );
        }
        let reference = request.reference.clone();
        let id = match crate::pull::pull(&self.inner, request, progress).await {
            Ok(id) => id,
            Err(error) => {
                if error.kind() == ErrorKind::Exhausted {
                    // What it brought would stay until the next collection, on a disk that is full.
                    self.gc()?;
                }
                return Err(error);
            }
        };
        self.gc()?;
        self.get(id.as_str())?
            .ok_or(ImageError::NotFound { reference })
    }

    /// Brings the images of an OCI layout (directory or tar) or a docker-archive tar into the store;
    /// tars may be compressed with gzip or zstd. `name` is for an archive of one image.
    ///
    /// # Errors
    /// See [`ImageError`]: archive, content, disk.
    pub async fn import(
        &self,
        path: &Path,
        name: Option<&str>,
        progress: ProgressFn,
    ) -> Result<ImportReport, ImageError> {
        let images = crate::import::import(&self.inner, path, name, &progress).await?;
        let mut report = ImportReport {
            images: Vec::new(),
            warnings: images.warnings,
        };
        let state = self.inner.catalog.read()?;
        for id in images.ids {
            report
                .images
                .extend(state.images.get(&id).map(|record| self.image(&id, record)));
        }
        self.gc()?;
        Ok(report)
    }

    /// Gives an image one more name, taking it from another image that had it.
    ///
    /// # Errors
    /// The image is not there or the name is not valid.
    pub fn tag(&self, image: &str, name: &str) -> Result<(), ImageError> {
        let name: Reference = name.parse()?;
        let Some(tag) = name.repo_tag() else {
            return Err(ImageError::BadReference {
                reference: name.to_string(),
                reason: "a name for an image has a tag and no digest",
            });
        };
        self.change(image, |images, id| {
            images.untag(&tag);
            if let Some(record) = images.images.get_mut(id) {
                record.tags.insert(tag);
            }
        })
    }

    /// Sets whether an image is pinned.
    ///
    /// # Errors
    /// The image is not there.
    pub fn pin(&self, image: &str, pinned: bool) -> Result<(), ImageError> {
        self.change(image, |images, id| {
            if let Some(record) = images.images.get_mut(id) {
                record.pinned = pinned;
            }
        })
    }

    /// Removes the image that `reference` finds, with all its names. None when there is no such image.
    /// Containers that run from it go on: layers stay until no snapshot needs them.
    ///
    /// # Errors
    /// The store can't be changed.
    pub fn remove(&self, reference: &str) -> Result<Option<Removed>, ImageError> {
        let removed = self.inner.catalog.update(|images| {
            let Some(id) = find(images, reference)?.map(|(id, _)| id.clone()) else {
                return Ok(None);
            };
            Ok(images.images.remove(&id).map(|record| (id, record)))
        })??;
        let Some((id, record)) = removed else {
            return Ok(None);
        };
        let names = record.tags.into_iter().chain(record.digests).collect();
        Ok(Some(Removed {
            id,
            names,
            freed: self.gc()?,
        }))
    }

    /// Removes what no image and no snapshot needs.
    ///
    /// # Errors
    /// Files can't be removed.
    pub fn gc(&self) -> Result<GcReport, ImageError> {
        self.inner.collect()
    }

    /// Usage of the store and its filesystem.
    ///
    /// # Errors
    /// The filesystem can't be asked.
    pub fn fs_info(&self) -> Result<FsInfo, ImageError> {
        let inner = &self.inner;
        let (mut images, mut containers) = (Usage::default(), Usage::default());
        // Another process may have left this to us.
        inner.syncer.kick();
        for layer in inner.layers.list()? {
            images += layer.usage;
        }
        for (_, bytes) in inner.blobs.list()? {
            images += Usage { bytes, inodes: 1 };
        }
        for snapshot in self.snapshots()? {
            if snapshot.upper.is_some() {
                // One that was removed meanwhile takes nothing.
                containers += self.snapshot_usage(&snapshot.key).unwrap_or_default();
            }
        }
        let disk = rustix::fs::statvfs(&inner.root)
            .map_err(|e| ImageError::io("asking the disk of", &inner.root, e))?;
        Ok(FsInfo {
            root: inner.root.clone(),
            images,
            containers,
            capacity_bytes: disk.f_blocks.saturating_mul(disk.f_frsize),
            available_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
            available_inodes: disk.f_favail,
        })
    }

    /// Makes a writable snapshot of an image for a container. The same key and image again gives the same
    /// snapshot.
    ///
    /// # Errors
    /// No such image; the key is in use otherwise; the disk is full.
    pub fn prepare(&self, key: &str, image: &str) -> Result<Snapshot, ImageError> {
        self.make(key, image, SnapshotKind::Active)
    }

    /// Makes a read-only snapshot of an image, as for image volumes. Otherwise like [`ImageStore::prepare`].
    ///
    /// # Errors
    /// As for [`ImageStore::prepare`].
    pub fn view(&self, key: &str, image: &str) -> Result<Snapshot, ImageError> {
        self.make(key, image, SnapshotKind::View)
    }

    /// The snapshot of that key.
    ///
    /// # Errors
    /// Its record can't be read.
    pub fn snapshot(&self, key: &str) -> Result<Option<Snapshot>, ImageError> {
        self.inner.snapshots.get(key, &self.inner.layers)
    }

    /// All snapshots.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>, ImageError> {
        self.inner.snapshots.list(&self.inner.layers)
    }

    /// Mounts a snapshot at `target`, an existing directory. Does nothing if it is mounted there already.
    ///
    /// # Errors
    /// No such snapshot, or the kernel refuses.
    pub fn mount(&self, key: &str, target: &Path) -> Result<(), ImageError> {
        let inner = &self.inner;
        inner
            .snapshots
            .mount(key, target, &inner.layers, inner.options.volatile, None)
    }

    /// Mounts a snapshot as [`ImageStore::mount`] does, its files owned as a user namespace counts. Needs Linux 6.5.
    ///
    /// # Errors
    /// As for [`ImageStore::mount`].
    pub fn mount_mapped(
        &self,
        key: &str,
        target: &Path,
        mapping: UserMapping<'_>,
    ) -> Result<(), ImageError> {
        let inner = &self.inner;
        let volatile = inner.options.volatile;
        inner
            .snapshots
            .mount(key, target, &inner.layers, volatile, Some(mapping))
    }

    /// How somebody else mounts a snapshot: an overlay, as containerd describes one to a shim. It must be mounted nowhere
    /// when this is asked.
    ///
    /// # Errors
    /// No such snapshot, or the directory of links can't be used.
    pub fn plan_root(&self, key: &str) -> Result<MountPlan, ImageError> {
        let inner = &self.inner;
        let volatile = inner.options.volatile && kernel_at_least(5, 10);
        inner.snapshots.plan(key, &inner.layers, volatile)
    }

    /// The files of a snapshot's image, without what its container has written, mounted nowhere. With a mapping they are
    /// owned as a user namespace counts, which needs Linux 6.5.
    ///
    /// # Errors
    /// No such snapshot, or the kernel refuses.
    pub fn open_root(
        &self,
        key: &str,
        mapping: Option<UserMapping<'_>>,
    ) -> Result<DetachedRoot, ImageError> {
        let inner = &self.inner;
        inner.snapshots.open(key, &inner.layers, mapping)
    }

    /// Unmounts a snapshot wherever it is mounted; nothing to do is fine.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn unmount(&self, key: &str) -> Result<(), ImageError> {
        self.inner.snapshots.unmount(key)
    }

    /// Unmounts and removes a snapshot; one that isn't there is fine.
    ///
    /// # Errors
    /// The kernel refuses, or the directory can't be moved away.
    pub fn remove_snapshot(&self, key: &str) -> Result<(), ImageError> {
        let inner = &self.inner;
        if let Some(record) = inner.snapshots.remove(key, &inner.sweeper)?
            && !inner.catalog.read()?.images.contains_key(&record.image)
        {
            // It was the last thing that kept the layers of a removed image, perhaps.
            inner.collect()?;
        }
        Ok(())
    }

    /// What a snapshot's container has written. Of one with very many files that is what has been counted so far, and more
    /// at the next call.
    ///
    /// # Errors
    /// No such snapshot, or its directory can't be read.
    pub fn snapshot_usage(&self, key: &str) -> Result<Usage, ImageError> {
        self.inner.snapshots.usage(key, &self.inner.layers)
    }

    /// Whether `bytes` more may be written to the filesystem of `at`: what is kept free of images stays free of copies of
    /// their files.
    ///
    /// # Errors
    /// When there is too little space, or the filesystem can't be asked.
    pub fn require_space(&self, at: &Path, bytes: u64) -> Result<(), ImageError> {
        let dir = std::fs::File::open(at).map_err(|e| ImageError::io("opening", at, e))?;
        let space = &self.inner.space;
        space
            .reserve(bytes, &dir, at, "copying files of an image")
            .map(drop)
    }

    fn make(&self, key: &str, image: &str, kind: SnapshotKind) -> Result<Snapshot, ImageError> {
        let inner = &self.inner;
        let lease = inner.leases.begin()?;
        let images = inner.catalog.read()?;
        let Some((id, record)) = find(&images, image)? else {
            return Err(ImageError::NotFound {
                reference: image.to_owned(),
            });
        };
        let layers: Vec<Digest> = record
            .layers
            .iter()
            .map(|layer| layer.chain.clone())
            .collect();
        for chain in &layers {
            lease.protect(chain);
        }
        let record = SnapshotRecord {
            key: key.to_owned(),
            image: id.clone(),
            kind,
            layers,
        };
        inner.snapshots.make(&record, &inner.layers)
    }

    fn change(
        &self,
        image: &str,
        change: impl FnOnce(&mut Images, &Digest),
    ) -> Result<(), ImageError> {
        self.inner.catalog.update(|images| {
            let id = find(images, image)?.map(|(id, _)| id.clone());
            let id = id.ok_or_else(|| ImageError::NotFound {
                reference: image.to_owned(),
            })?;
            change(images, &id);
            Ok(())
        })?
    }

    fn image(&self, id: &Digest, record: &Record) -> Image {
        let by_option = self.inner.options.pinned.iter().any(|pinned| {
            pinned
                .parse::<Reference>()
                .is_ok_and(|r| r.repo_tag().is_some_and(|tag| record.tags.contains(&tag)))
        });
        Image {
            id: id.clone(),
            repo_tags: record.tags.iter().cloned().collect(),
            repo_digests: record.digests.iter().cloned().collect(),
            size: record.size,
            config: record.config.clone(),
            platform: record.platform.clone(),
            pinned: record.pinned || by_option,
            added: record.added,
            layers: record
                .layers
                .iter()
                .map(|layer| layer.chain.clone())
                .collect(),
        }
    }
}

/// Whether the kernel is so new.
fn kernel_at_least(major: u32, minor: u32) -> bool {
    let Ok(names) = nix::sys::utsname::uname() else {
        return false;
    };
    let release = names.release().to_string_lossy().into_owned();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}

/// Names first, then ids: `cafe` is a name if an image is called so.
fn find<'a>(
    images: &'a Images,
    reference: &str,
) -> Result<Option<(&'a Digest, &'a Record)>, ImageError> {
    if let Ok(parsed) = reference.parse::<Reference>() {
        let found = match parsed.digest() {
            Some(digest) => {
                let wanted = parsed.repo_digest(digest);
                images
                    .images
                    .iter()
                    .find(|(_, record)| record.digests.contains(&wanted))
            }
            None => {
                let wanted = parsed.repo_tag().unwrap_or_default();
                images
                    .images
                    .iter()
                    .find(|(_, record)| record.tags.contains(&wanted))
            }
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    let hex = reference.strip_prefix("sha256:").unwrap_or(reference);
    if hex.is_empty() || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let mut matches = images
        .images
        .iter()
        .filter(|(id, _)| id.hex().starts_with(hex));
    match (matches.next(), matches.next()) {
        (found, None) => Ok(found),
        (Some(one), Some(two)) => Err(ImageError::Ambiguous {
            id: reference.to_owned(),
            matches: [one.0, two.0]
                .into_iter()
                .chain(matches.map(|(id, _)| id))
                .cloned()
                .collect(),
        }),
        (None, Some(_)) => Ok(None),
    }
}

#[cfg(test)]
mod tests;
