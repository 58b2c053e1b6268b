//! Garbage collection: what no image, no snapshot and no work under way needs.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::digest::Digest;
use crate::error::ImageError;
use crate::mount::unmount_if_mounted;
use crate::store::Inner;
use crate::types::GcReport;

/// Downloads that broke off can be resumed for so long.
const KEEP_PARTS: Duration = Duration::from_secs(24 * 3600);

impl Inner {
    pub(crate) fn collect(&self) -> Result<GcReport, ImageError> {
        let Some(collecting) = self.leases.collect()? else {
            return Ok(GcReport {
                deferred: true,
                ..GcReport::default()
            });
        };
        let images = self.catalog.read()?;
        let (mut blobs, mut layers): (HashSet<Digest>, HashSet<Digest>) = Default::default();
        for (id, record) in &images.images {
            blobs.insert(id.clone());
            blobs.extend(record.manifests.iter().cloned());
            layers.extend(record.layers.iter().map(|layer| layer.chain.clone()));
            if self.options.keep_layer_blobs {
                blobs.extend(record.layers.iter().map(|layer| layer.blob.clone()));
            }
        }
        for snapshot in self.snapshots.records()? {
            layers.extend(snapshot.layers);
        }
        let mut report = GcReport::default();
        for (digest, size) in self.blobs.list()? {
            if blobs.contains(&digest) || collecting.state.protects(&digest) {
                continue;
            }
            let path = self.blobs.path(&digest);
            fs::remove_file(&path).map_err(|e| ImageError::io("removing", &path, e))?;
            report.blobs += 1;
            report.bytes += size;
        }
        for layer in self.layers.list()? {
            if layers.contains(&layer.chain) || collecting.state.protects(&layer.chain) {
                continue;
            }
            if self.sweeper.discard(&self.layers.path(&layer.chain))? {
                report.layers += 1;
                report.bytes += layer.usage.bytes;
            }
        }
        self.syncer.kick();
        if collecting.state.idle() {
            self.clean_ingest()?;
            // The catalog is also written without a lease; who has it now will leave nothing.
            if let Some(_unused) = self.catalog.try_lock()? {
                clean_temporary(&self.root)?;
            }
            clean_temporary(&self.root.join("blobs/sha256"))?;
        }
        Ok(report)
    }

    /// Takes images out of the catalog whose layers were not on the disk when the machine went down.
    pub(crate) fn forget_lost_layers(&self) -> Result<(), ImageError> {
        let lost = self.syncer.lost()?;
        if lost.is_empty() {
            return Ok(());
        }
        let is_lost = |chain: &Digest| lost.contains(&self.layers.path(chain));
        self.catalog.update(|images| {
            images.images.retain(|id, record| {
                let whole = !record.layers.iter().any(|layer| is_lost(&layer.chain));
                if !whole {
                    let names: Vec<&str> = record.tags.iter().map(String::as_str).collect();
                    let names = names.join(", ");
                    tracing::warn!(%id, names, "the machine went down before the image was on the disk");
                }
                whole
            });
        })?;
        for layer in &lost {
            self.sweeper.discard(layer)?;
        }
        Ok(())
    }

    /// Removes what work that was cut short has left. Nobody may be at work.
    fn clean_ingest(&self) -> Result<(), ImageError> {
        let ingest = self.root.join("ingest");
        let failed = |e: io::Error| ImageError::io("reading", &ingest, e);
        for entry in fs::read_dir(&ingest).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            let fresh = || {
                let modified = entry.metadata().and_then(|m| m.modified()).ok()?;
                Some(
                    SystemTime::now()
                        .duration_since(modified)
                        .unwrap_or_default()
                        < KEEP_PARTS,
                )
            };
            let extension = path.extension().and_then(|e| e.to_str());
            if extension == Some("part") && fresh() == Some(true) {
                continue;
            }
            if extension == Some("merged") {
                unmount_if_mounted(&path).map_err(|e| ImageError::io("unmounting", &path, e))?;
            }
            self.sweeper.discard(&path)?;
        }
        Ok(())
    }
}

/// Removes files that were being written when their process was killed. Nobody may be at work.
fn clean_temporary(directory: &Path) -> Result<(), ImageError> {
    let failed = |e: io::Error| ImageError::io("reading", directory, e);
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "tmp") && path.is_file() {
            fs::remove_file(&path).map_err(|e| ImageError::io("removing", &path, e))?;
        }
    }
    Ok(())
}
