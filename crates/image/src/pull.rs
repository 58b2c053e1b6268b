//! Pull: resolve, choose a platform, download what is missing, unpack.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::Semaphore;

use crate::bounds::check_manifest;
use crate::digest::Digest;
use crate::error::{ErrorKind, ImageError};
use crate::install::{Found, run};
use crate::lease::Lease;
use crate::manifest::{CONFIG_MAX, Descriptor, Document, Manifest, choose, parse, parse_config};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::registry::{Registry, hosts};
use crate::space::Reservation;
use crate::store::Inner;
use crate::types::{Progress, ProgressFn, PullRequest};

mod download;

/// Indexes inside indexes.
const DEPTH_MAX: usize = 4;

/// Boxed, so that it is compiled in this crate and not in each program that pulls.
pub(crate) fn pull(
    inner: &Arc<Inner>,
    request: PullRequest,
    progress: ProgressFn,
) -> BoxFuture<'_, Result<Digest, ImageError>> {
    Box::pin(pulled(inner, request, progress))
}

async fn pulled(
    inner: &Arc<Inner>,
    request: PullRequest,
    progress: ProgressFn,
) -> Result<Digest, ImageError> {
    let reference: Reference = request.reference.parse()?;
    progress(Progress::Resolving {
        reference: reference.to_string(),
    });
    let hosts_dirs = inner.hosts_dirs();
    let endpoints = hosts::endpoints(&hosts_dirs, reference.registry())?;
    let registry = Registry::new(reference.clone(), endpoints, request.auth, progress.clone())?;
    let lease = Arc::new(inner.leases.begin()?);
    let wanted = request
        .platform
        .unwrap_or_else(|| inner.options.platform.clone());
    let pull = Pull {
        inner: inner.clone(),
        registry: Arc::new(registry),
        lease,
        reference,
        wanted,
    };
    if let Some(id) = pull.already_there().await? {
        progress(Progress::Done { id: id.clone() });
        return Ok(id);
    }
    let found = pull.documents().await?;
    let layers: Vec<Descriptor> = found.manifest.layers.clone();
    progress(Progress::Resolved {
        digest: found
            .documents
            .first()
            .cloned()
            .unwrap_or_else(|| found.manifest.config.digest.clone()),
        layers: layers.iter().map(|l| (l.digest.clone(), l.size)).collect(),
    });
    let reservation = Arc::new(pull.reserve(&found).await?);
    let slots = Arc::new(Semaphore::new(inner.options.downloads_per_pull.max(1)));
    let pull = Arc::new(pull);
    let fetch = |number: usize| {
        let reservation = reservation.clone();
        let (pull, slots, layer) = (pull.clone(), slots.clone(), layers[number].clone());
        let downloading = async move {
            let _slot = slots
                .acquire_owned()
                .await
                .map_err(|_| ImageError::Cancelled {
                    action: "downloading",
                })?;
            download::blob(
                &pull.inner,
                &pull.registry,
                &pull.lease,
                &layer,
                &reservation,
            )
            .await
        };
        downloading.boxed()
    };
    let installed = inner.install(&pull.lease, found, &progress, fetch).await;
    if let Err(error) = &installed
        && error.kind() == ErrorKind::Exhausted
    {
        // There is no telling when it could go on, so the space is given back at once.
        drop(reservation);
        download::discard(&pull.inner, &layers).await?;
    }
    installed
}

struct Pull {
    inner: Arc<Inner>,
    registry: Arc<Registry>,
    lease: Arc<Lease>,
    reference: Reference,
    wanted: Platform,
}

impl Pull {
    /// The image, if the registry says that the name still stands for what is here, and that is whole.
    /// The registry is asked in any case: it decides who may have an image.
    async fn already_there(&self) -> Result<Option<Digest>, ImageError> {
        let known = |digest: &Digest| -> Result<Option<Digest>, ImageError> {
            let name = self.reference.repo_digest(digest);
            let images = self.inner.catalog.read()?;
            let Some((id, record)) = images
                .images
                .iter()
                .find(|(_, record)| record.digests.contains(&name))
            else {
                return Ok(None);
            };
            if self.wanted.rank(&record.platform).is_none() {
                return Ok(None);
            }
            for layer in &record.layers {
                self.lease.protect(&layer.chain);
                if self.inner.layers.get(&layer.chain)?.is_none() {
                    return Ok(None);
                }
            }
            Ok(Some(id.clone()))
        };
        let images = self.inner.catalog.read()?;
        let repository = format!("{}@", self.reference.repository());
        if !images
            .images
            .values()
            .any(|record| record.digests.iter().any(|d| d.starts_with(&repository)))
        {
            return Ok(None);
        }
        let Some(digest) = self.registry.head().await else {
            return Ok(None);
        };
        // What the registry says of itself decides which image a tag means, and never what a digest does: it could name
        // another image of the repository that is here.
        if self
            .reference
            .digest()
            .is_some_and(|asked| *asked != digest)
        {
            return Ok(None);
        }
        let Some(id) = known(&digest)? else {
            return Ok(None);
        };
        let tag = self.reference.repo_tag();
        let put = tag.is_none_or(|tag| {
            images
                .images
                .get(&id)
                .is_some_and(|record| record.tags.contains(&tag))
        });
        if !put {
            let (inner, name, id) = (self.inner.clone(), self.reference.repo_tag(), id.clone());
            return run("naming an image", move || {
                inner.catalog.update(|images| {
                    let name = name?;
                    images.untag(&name);
                    images.images.get_mut(&id)?.tags.insert(name);
                    Some(id)
                })
            })
            .await;
        }
        Ok(Some(id))
    }

    /// Manifest and config, by way of an index where there is one.
    async fn documents(&self) -> Result<Found, ImageError> {
        let label = self.reference.to_string();
        let bad = |what: String, reason: String| ImageError::BadImage {
            reference: label.clone(),
            what,
            reason,
        };
        let mut documents = BTreeSet::new();
        let (mut size, mut top) = (0, None);
        let mut target = self.reference.target().to_owned();
        let mut announced = None;
        let mut depth = 0;
        let manifest: Manifest = loop {
            let served = self.registry.manifest(&target).await?;
            // One document can't have two sizes; an index that says so was made to confuse.
            if let Some(size) = announced.filter(|size| *size != served.bytes.len() as u64) {
                return Err(ImageError::Mismatch {
                    what: format!("manifest {}", served.digest),
                    expected: format!("{size} bytes"),
                    actual: served.bytes.len().to_string(),
                });
            }
            self.keep(&served.digest, &served.bytes).await?;
            size += served.bytes.len() as u64;
            documents.insert(served.digest.clone());
            top.get_or_insert_with(|| served.digest.clone());
            match parse(&served.bytes)
                .map_err(|reason| bad(format!("manifest {}", served.digest), reason))?
            {
                Document::Manifest(manifest) => break manifest,
                Document::Index(index) if depth < DEPTH_MAX => {
                    let chosen = choose(&index, &self.wanted).map_err(|offered| {
                        ImageError::WrongPlatform {
                            reference: label.clone(),
                            wanted: self.wanted.clone(),
                            offered,
                        }
                    })?;
                    target = chosen.digest.to_string();
                    announced = Some(chosen.size);
                }
                Document::Index(_) => {
                    return Err(bad(
                        "its index".to_owned(),
                        "indexes are nested too deep".to_owned(),
                    ));
                }
            }
            depth += 1;
        };
        check_manifest(&label, &manifest, &self.inner.options.limits)?;
        let config = &manifest.config;
        if config.size > CONFIG_MAX {
            return Err(bad(
                "its config".to_owned(),
                format!("it is larger than {CONFIG_MAX} bytes"),
            ));
        }
        let mut bytes = None;
        for _ in 0..2 {
            let reservation = Arc::new(self.promise(config.size).await?);
            download::blob(
                &self.inner,
                &self.registry,
                &self.lease,
                config,
                &reservation,
            )
            .await?;
            // None when it was here already and is damaged: then it is gone now.
            bytes = self.inner.blobs.read(&config.digest)?;
            if bytes.is_some() {
                break;
            }
        }
        let bytes = bytes.ok_or_else(|| {
            bad(
                "its config".to_owned(),
                "it vanished from the disk".to_owned(),
            )
        })?;
        let config = parse_config(&bytes)
            .map_err(|reason| bad(format!("config {}", config.digest), reason))?;
        let found = Found {
            label,
            documents,
            documents_size: size,
            tags: self.reference.repo_tag().into_iter().collect(),
            digests: top
                .iter()
                .map(|digest| self.reference.repo_digest(digest))
                .collect(),
            manifest,
            config,
        };
        found.check_platform(&self.wanted)?;
        Ok(found)
    }

    /// Space for all layers that have to be downloaded.
    async fn reserve(&self, found: &Found) -> Result<Reservation, ImageError> {
        let mut bytes = 0_u64;
        for (layer, descriptor) in found.layers()?.iter().zip(&found.manifest.layers) {
            if self.inner.layers.get(&layer.chain)?.is_none() && !self.inner.blobs.has(&layer.blob)
            {
                bytes = bytes.saturating_add(descriptor.size);
            }
        }
        self.promise(bytes).await
    }

    async fn promise(&self, bytes: u64) -> Result<Reservation, ImageError> {
        let inner = self.inner.clone();
        run("asking the disk", move || {
            let root = &inner.root;
            let at = File::open(root).map_err(|e| ImageError::io("opening", root, e))?;
            inner
                .space
                .reserve(bytes, &at, root, "downloading an image")
        })
        .await
    }

    async fn keep(&self, digest: &Digest, bytes: &[u8]) -> Result<(), ImageError> {
        self.lease.protect(digest);
        let (inner, digest, bytes) = (self.inner.clone(), digest.clone(), bytes.to_vec());
        run("storing a manifest", move || {
            inner.blobs.write(&digest, &bytes)
        })
        .await
    }
}

#[cfg(test)]
mod tests;
