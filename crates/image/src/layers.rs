//! Unpacked layers, by chain id: `layers/<24 hex digits>/{fs,layer.json}`.
//!
//! The directory's name is short so that the options of a mount with many layers fit into a page; the record
//! inside has the whole chain id and is compared with it. A layer is made in `ingest/` and renamed when it is
//! complete, so a directory in `layers/` is whole; for power cuts see `syncer`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, chmodat, chownat, fchmod, fchown, futimens};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::bounds::{Bounds, Spent};
use crate::catalog::LayerRef;
use crate::digest::Digest;
use crate::error::ImageError;
use crate::files;
use crate::mount::{Overlay, unmount_if_mounted};
use crate::syncer::Syncer;
use crate::types::Usage;
use crate::unpack::{Target, Unpacked, drop_idle, open_in_root, unpack};
use crate::usage;

#[derive(Debug)]
pub(crate) struct Layers {
    directory: PathBuf,
    ingest: PathBuf,
}

/// What `layer.json` says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    pub(crate) chain: Digest,
    pub(crate) diff: Digest,
    pub(crate) usage: Usage,
}

/// A layer unpacked by itself in `ingest/`, not yet fitted to those below. Removed when dropped.
#[derive(Debug)]
pub(crate) struct Staged {
    layer: LayerRef,
    blob: PathBuf,
    place: PathBuf,
    unpacked: Unpacked,
}

impl Staged {
    /// Where its files are now.
    pub(crate) fn fs(&self) -> PathBuf {
        self.place.join("fs")
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let _ = berth_tree::remove(&self.place);
    }
}

impl Layers {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            directory: root.join("layers"),
            ingest: root.join("ingest"),
        }
    }

    pub(crate) fn path(&self, chain: &Digest) -> PathBuf {
        self.directory.join(&chain.hex()[..24])
    }

    /// The layer's files, topmost layer of its chain.
    pub(crate) fn fs(&self, chain: &Digest) -> PathBuf {
        self.path(chain).join("fs")
    }

    pub(crate) fn get(&self, chain: &Digest) -> Result<Option<LayerRecord>, ImageError> {
        let record = read_record(&self.path(chain))?;
        match record {
            Some(record) if record.chain != *chain => Err(ImageError::Store {
                path: self.path(chain),
                reason: format!(
                    "it holds layer {}, and {chain} is to lie at the same place",
                    record.chain
                ),
            }),
            other => Ok(other),
        }
    }

    pub(crate) fn list(&self) -> Result<Vec<LayerRecord>, ImageError> {
        let failed = |e| ImageError::io("reading", &self.directory, e);
        let mut layers = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            layers.extend(read_record(&entry.map_err(failed)?.path())?);
        }
        Ok(layers)
    }

    /// Unpacks a layer by itself.
    pub(crate) fn stage(
        &self,
        layer: &LayerRef,
        blob: &Path,
        above_others: bool,
        bounds: &Bounds,
    ) -> Result<Staged, ImageError> {
        let mut staged = Staged {
            layer: layer.clone(),
            blob: blob.to_owned(),
            place: self.ingest.join(uuid::Uuid::new_v4().simple().to_string()),
            unpacked: Unpacked {
                diff: layer.diff.clone(),
                usage: Usage::default(),
                needs_below: false,
                implicit: BTreeSet::new(),
                whiteouts: BTreeSet::new(),
                spent: Spent::default(),
            },
        };
        make_root(&staged.fs())?;
        staged.unpacked = open_and_unpack(
            &staged,
            &staged.fs(),
            Target::Layer { above_others },
            bounds,
        )?;
        Ok(staged)
    }

    /// Fits a staged layer to those below it, topmost first.
    pub(crate) fn settle(
        &self,
        staged: &mut Staged,
        below: &[PathBuf],
        bounds: &Bounds,
    ) -> Result<(), ImageError> {
        if !staged.unpacked.needs_below && self.fit(staged, below)? {
            return self.record(staged);
        }
        tracing::debug!(layer = %staged.layer.diff, "unpacking once more on top of the layers below");
        bounds.take_back(staged.unpacked.spent);
        berth_tree::remove(&staged.fs()).map_err(|e| ImageError::io("removing", staged.fs(), e))?;
        make_root(&staged.fs())?;
        if below.is_empty() {
            staged.unpacked = open_and_unpack(staged, &staged.fs(), Target::Merged, bounds)?;
        } else {
            copy_owner_and_mode(&below[0], &staged.fs())?;
            let upper = staged.fs();
            let work = staged.place.join("work");
            files::make_directory(&work)?;
            let overlay = Overlay {
                lower: below,
                upper: Some((&upper, &work)),
                volatile: true,
            };
            let unpacked = self.mounted(&overlay, |merged| {
                open_and_unpack(staged, merged, Target::Merged, bounds)
            })?;
            staged.unpacked = unpacked;
            berth_tree::remove(&work).map_err(|e| ImageError::io("removing", &work, e))?;
        }
        staged.unpacked.usage = usage::of_tree(&staged.fs())?;
        self.record(staged)
    }

    /// Puts a settled layer in its place. If another process was faster, ours is dropped.
    pub(crate) fn commit(&self, staged: &Staged, syncer: &Syncer) -> Result<(), ImageError> {
        syncer.mark(&staged.place)?;
        let place = self.path(&staged.layer.chain);
        match fs::rename(&staged.place, &place) {
            Ok(()) => Ok(()),
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty
                ) =>
            {
                self.get(&staged.layer.chain).map(drop)
            }
            Err(e) => Err(ImageError::io("moving a layer to", &place, e)),
        }
    }

    pub(crate) fn sync_names(&self) -> Result<(), ImageError> {
        files::sync_directory(&self.directory)
    }

    /// Gives directories that no entry named the owner, mode and time they have below, and drops whiteouts
    /// of nothing. False if a directory is none below, so that the layer can't be unpacked by itself.
    fn fit(&self, staged: &Staged, below: &[PathBuf]) -> Result<bool, ImageError> {
        let Unpacked {
            implicit,
            whiteouts,
            ..
        } = &staged.unpacked;
        let Some(top) = below.first() else {
            return Ok(true);
        };
        if implicit.contains(b"".as_slice()) {
            copy_owner_and_mode(top, &staged.fs())?;
        }
        if implicit.iter().all(Vec::is_empty) && whiteouts.is_empty() {
            return Ok(true);
        }
        let fit_to = |merged: &Path| {
            let place = staged.fs();
            let fits = copy_directories(implicit, merged, &place)?;
            drop_idle(&place, merged, whiteouts)
                .map_err(|e| ImageError::io("dropping whiteouts in", &place, e))?;
            Ok(fits)
        };
        if below.len() == 1 {
            return fit_to(top);
        }
        self.mounted(
            &Overlay {
                lower: below,
                upper: None,
                volatile: false,
            },
            fit_to,
        )
    }

    fn mounted<T>(
        &self,
        overlay: &Overlay<'_>,
        work: impl FnOnce(&Path) -> Result<T, ImageError>,
    ) -> Result<T, ImageError> {
        let merged = self
            .ingest
            .join(format!("{}.merged", uuid::Uuid::new_v4().simple()));
        files::make_directory(&merged)?;
        let result = overlay
            .mount(&merged)
            .map_err(|e| ImageError::io("mounting layers at", &merged, e))
            .and_then(|()| work(&merged));
        unmount_if_mounted(&merged).map_err(|e| ImageError::io("unmounting", &merged, e))?;
        fs::remove_dir(&merged).map_err(|e| ImageError::io("removing", &merged, e))?;
        result
    }

    fn record(&self, staged: &Staged) -> Result<(), ImageError> {
        let LayerRef { diff, chain, .. } = &staged.layer;
        if staged.unpacked.diff != *diff {
            return Err(ImageError::Mismatch {
                what: format!("layer {} of the image's config", staged.layer.blob),
                expected: diff.to_string(),
                actual: staged.unpacked.diff.to_string(),
            });
        }
        let record = LayerRecord {
            chain: chain.clone(),
            diff: diff.clone(),
            usage: staged.unpacked.usage,
        };
        let path = staged.place.join("layer.json");
        let bytes = serde_json::to_vec(&record).map_err(|e| ImageError::Store {
            path: path.clone(),
            reason: e.to_string(),
        })?;
        files::replace(&path, &bytes)
    }
}

fn open_and_unpack(
    staged: &Staged,
    into: &Path,
    target: Target,
    bounds: &Bounds,
) -> Result<Unpacked, ImageError> {
    let file = File::open(&staged.blob).map_err(|e| ImageError::io("opening", &staged.blob, e))?;
    unpack(
        file,
        into,
        target,
        bounds.clone(),
        staged.layer.diff.as_str(),
    )
}

fn make_root(path: &Path) -> Result<(), ImageError> {
    files::make_directory(path)?;
    chmodat(
        rustix::fs::CWD,
        path,
        Mode::from_raw_mode(0o755),
        AtFlags::empty(),
    )
    .map_err(|e| ImageError::io("changing the mode of", path, e))
}

/// Copies owner and mode from one directory to another.
pub(crate) fn copy_owner_and_mode(from: &Path, to: &Path) -> Result<(), ImageError> {
    let copy = || {
        let stat = rustix::fs::stat(from)?;
        let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
        chownat(rustix::fs::CWD, to, Some(uid), Some(gid), AtFlags::empty())?;
        chmodat(
            rustix::fs::CWD,
            to,
            Mode::from_raw_mode(stat.st_mode & 0o7777),
            AtFlags::empty(),
        )
    };
    copy().map_err(|e| ImageError::io("copying owner and mode to", to, e))
}

fn copy_directories(paths: &BTreeSet<Vec<u8>>, from: &Path, to: &Path) -> Result<bool, ImageError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    let root = |path: &Path| {
        rustix::fs::open(path, flags, Mode::empty()).map_err(|e| ImageError::io("opening", path, e))
    };
    let (from_root, to_root) = (root(from)?, root(to)?);
    for path in paths.iter().filter(|p| !p.is_empty()) {
        let copy = || {
            let source = open_in_root(from_root.as_fd(), path, flags)?;
            let stat = rustix::fs::fstat(&source)?;
            let copy = open_in_root(to_root.as_fd(), path, flags)?;
            fchown(
                &copy,
                Some(Uid::from_raw(stat.st_uid)),
                Some(Gid::from_raw(stat.st_gid)),
            )?;
            fchmod(&copy, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
            let time = rustix::fs::Timespec {
                tv_sec: stat.st_mtime,
                tv_nsec: i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
            };
            futimens(
                &copy,
                &rustix::fs::Timestamps {
                    last_access: time,
                    last_modification: time,
                },
            )
        };
        match copy() {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(false),
            Err(e) => return Err(ImageError::io("describing directories in", to, e)),
        }
    }
    Ok(true)
}

fn read_record(layer: &Path) -> Result<Option<LayerRecord>, ImageError> {
    let path = layer.join("layer.json");
    match fs::read(&path) {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(record) => Ok(Some(record)),
            Err(e) => Err(ImageError::Store {
                path,
                reason: format!("the record of a layer is damaged: {e}"),
            }),
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

#[cfg(test)]
mod tests;
