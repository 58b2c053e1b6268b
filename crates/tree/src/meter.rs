//! A count that is asked for again and again, a bounded number of entries at a time.

use std::io;
use std::path::Path;

use crate::walk::{Usage, Walk};

/// What is known of one directory.
#[derive(Debug, Default)]
pub struct Meter {
    walk: Option<Walk>,
    /// As it was when it was last counted whole.
    last: Usage,
}

impl Meter {
    /// Goes on counting; gives how many entries it looked at, and whether the directory has been counted whole by that.
    ///
    /// # Errors
    /// When the directory cannot be opened.
    pub fn step(&mut self, dir: &Path, entries: usize) -> io::Result<(usize, bool)> {
        let mut walk = match self.walk.take() {
            Some(walk) => walk,
            None => Walk::begin(dir)?,
        };
        let (seen, whole) = walk.step(entries);
        if whole {
            self.last = walk.counted();
        } else {
            self.walk = Some(walk);
        }
        Ok((seen, whole))
    }

    /// It was counted some other way.
    pub fn set(&mut self, usage: Usage) {
        self.walk = None;
        self.last = usage;
    }

    /// The last whole count, or what the present one has already found beyond it.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let now = self.walk.as_ref().map(Walk::counted).unwrap_or_default();
        Usage {
            bytes: now.bytes.max(self.last.bytes),
            inodes: now.inodes.max(self.last.inodes),
            hidden: now.hidden || self.last.hidden,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_large_directory_is_counted_bit_by_bit() {
        let dir = tempfile::tempdir().unwrap();
        (0..100).for_each(|n| fs::write(dir.path().join(n.to_string()), "x").unwrap());
        let mut meter = Meter::default();
        assert_eq!(meter.step(dir.path(), 40).unwrap(), (40, false));
        assert_eq!(meter.usage().inodes, 40);
        assert_eq!(meter.step(dir.path(), 60).unwrap().0, 60);
        let _ = meter.step(dir.path(), 1).unwrap();
        assert_eq!(meter.usage().inodes, 100);
        // The next count begins anew, and the last one is known until it is over.
        (0..50).for_each(|n| fs::remove_file(dir.path().join(n.to_string())).unwrap());
        while !meter.step(dir.path(), 10).unwrap().1 {}
        while !meter.step(dir.path(), 10).unwrap().1 {}
        assert_eq!(meter.usage().inodes, 50);
        let mut other = Meter::default();
        assert!(other.step(&dir.path().join("none"), 10).is_err());
    }
}
