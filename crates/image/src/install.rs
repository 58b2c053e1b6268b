//! The last part of a pull and of an import: layers unpacked side by side, fitted to each other, made
//! durable, and the image written into the catalog.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use futures::future::{BoxFuture, try_join_all};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use crate::bounds::Bounds;
use crate::catalog::{LayerRef, Record};
use crate::digest::Digest;
use crate::error::ImageError;
use crate::files;
use crate::layers::Staged;
use crate::lease::Lease;
use crate::manifest::{Config, Manifest};
use crate::platform::Platform;
use crate::store::Inner;
use crate::types::{Progress, ProgressFn};

/// An image whose documents are in the store.
#[derive(Debug)]
pub(crate) struct Found {
    /// How it is called in errors.
    pub(crate) label: String,
    pub(crate) manifest: Manifest,
    pub(crate) config: Config,
    /// Manifests and indexes to keep, and their bytes.
    pub(crate) documents: BTreeSet<Digest>,
    pub(crate) documents_size: u64,
    pub(crate) tags: BTreeSet<String>,
    pub(crate) digests: BTreeSet<String>,
}

impl Found {
    /// The layers, if manifest and config agree about them.
    pub(crate) fn layers(&self) -> Result<Vec<LayerRef>, ImageError> {
        let (blobs, diffs) = (&self.manifest.layers, &self.config.diff_ids);
        if blobs.len() != diffs.len() {
            return Err(ImageError::BadImage {
                reference: self.label.clone(),
                what: "its config".to_owned(),
                reason: format!(
                    "it names {} layers, the manifest {}",
                    diffs.len(),
                    blobs.len()
                ),
            });
        }
        let mut layers: Vec<LayerRef> = Vec::with_capacity(blobs.len());
        for (blob, diff) in blobs.iter().zip(diffs) {
            let chain = diff.chained(layers.last().map(|below| &below.chain));
            layers.push(LayerRef {
                blob: blob.digest.clone(),
                diff: diff.clone(),
                chain,
            });
        }
        Ok(layers)
    }

    /// Refuses an image that was made for another machine.
    pub(crate) fn check_platform(&self, wanted: &Platform) -> Result<(), ImageError> {
        match &self.config.platform {
            Some(platform) if wanted.rank(platform).is_none() => Err(ImageError::WrongPlatform {
                reference: self.label.clone(),
                wanted: wanted.clone(),
                offered: vec![platform.clone()],
            }),
            _ => Ok(()),
        }
    }
}

/// Permits for the layers of one image that are being unpacked; no image has so many.
const RUNNING_MAX: u32 = 1 << 16;

/// What unpacking a layer of an image shares with the others.
struct Work {
    lease: Arc<Lease>,
    bounds: Bounds,
    running: Arc<Semaphore>,
    progress: ProgressFn,
}

impl Inner {
    /// Unpacks what is missing and puts the image into the catalog. `fetch` brings the blob of the layer
    /// with that number; it is called for missing layers only, for all of them at once.
    pub(crate) async fn install(
        self: &Arc<Self>,
        lease: &Arc<Lease>,
        found: Found,
        progress: &ProgressFn,
        fetch: impl Fn(usize) -> BoxFuture<'static, Result<PathBuf, ImageError>> + Send,
    ) -> Result<Digest, ImageError> {
        let layers = found.layers()?;
        for layer in &layers {
            lease.protect(&layer.chain);
            lease.protect(&layer.blob);
        }
        let bounds = Bounds::new(self.options.limits, self.space.clone());
        let mut flights = Vec::new();
        let mut missing = Vec::new();
        for (number, layer) in layers.iter().enumerate() {
            let mut present = self.layers.get(&layer.chain)?;
            if present.is_none() {
                let flight = self.layer_flights.take(&layer.chain).await;
                present = self.layers.get(&layer.chain)?;
                if present.is_none() {
                    flights.push(flight);
                    missing.push(number);
                    continue;
                }
            }
            if let Some(record) = present {
                bounds.add_present(record.usage);
            }
            progress(Progress::Present {
                layer: layer.blob.clone(),
            });
        }
        let running = Arc::new(Semaphore::new(RUNNING_MAX as usize));
        let mut staging = Vec::new();
        for &number in &missing {
            let (inner, lease, blob) = (self.clone(), lease.clone(), fetch(number));
            let (layer, progress) = (layers[number].clone(), progress.clone());
            let (bounds, running) = (bounds.clone(), running.clone());
            staging.push(async move {
                let blob = blob.await?;
                let work = Work {
                    lease,
                    bounds,
                    running,
                    progress,
                };
                Ok::<_, ImageError>((number, inner.stage(work, layer, blob, number > 0).await?))
            });
        }
        let staged = match try_join_all(staging).await {
            Ok(staged) => staged,
            Err(error) => {
                // What is being unpacked can't be cancelled; it ends early, and what it made is gone then.
                bounds.give_up();
                let _all = running.acquire_many(RUNNING_MAX).await;
                return Err(error);
            }
        };
        let (inner, lease, id) = (
            self.clone(),
            lease.clone(),
            found.manifest.config.digest.clone(),
        );
        run("installing an image", move || {
            let _lease = lease;
            inner.settle(&layers, staged, &bounds)?;
            drop(flights);
            inner.record(found, layers)
        })
        .await?;
        progress(Progress::Done { id: id.clone() });
        Ok(id)
    }

    async fn stage(
        self: &Arc<Self>,
        work: Work,
        layer: LayerRef,
        blob: PathBuf,
        above_others: bool,
    ) -> Result<Staged, ImageError> {
        let cancelled = |_| ImageError::Cancelled {
            action: "unpacking",
        };
        let permit = self.unpackers.clone().acquire_owned().await;
        let permit = permit.map_err(cancelled)?;
        let running = work.running.clone().acquire_owned().await;
        let running = running.map_err(cancelled)?;
        (work.progress)(Progress::Unpacking {
            layer: layer.blob.clone(),
        });
        let inner = self.clone();
        run("unpacking a layer", move || {
            // It outlives a caller that gives up: the unpacking goes on until it sees its end.
            let _permit = permit;
            let staged = inner
                .layers
                .stage(&layer, &blob, above_others, &work.bounds)?;
            (work.progress)(Progress::Unpacked { layer: layer.blob });
            // In this order: whoever waits for the permit finds no trace of a layer that nobody takes.
            Ok((staged, work.lease, running))
        })
        .await
        .map(|(staged, ..)| staged)
    }

    /// Fits the staged layers to those below, then commits all, lowest first, and have them synced.
    fn settle(
        &self,
        layers: &[LayerRef],
        mut staged: Vec<(usize, Staged)>,
        bounds: &Bounds,
    ) -> Result<(), ImageError> {
        if staged.is_empty() {
            return Ok(());
        }
        staged.sort_by_key(|(number, _)| *number);
        let mut places: Vec<PathBuf> = layers
            .iter()
            .map(|layer| self.layers.fs(&layer.chain))
            .collect();
        for (number, layer) in &mut staged {
            let below: Vec<PathBuf> = places[..*number].iter().rev().cloned().collect();
            self.layers.settle(layer, &below, bounds)?;
            places[*number] = layer.fs();
        }
        for (_, layer) in &staged {
            self.layers.commit(layer, &self.syncer)?;
        }
        self.layers.sync_names()?;
        self.syncer.kick();
        Ok(())
    }

    fn record(&self, found: Found, layers: Vec<LayerRef>) -> Result<(), ImageError> {
        let id = found.manifest.config.digest.clone();
        let mut size = found
            .documents_size
            .saturating_add(found.manifest.config.size);
        for layer in &layers {
            size += self
                .layers
                .get(&layer.chain)?
                .map_or(0, |record| record.usage.bytes);
        }
        let record = Record {
            tags: found.tags,
            digests: found.digests,
            manifests: found.documents,
            layers,
            size: size.max(1),
            platform: found
                .config
                .platform
                .unwrap_or_else(|| self.options.platform.clone()),
            config: found.config.image,
            pinned: false,
            added: files::now(),
        };
        self.catalog.update(|images| images.put(&id, record))
    }
}

/// Runs blocking work on tokio's threads for it.
pub(crate) async fn run<T: Send + 'static>(
    action: &'static str,
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(ImageError::Cancelled { action }),
    }
}
