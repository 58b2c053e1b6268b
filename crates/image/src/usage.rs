//! How much a directory takes on disk.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::ImageError;
use crate::types::Usage;

/// Walks a tree; hard links count once, and what vanishes meanwhile counts not at all.
pub(crate) fn of_tree(path: &Path) -> Result<Usage, ImageError> {
    let mut usage = Usage::default();
    let mut linked = HashSet::new();
    let mut waiting = vec![path.to_owned()];
    if let Ok(meta) = fs::symlink_metadata(path) {
        usage += Usage {
            bytes: meta.blocks() * 512,
            inodes: 1,
        };
    }
    while let Some(directory) = waiting.pop() {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(ImageError::io("reading", &directory, e)),
        };
        for entry in entries.flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                waiting.push(entry.path());
            } else if meta.nlink() > 1 && !linked.insert(meta.ino()) {
                continue;
            }
            usage += Usage {
                bytes: meta.blocks() * 512,
                inodes: 1,
            };
        }
    }
    Ok(usage)
}
