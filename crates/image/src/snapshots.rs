//! Snapshots: the layers of an image under a container's own writable directory, or none for a view.
//!
//! `snapshots/<key>/{snapshot.json,upper,work,mountpoint}`; made in `ingest/` and renamed. Nothing here is
//! synced: a snapshot has to outlive the daemon, not a power cut, which ends its container anyway.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::ImageError;
use crate::files;
use crate::idmap::UserMapping;
use crate::layers::{Layers, copy_owner_and_mode};
use crate::mount::{DetachedRoot, LayerLinks, MountPlan, Overlay, unmount_if_mounted};
use crate::sweeper::Sweeper;
use crate::types::{Snapshot, SnapshotKind, Usage};
use crate::usage::Meters;

#[derive(Debug)]
pub(crate) struct Snapshots {
    directory: PathBuf,
    ingest: PathBuf,
    /// Holds two empty directories, the lowest layers of mounts that would have too few.
    empty: PathBuf,
    links: Option<LayerLinks>,
    meters: Meters,
}

/// What `snapshot.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotRecord {
    pub(crate) key: String,
    pub(crate) image: Digest,
    pub(crate) kind: SnapshotKind,
    /// Chain ids, lowest first.
    pub(crate) layers: Vec<Digest>,
}

impl Snapshots {
    pub(crate) fn new(root: &Path, links: Option<PathBuf>) -> Self {
        Self {
            directory: root.join("snapshots"),
            ingest: root.join("ingest"),
            empty: root.join("empty"),
            links: links.map(LayerLinks::new),
            meters: Meters::default(),
        }
    }

    /// Makes a snapshot, or gives the one that is there if it is the same.
    pub(crate) fn make(
        &self,
        record: &SnapshotRecord,
        layers: &Layers,
    ) -> Result<Snapshot, ImageError> {
        check_key(&record.key)?;
        let place = self.directory.join(&record.key);
        if let Some(existing) = self.record(&record.key)? {
            return self.same(&existing, record, layers);
        }
        for chain in &record.layers {
            if !layers.fs(chain).exists() {
                return Err(ImageError::BadImage {
                    reference: record.image.to_string(),
                    what: format!("layer {chain}"),
                    reason: "it is missing on the disk; pull or import the image again".to_owned(),
                });
            }
        }
        let temporary = self.ingest.join(uuid::Uuid::new_v4().simple().to_string());
        let made = self.make_in(&temporary, record, layers).and_then(|()| {
            match fs::rename(&temporary, &place) {
                Ok(()) => Ok(true),
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty
                    ) =>
                {
                    Ok(false)
                }
                Err(e) => Err(ImageError::io("moving a snapshot to", &place, e)),
            }
        });
        if !matches!(made, Ok(true)) {
            let _ = fs::remove_dir_all(&temporary);
        }
        if made? {
            return Ok(self.describe(record, layers));
        }
        match self.record(&record.key)? {
            Some(existing) => self.same(&existing, record, layers),
            None => Err(ImageError::SnapshotNotFound {
                key: record.key.clone(),
            }),
        }
    }

    pub(crate) fn get(&self, key: &str, layers: &Layers) -> Result<Option<Snapshot>, ImageError> {
        check_key(key)?;
        Ok(self
            .record(key)?
            .map(|record| self.describe(&record, layers)))
    }

    pub(crate) fn records(&self) -> Result<Vec<SnapshotRecord>, ImageError> {
        let failed = |e| ImageError::io("reading", &self.directory, e);
        let mut records = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            if let Some(key) = entry.map_err(failed)?.file_name().to_str() {
                records.extend(self.record(key)?);
            }
        }
        Ok(records)
    }

    pub(crate) fn list(&self, layers: &Layers) -> Result<Vec<Snapshot>, ImageError> {
        Ok(self
            .records()?
            .iter()
            .map(|record| self.describe(record, layers))
            .collect())
    }

    pub(crate) fn mount(
        &self,
        key: &str,
        target: &Path,
        layers: &Layers,
        volatile: bool,
        mapping: Option<UserMapping<'_>>,
    ) -> Result<(), ImageError> {
        let snapshot = self.existing(key, layers)?;
        if let Some(present) = &snapshot.mountpoint
            && is_mountpoint(present)
        {
            if present == target {
                return Ok(());
            }
            return Err(ImageError::Mounted {
                key: key.to_owned(),
                at: present.clone(),
            });
        }
        let note = self.directory.join(key).join("mountpoint");
        files::replace(&note, target.as_os_str().as_encoded_bytes())?;
        let upper = snapshot.upper.as_deref().zip(snapshot.work.as_deref());
        let overlay = Overlay {
            lower: &snapshot.lowerdirs,
            upper,
            volatile,
        };
        match mapping {
            None => overlay.mount(target).map_err(io::Error::from),
            Some(mapping) => overlay.mount_mapped(target, mapping, &self.ingest),
        }
        .map_err(|e| ImageError::io("mounting a snapshot at", target, e))
    }

    /// How somebody else is to mount a snapshot.
    pub(crate) fn plan(
        &self,
        key: &str,
        layers: &Layers,
        volatile: bool,
    ) -> Result<MountPlan, ImageError> {
        let snapshot = self.existing(key, layers)?;
        let record = self
            .record(key)?
            .ok_or_else(|| ImageError::SnapshotNotFound {
                key: key.to_owned(),
            })?;
        let chains: Vec<&str> = record.layers.iter().rev().map(Digest::hex).collect();
        let overlay = Overlay {
            lower: &snapshot.lowerdirs,
            upper: snapshot.upper.as_deref().zip(snapshot.work.as_deref()),
            volatile,
        };
        overlay
            .plan(&chains, self.links.as_ref())
            .map_err(|e| ImageError::io("planning the mount of", self.directory.join(key), e))
    }

    /// The image below a snapshot, for reading.
    pub(crate) fn open(
        &self,
        key: &str,
        layers: &Layers,
        mapping: Option<UserMapping<'_>>,
    ) -> Result<DetachedRoot, ImageError> {
        let mut lower = self.existing(key, layers)?.lowerdirs;
        if lower.len() == 1 {
            // overlayfs wants two where nothing is writable.
            lower.push(self.empty.join("1"));
        }
        let overlay = Overlay {
            lower: &lower,
            upper: None,
            volatile: false,
        };
        overlay
            .detached(mapping, &self.ingest)
            .map_err(|e| ImageError::io("opening the image of", self.directory.join(key), e))
    }

    pub(crate) fn unmount(&self, key: &str) -> Result<(), ImageError> {
        check_key(key)?;
        if let Some(target) = self.mountpoint(key) {
            if is_mountpoint(&target) {
                unmount_if_mounted(&target)
                    .map_err(|e| ImageError::io("unmounting", &target, e))?;
            }
            let _ = fs::remove_file(self.directory.join(key).join("mountpoint"));
        }
        Ok(())
    }

    /// Unmounts and removes; gives what it was.
    pub(crate) fn remove(
        &self,
        key: &str,
        sweeper: &Sweeper,
    ) -> Result<Option<SnapshotRecord>, ImageError> {
        self.unmount(key)?;
        let record = self.record(key)?;
        self.meters.forget(key);
        sweeper.discard(&self.directory.join(key))?;
        Ok(record)
    }

    pub(crate) fn usage(&self, key: &str, layers: &Layers) -> Result<Usage, ImageError> {
        match self.existing(key, layers)?.upper {
            Some(upper) => self.meters.look(key, &upper),
            None => Ok(Usage::default()),
        }
    }

    fn make_in(
        &self,
        place: &Path,
        record: &SnapshotRecord,
        layers: &Layers,
    ) -> Result<(), ImageError> {
        files::make_directory(place)?;
        if record.kind == SnapshotKind::Active {
            let upper = place.join("upper");
            files::make_directory(&upper)?;
            files::make_directory(&place.join("work"))?;
            // The root of the container is the upper directory's, so it looks like the image's.
            let root = record
                .layers
                .last()
                .map_or_else(|| self.empty.join("0"), |top| layers.fs(top));
            copy_owner_and_mode(&root, &upper)?;
        }
        let path = place.join("snapshot.json");
        let bytes = serde_json::to_vec(record).map_err(|e| ImageError::Store {
            path: path.clone(),
            reason: e.to_string(),
        })?;
        fs::write(&path, bytes).map_err(|e| ImageError::io("writing", &path, e))
    }

    fn same(
        &self,
        existing: &SnapshotRecord,
        wanted: &SnapshotRecord,
        layers: &Layers,
    ) -> Result<Snapshot, ImageError> {
        if existing != wanted {
            return Err(ImageError::SnapshotExists {
                key: wanted.key.clone(),
            });
        }
        Ok(self.describe(existing, layers))
    }

    fn existing(&self, key: &str, layers: &Layers) -> Result<Snapshot, ImageError> {
        self.get(key, layers)?
            .ok_or_else(|| ImageError::SnapshotNotFound {
                key: key.to_owned(),
            })
    }

    fn record(&self, key: &str) -> Result<Option<SnapshotRecord>, ImageError> {
        let path = self.directory.join(key).join("snapshot.json");
        match fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(record) => Ok(Some(record)),
                Err(error) => {
                    // Only a power cut does this; its container is gone, and the caller removes what it can't use.
                    tracing::warn!(path = %path.display(), %error, "the record of a snapshot is damaged");
                    Ok(None)
                }
            },
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(e) => Err(ImageError::io("reading", &path, e)),
        }
    }

    fn mountpoint(&self, key: &str) -> Option<PathBuf> {
        use std::os::unix::ffi::OsStringExt;
        let bytes = fs::read(self.directory.join(key).join("mountpoint")).ok()?;
        (!bytes.is_empty()).then(|| PathBuf::from(std::ffi::OsString::from_vec(bytes)))
    }

    fn describe(&self, record: &SnapshotRecord, layers: &Layers) -> Snapshot {
        let place = self.directory.join(&record.key);
        let mut lowerdirs: Vec<PathBuf> = record
            .layers
            .iter()
            .rev()
            .map(|chain| layers.fs(chain))
            .collect();
        let least: usize = if record.kind == SnapshotKind::View {
            2
        } else {
            1
        };
        for number in 0..least.saturating_sub(lowerdirs.len()) {
            lowerdirs.push(self.empty.join(number.to_string()));
        }
        let active = record.kind == SnapshotKind::Active;
        Snapshot {
            key: record.key.clone(),
            image: record.image.clone(),
            kind: record.kind,
            lowerdirs,
            upper: active.then(|| place.join("upper")),
            work: active.then(|| place.join("work")),
            mountpoint: self.mountpoint(&record.key),
        }
    }
}

fn check_key(key: &str) -> Result<(), ImageError> {
    let fine = (1..=200).contains(&key.len())
        && !key.starts_with('.')
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if fine {
        Ok(())
    } else {
        Err(ImageError::BadKey {
            key: key.to_owned(),
        })
    }
}

/// Whether something is mounted there: it lies on another device than its parent.
fn is_mountpoint(path: &Path) -> bool {
    let device = |p: &Path| fs::symlink_metadata(p).map(|m| m.dev()).ok();
    match (device(path), path.parent().and_then(device)) {
        (Some(here), Some(above)) => here != above,
        _ => false,
    }
}
