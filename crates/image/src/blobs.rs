//! Content by digest: `blobs/sha256/<hex>`.
//!
//! A blob is verified when it is stored and, being small or about to be unpacked, once more when it is read;
//! so what a power cut has damaged is found out, and nothing here waits for the disk.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Digest;
use crate::error::ImageError;
use crate::files;

#[derive(Debug)]
pub(crate) struct Blobs {
    directory: PathBuf,
}

impl Blobs {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            directory: root.join("blobs/sha256"),
        }
    }

    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(digest.hex())
    }

    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.path(digest).exists()
    }

    /// A whole blob: for documents, whose size was looked at.
    pub(crate) fn read(&self, digest: &Digest) -> Result<Option<Vec<u8>>, ImageError> {
        let path = self.path(digest);
        match fs::read(&path) {
            Ok(bytes) if Digest::of(&bytes) == *digest => Ok(Some(bytes)),
            // Damaged on the disk: as good as not there, and brought again.
            Ok(_) => {
                fs::remove_file(&path)
                    .map_err(|e| ImageError::io("removing the damaged", &path, e))?;
                Ok(None)
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(ImageError::io("reading", &path, e)),
        }
    }

    /// Stores a document.
    pub(crate) fn write(&self, digest: &Digest, bytes: &[u8]) -> Result<(), ImageError> {
        if Digest::of(bytes) != *digest {
            return Err(ImageError::Mismatch {
                what: "a document".to_owned(),
                expected: digest.to_string(),
                actual: Digest::of(bytes).to_string(),
            });
        }
        let path = self.path(digest);
        if path.exists() {
            return Ok(());
        }
        files::replace(&path, bytes)
    }

    /// Takes over a finished, verified file.
    pub(crate) fn adopt(&self, file: &Path, digest: &Digest) -> Result<(), ImageError> {
        let path = self.path(digest);
        fs::rename(file, &path).map_err(|e| ImageError::io("moving to", &path, e))
    }

    /// All blobs with their sizes.
    pub(crate) fn list(&self) -> Result<Vec<(Digest, u64)>, ImageError> {
        let failed = |e| ImageError::io("reading", &self.directory, e);
        let mut blobs = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let Some(digest) = entry.file_name().to_str().and_then(Digest::from_hex) else {
                continue;
            };
            match entry.metadata() {
                Ok(meta) => blobs.push((digest, meta.len())),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(failed(e)),
            }
        }
        Ok(blobs)
    }
}
