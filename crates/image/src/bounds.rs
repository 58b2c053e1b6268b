//! The bounds on one image: what its layers may be together, whatever each is by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::ImageError;
use crate::manifest::Manifest;
use crate::options::UnpackLimits;
use crate::space::Space;
use crate::types::Usage;

/// As many layers as overlayfs can stack.
pub(crate) const LAYERS_MAX: usize = 500;

/// Limits, and what the image's layers have used of them so far. Clones count together.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    pub(crate) limits: UnpackLimits,
    pub(crate) space: Arc<Space>,
    totals: Arc<Totals>,
}

#[derive(Debug, Default)]
struct Totals {
    bytes: AtomicU64,
    compressed: AtomicU64,
    entries: AtomicU64,
    given_up: AtomicBool,
}

/// What one layer has used.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Spent {
    pub(crate) bytes: u64,
    pub(crate) compressed: u64,
    pub(crate) entries: u64,
}

impl From<UnpackLimits> for Bounds {
    /// For one layer by itself.
    fn from(limits: UnpackLimits) -> Self {
        Self::new(limits, Space::new(limits.keep_free))
    }
}

impl Bounds {
    pub(crate) fn new(limits: UnpackLimits, space: Arc<Space>) -> Self {
        Self {
            limits,
            space,
            totals: Arc::default(),
        }
    }

    /// Ends the unpacking of the image's other layers at their next read.
    pub(crate) fn give_up(&self) {
        self.totals.given_up.store(true, Ordering::Relaxed);
    }

    /// A layer that is here already is part of the image too.
    pub(crate) fn add_present(&self, usage: Usage) {
        add(&self.totals.bytes, usage.bytes);
        // It was let in once, so it does not count as blown up.
        add(&self.totals.compressed, usage.bytes);
        add(&self.totals.entries, usage.inodes);
    }

    /// Counts what was read of an unpacked archive; the error is the limit that was hit.
    pub(crate) fn read(&self, bytes: u64, compressed: u64) -> Result<(), String> {
        let UnpackLimits {
            bytes: limit,
            ratio,
            ratio_from,
            ..
        } = self.limits;
        if self.totals.given_up.load(Ordering::Relaxed) {
            return Err("another layer of the image was refused".to_owned());
        }
        let compressed = add(&self.totals.compressed, compressed);
        let total = add(&self.totals.bytes, bytes);
        if total > limit {
            return Err(format!("the image has more than {limit} bytes unpacked"));
        }
        if total > ratio_from && total / compressed.max(1) > ratio {
            return Err(format!(
                "the image has {total} bytes unpacked from {compressed}, more than {ratio} times as much"
            ));
        }
        Ok(())
    }

    /// Counts an entry; the error is the limit that was hit.
    pub(crate) fn entry(&self) -> Result<(), String> {
        if add(&self.totals.entries, 1) > self.limits.entries {
            return Err(format!(
                "the image has more than {} entries",
                self.limits.entries
            ));
        }
        Ok(())
    }

    /// Takes back what a layer has used that is unpacked once more.
    pub(crate) fn take_back(&self, spent: Spent) {
        self.totals.bytes.fetch_sub(spent.bytes, Ordering::Relaxed);
        self.totals
            .compressed
            .fetch_sub(spent.compressed, Ordering::Relaxed);
        self.totals
            .entries
            .fetch_sub(spent.entries, Ordering::Relaxed);
    }
}

/// Adds, and gives the sum.
fn add(to: &AtomicU64, more: u64) -> u64 {
    to.fetch_add(more, Ordering::Relaxed).saturating_add(more)
}

/// Refuses a manifest whose image could not be stored, before anything of it is downloaded.
pub(crate) fn check_manifest(
    label: &str,
    manifest: &Manifest,
    limits: &UnpackLimits,
) -> Result<(), ImageError> {
    let over = |limit: String| {
        Err(ImageError::ImageOverLimit {
            reference: label.to_owned(),
            limit,
        })
    };
    if manifest.layers.len() > LAYERS_MAX {
        return over(format!(
            "{} layers, more than the {LAYERS_MAX} that overlayfs can stack",
            manifest.layers.len()
        ));
    }
    let size = manifest
        .layers
        .iter()
        .try_fold(0_u64, |sum, layer| sum.checked_add(layer.size));
    match size {
        Some(size) if size <= limits.download => Ok(()),
        _ => over(format!(
            "more than {} bytes of compressed layers",
            limits.download
        )),
    }
}
