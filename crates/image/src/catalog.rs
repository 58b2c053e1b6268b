//! `images.json`: which images there are and what they are called.
//!
//! The file is replaced whole under `catalog.lock`, so a reader sees one version or the next and a crash
//! loses nothing. Readers look at the file's inode and times and read it again when another process has
//! replaced it: an image that a command line imports is there for the daemon's next call.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::ImageError;
use crate::files;
use crate::lock::FileLock;
use crate::platform::Platform;
use crate::types::ImageConfig;

const VERSION: u32 = 1;

/// The whole file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Images {
    version: u32,
    /// By id.
    pub(crate) images: BTreeMap<Digest, Record>,
}

/// One image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) tags: BTreeSet<String>,
    pub(crate) digests: BTreeSet<String>,
    /// Manifests and indexes that led to this image: blobs to keep.
    pub(crate) manifests: BTreeSet<Digest>,
    pub(crate) layers: Vec<LayerRef>,
    pub(crate) size: u64,
    pub(crate) config: ImageConfig,
    pub(crate) platform: Platform,
    #[serde(default)]
    pub(crate) pinned: bool,
    pub(crate) added: i64,
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerRef {
    /// Digest of the blob as transferred.
    pub(crate) blob: Digest,
    /// Digest of its uncompressed form.
    pub(crate) diff: Digest,
    /// The chain id up to here.
    pub(crate) chain: Digest,
}

impl Images {
    /// Takes a name away from whichever image has it.
    pub(crate) fn untag(&mut self, tag: &str) -> bool {
        self.images
            .values_mut()
            .any(|record| record.tags.remove(tag))
    }

    /// Adds an image or what is new of it, and moves its tags to it.
    pub(crate) fn put(&mut self, id: &Digest, mut record: Record) {
        for tag in &record.tags {
            self.untag(tag);
        }
        if let Some(old) = self.images.remove(id) {
            record.tags.extend(old.tags);
            record.digests.extend(old.digests);
            record.manifests.extend(old.manifests);
            record.pinned |= old.pinned;
            record.added = old.added;
        }
        self.images.insert(id.clone(), record);
    }
}

/// The file with its cache.
#[derive(Debug)]
pub(crate) struct Catalog {
    path: PathBuf,
    lock: PathBuf,
    cached: Mutex<Option<(Stamp, Arc<Images>)>>,
}

/// Tells one version of the file from the next; none when there is no file yet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp(Option<(u64, i64, i64, u64)>);

impl Catalog {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            path: root.join("images.json"),
            lock: root.join("catalog.lock"),
            cached: Mutex::new(None),
        }
    }

    /// The present state.
    pub(crate) fn read(&self) -> Result<Arc<Images>, ImageError> {
        let mut cached = self.cached.lock();
        let stamp = self.stamp()?;
        if let Some((known, images)) = &*cached
            && *known == stamp
        {
            return Ok(images.clone());
        }
        let images = Arc::new(self.load()?);
        *cached = Some((stamp, images.clone()));
        Ok(images)
    }

    /// Changes the state; when this returns the change is durable and seen by all processes.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut Images) -> T) -> Result<T, ImageError> {
        let _lock = FileLock::exclusive(&self.lock)?;
        let mut images = self.load()?;
        let result = change(&mut images);
        let bytes = serde_json::to_vec(&images).map_err(|e| ImageError::Store {
            path: self.path.clone(),
            reason: e.to_string(),
        })?;
        files::replace_durably(&self.path, &bytes)?;
        *self.cached.lock() = Some((self.stamp()?, Arc::new(images)));
        Ok(result)
    }

    /// Keeps all processes from changing the file; none when one is at it.
    pub(crate) fn try_lock(&self) -> Result<Option<FileLock>, ImageError> {
        FileLock::try_exclusive(&self.lock)
    }

    fn stamp(&self) -> Result<Stamp, ImageError> {
        match fs::metadata(&self.path) {
            Ok(m) => Ok(Stamp(Some((m.ino(), m.ctime(), m.ctime_nsec(), m.len())))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Stamp(None)),
            Err(e) => Err(ImageError::io("reading", &self.path, e)),
        }
    }

    fn load(&self) -> Result<Images, ImageError> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Ok(Images {
                    version: VERSION,
                    images: BTreeMap::new(),
                });
            }
            Err(e) => return Err(ImageError::io("reading", &self.path, e)),
        };
        let bad = |reason: String| ImageError::Store {
            path: self.path.clone(),
            reason,
        };
        let images: Images = serde_json::from_slice(&bytes).map_err(|e| {
            bad(format!(
                "the file is damaged ({e}); move it away to start with no images"
            ))
        })?;
        if images.version != VERSION {
            return Err(bad(format!(
                "its version is {}, this program reads {VERSION}",
                images.version
            )));
        }
        Ok(images)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(tag: &str) -> Record {
        Record {
            tags: [tag.to_owned()].into(),
            digests: BTreeSet::new(),
            manifests: BTreeSet::new(),
            layers: Vec::new(),
            size: 1,
            config: ImageConfig::default(),
            platform: Platform::host(),
            pinned: false,
            added: 0,
        }
    }

    #[test]
    fn another_process_sees_a_change_at_once_and_tags_move() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (Catalog::new(dir.path()), Catalog::new(dir.path()));
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        assert!(two.read().unwrap().images.is_empty());
        one.update(|images| images.put(&a, record("t"))).unwrap();
        assert!(two.read().unwrap().images[&a].tags.contains("t"));
        two.update(|images| images.put(&b, record("t"))).unwrap();
        let seen = one.read().unwrap();
        assert!(seen.images[&a].tags.is_empty() && seen.images[&b].tags.contains("t"));
        assert!(
            Arc::ptr_eq(&seen, &one.read().unwrap()),
            "an unchanged file is not read again"
        );
    }

    #[test]
    fn damage_and_newer_versions_are_refused_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::new(dir.path());
        fs::write(dir.path().join("images.json"), "{").unwrap();
        assert!(catalog.read().unwrap_err().to_string().contains("damaged"));
        fs::write(
            dir.path().join("images.json"),
            r#"{"version":9,"images":{}}"#,
        )
        .unwrap();
        assert!(
            catalog
                .update(|_| ())
                .unwrap_err()
                .to_string()
                .contains("version is 9")
        );
    }
}
