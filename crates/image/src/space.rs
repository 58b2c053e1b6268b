//! The disk's free space, shared by all pulls and imports of a store.
//!
//! What somebody is going to write is reserved first and given back as it is written, since from then on the
//! filesystem counts it. So pulls that run side by side don't each count on the same free bytes, and the
//! reserve that is kept for the database and for pods is never touched by an image.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::error::ImageError;

/// Inodes that stay free, on filesystems that have a fixed number of them.
const KEEP_INODES: u64 = 1024;

/// The filesystem of a store.
#[derive(Debug)]
pub(crate) struct Space {
    /// Bytes that stay free whatever happens.
    keep_free: u64,
    /// Bytes that somebody has been promised and has not yet written.
    promised: Mutex<u64>,
}

impl Space {
    pub(crate) fn new(keep_free: u64) -> Arc<Self> {
        Arc::new(Self {
            keep_free,
            promised: Mutex::new(0),
        })
    }

    /// Promises space for `bytes` more on the filesystem of `at`; `path` and `action` are for the error.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        bytes: u64,
        at: impl AsFd,
        path: &Path,
        action: &'static str,
    ) -> Result<Reservation, ImageError> {
        let mut promised = self.promised.lock();
        let disk =
            rustix::fs::fstatvfs(at).map_err(|e| ImageError::io("asking the disk of", path, e))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        let usable = free
            .saturating_sub(self.keep_free)
            .saturating_sub(*promised);
        if bytes > usable {
            return Err(ImageError::LowSpace {
                path: path.to_owned(),
                action,
                needed: bytes,
                free,
                kept: self.keep_free,
                promised: *promised,
            });
        }
        if disk.f_files > 0 && disk.f_favail < KEEP_INODES {
            return Err(ImageError::NoInodes {
                path: path.to_owned(),
                action,
                free: disk.f_favail,
            });
        }
        *promised = promised.saturating_add(bytes);
        Ok(Reservation {
            space: self.clone(),
            left: AtomicU64::new(bytes),
        })
    }
}

/// A promise of space, given back by what was written and, for the rest, when it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    space: Arc<Space>,
    left: AtomicU64,
}

impl Reservation {
    /// So many bytes were written, or turned out not to be needed.
    pub(crate) fn used(&self, bytes: u64) {
        let mut promised = self.space.promised.lock();
        let left = self.left.load(Ordering::Relaxed);
        let bytes = bytes.min(left);
        self.left.store(left - bytes, Ordering::Relaxed);
        *promised = promised.saturating_sub(bytes);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.used(u64::MAX);
    }
}

/// Bytes that are reserved at a time where nobody knows how many there will be.
const STEP: u64 = 8 << 20;

/// Reserves step by step.
#[derive(Debug)]
pub(crate) struct Meter {
    space: Arc<Space>,
    reservation: Option<Reservation>,
    left: u64,
}

impl Meter {
    pub(crate) fn new(space: Arc<Space>) -> Self {
        Self {
            space,
            reservation: None,
            left: 0,
        }
    }

    /// Call before `bytes` are written.
    pub(crate) fn spend(
        &mut self,
        bytes: u64,
        at: impl AsFd,
        path: &Path,
        action: &'static str,
    ) -> Result<(), ImageError> {
        if bytes > self.left {
            // What it promised is written by now.
            self.reservation = None;
            let step = bytes.max(STEP);
            self.reservation = Some(self.space.reserve(step, at, path, action)?);
            self.left = step;
        }
        self.left -= bytes;
        if let Some(reservation) = &self.reservation {
            reservation.used(bytes);
        }
        Ok(())
    }
}

/// A file whose growth is metered and bounded.
pub(crate) struct MeteredFile<'a> {
    pub(crate) file: std::fs::File,
    pub(crate) path: &'a Path,
    pub(crate) meter: &'a mut Meter,
    /// Bytes that may still be written.
    pub(crate) left: &'a mut u64,
}

/// Why a [`MeteredFile`] took no more, carried through [`io::Error`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// The disk.
    #[error("{0}")]
    Space(ImageError),
    /// The bound.
    #[error("too many bytes")]
    TooLarge,
}

impl Write for MeteredFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len() as u64;
        *self.left = self
            .left
            .checked_sub(length)
            .ok_or_else(|| io::Error::other(Refused::TooLarge))?;
        self.meter
            .spend(length, &self.file, self.path, "reading an archive")
            .map_err(|e| io::Error::other(Refused::Space(e)))?;
        self.file.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(at: &std::fs::File) -> u64 {
        let disk = rustix::fs::fstatvfs(at).unwrap();
        disk.f_bavail * disk.f_frsize
    }

    #[test]
    fn promises_add_up_and_end() {
        let dir = tempfile::tempdir().unwrap();
        let at = std::fs::File::open(dir.path()).unwrap();
        // Half of what is free, so that others who write meanwhile don't matter.
        let half = free(&at) / 2;
        let space = Space::new(half);
        let reserve = |bytes: u64| space.reserve(bytes, &at, dir.path(), "testing");
        let third = half / 3;
        let (one, _two) = (reserve(third).unwrap(), reserve(third).unwrap());
        let error = reserve(half / 2).unwrap_err();
        assert!(matches!(error, ImageError::LowSpace { .. }), "{error}");
        assert!(
            error.to_string().contains("no space left on device"),
            "{error}"
        );
        one.used(third);
        let again = reserve(half / 2).unwrap();
        drop(one);
        assert!(
            reserve(half / 2).is_err(),
            "what was used is not given back twice"
        );
        drop(again);
        reserve(half / 2).unwrap();
        assert!(reserve(u64::MAX).is_err());
    }

    #[test]
    fn a_meter_holds_one_step_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let at = std::fs::File::open(dir.path()).unwrap();
        let space = Space::new(0);
        let mut meter = Meter::new(space.clone());
        for _ in 0..100 {
            meter.spend(STEP / 3, &at, dir.path(), "testing").unwrap();
            assert!(*space.promised.lock() <= STEP);
        }
        drop(meter);
        assert_eq!(*space.promised.lock(), 0);
    }
}
