//! Writing files so that they are there whole or not at all.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::error::ImageError;

/// Replaces `path` by `bytes`: temporary file beside it, fsync, rename, fsync of the directory.
pub(crate) fn replace_durably(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    let temporary = beside(path);
    let written = write_new(&temporary, bytes)
        .and_then(|file| {
            file.sync_all()
                .map_err(|e| ImageError::io("writing", &temporary, e))
        })
        .and_then(|()| {
            fs::rename(&temporary, path).map_err(|e| ImageError::io("replacing", path, e))
        });
    if let Err(error) = written {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    sync_parent(path)
}

/// The same without waiting for the disk: safe from `kill -9`, not from a power cut.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    let temporary = beside(path);
    let written = write_new(&temporary, bytes).and_then(|_| {
        fs::rename(&temporary, path).map_err(|e| ImageError::io("replacing", path, e))
    });
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<File, ImageError> {
    let failed = |e| ImageError::io("writing", path, e);
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    Ok(file)
}

fn beside(path: &Path) -> PathBuf {
    path.with_extension(format!("{}.tmp", uuid::Uuid::new_v4().simple()))
}

/// Makes the names in the directory of `path` durable.
pub(crate) fn sync_parent(path: &Path) -> Result<(), ImageError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    sync_directory(parent)
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> Result<(), ImageError> {
    File::open(path)
        .and_then(|d| d.sync_all())
        .map_err(|e| ImageError::io("syncing", path, e))
}

/// Creates a directory with its parents, 0700 for those that are new.
pub(crate) fn make_directory(path: &Path) -> Result<(), ImageError> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| ImageError::io("creating the directory", path, e))
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}
