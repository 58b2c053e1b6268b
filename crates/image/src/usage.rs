//! How much a directory takes on disk.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use berth_tree::{Meter, Walk};
use parking_lot::Mutex;

use crate::error::ImageError;
use crate::types::Usage;

/// Entries of a container's directory that are looked at when its usage is asked for: a container can have millions, and
/// is asked for every few seconds.
const ENTRIES: usize = 20_000;
/// What stands for a directory that can't be counted, since it is nested too deep: above every limit.
const BEYOND_COUNT: u64 = 1 << 60;

/// Counts a whole tree that is nobody's but ours; hard links count once.
pub(crate) fn of_tree(path: &Path) -> Result<Usage, ImageError> {
    let mut walk = Walk::begin(path).map_err(|e| ImageError::io("reading", path, e))?;
    while !walk.step(ENTRIES).1 {}
    Ok(with_root(path, walk.counted()))
}

/// Counts of containers' directories, by snapshot.
#[derive(Debug, Default)]
pub(crate) struct Meters(Mutex<HashMap<String, Arc<Mutex<Meter>>>>);

impl Meters {
    /// What a container's directory takes, as far as that is known after a look at some more of it.
    pub(crate) fn look(&self, key: &str, upper: &Path) -> Result<Usage, ImageError> {
        self.look_at(key, upper, ENTRIES)
    }

    fn look_at(&self, key: &str, upper: &Path, entries: usize) -> Result<Usage, ImageError> {
        let meter = Arc::clone(self.0.lock().entry(key.to_owned()).or_default());
        // Whoever else looks has the answer in a moment.
        let mut meter = meter.lock();
        meter
            .step(upper, entries)
            .map_err(|e| ImageError::io("reading", upper, e))?;
        Ok(with_root(upper, meter.usage()))
    }

    /// The container is gone.
    pub(crate) fn forget(&self, key: &str) {
        self.0.lock().remove(key);
    }
}

fn with_root(path: &Path, counted: berth_tree::Usage) -> Usage {
    if counted.hidden {
        return Usage {
            bytes: BEYOND_COUNT,
            inodes: counted.inodes,
        };
    }
    let root = fs::symlink_metadata(path).map_or(0, |meta| meta.blocks() * 512);
    Usage {
        bytes: counted.bytes + root,
        inodes: counted.inodes + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_with_many_files_is_counted_bit_by_bit() {
        let dir = tempfile::tempdir().unwrap();
        (0..250).for_each(|n| fs::write(dir.path().join(n.to_string()), "x").unwrap());
        let meters = Meters::default();
        let look = || meters.look_at("c", dir.path(), 100).unwrap().inodes;
        assert_eq!((look(), look(), look()), (101, 201, 251));
        assert_eq!(of_tree(dir.path()).unwrap().inodes, 251);
        meters.forget("c");
        assert_eq!(look(), 101);
    }

    #[test]
    fn what_is_nested_too_deep_is_above_every_limit() {
        use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("upper");
        fs::create_dir(&root).unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut here = openat(CWD, &root, flags, Mode::empty()).unwrap();
        for _ in 0..3000 {
            mkdirat(&here, "d", Mode::RWXU).unwrap();
            here = openat(&here, "d", flags, Mode::empty()).unwrap();
        }
        let found = Meters::default().look("c", &root).unwrap();
        assert!(found.bytes > 1 << 50, "{found:?}");
        // As the store does with what a container has left.
        berth_tree::remove(&root).unwrap();
        assert!(!root.exists());
    }
}
