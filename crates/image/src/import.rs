//! Import of images from files: OCI layouts (directory or tar) and docker-archive tars.
//!
//! A tar may have its documents after the layers they speak of, so it is read once, front to back, into
//! files in `ingest/` that are hashed while they are written; then both forms look the same.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::bounds::check_manifest;
use crate::digest::Digest;
use crate::error::ImageError;
use crate::install::{Found, run};
use crate::reference::Reference;
use crate::store::Inner;
use crate::types::{Progress, ProgressFn};

mod archive;
mod docker;
mod layout;

use archive::Archive;

/// What an import brought.
pub(crate) struct Imported {
    pub(crate) ids: Vec<Digest>,
    pub(crate) warnings: Vec<String>,
}

/// An image found in an archive, and where its layers are.
struct Candidate {
    found: Found,
    layers: Vec<archive::Member>,
}

/// Boxed, so that it is compiled in this crate and not in each program that imports.
pub(crate) fn import<'a>(
    inner: &'a Arc<Inner>,
    path: &'a Path,
    name: Option<&'a str>,
    progress: &'a ProgressFn,
) -> BoxFuture<'a, Result<Imported, ImageError>> {
    Box::pin(imported(inner, path, name, progress))
}

async fn imported(
    inner: &Arc<Inner>,
    path: &Path,
    name: Option<&str>,
    progress: &ProgressFn,
) -> Result<Imported, ImageError> {
    let name = name.map(parse_name).transpose()?;
    let lease = Arc::new(inner.leases.begin()?);
    let (worker, held, source) = (inner.clone(), lease.clone(), path.to_owned());
    let (candidates, mut warnings, archive) = run("reading an archive", move || {
        let archive = Archive::open(
            &source,
            &worker.root.join("ingest"),
            &worker.space,
            worker.options.limits.bytes,
        )?;
        let mut warnings = Vec::new();
        let candidates = match archive.format()? {
            archive::Format::Layout => {
                layout::candidates(&worker, &held, &archive, name.as_ref(), &mut warnings)?
            }
            archive::Format::Docker => docker::candidates(&worker, &held, &archive)?,
        };
        let candidates = give_name(&archive, candidates, name.as_ref())?;
        for candidate in &candidates {
            let Found {
                label, manifest, ..
            } = &candidate.found;
            check_manifest(label, manifest, &worker.options.limits)?;
            candidate.found.check_platform(&worker.options.platform)?;
        }
        Ok((candidates, warnings, Arc::new(archive)))
    })
    .await?;
    let mut ids = Vec::new();
    for Candidate { found, layers } in candidates {
        if found.tags.is_empty() {
            let id = &found.manifest.config.digest;
            warnings.push(format!("the archive gives image {id} no name; it can be used by its id, or import it with a name"));
        }
        let blobs = found
            .manifest
            .layers
            .iter()
            .map(|l| (l.digest.clone(), l.size))
            .collect();
        progress(Progress::Resolved {
            digest: found.manifest.config.digest.clone(),
            layers: blobs,
        });
        let wanted: Vec<_> = found
            .manifest
            .layers
            .iter()
            .map(|l| (l.digest.clone(), l.size))
            .zip(layers)
            .collect();
        let fetch = |number: usize| {
            let ((digest, size), member) = wanted[number].clone();
            let (archive, inner) = (archive.clone(), inner.clone());
            let reading = async move {
                run("reading an archive", move || {
                    archive.verify(&member, &digest, size)?;
                    if !inner.options.keep_layer_blobs {
                        return Ok(member.path);
                    }
                    archive.copy_out(&member, &inner.blobs, &digest)?;
                    Ok(inner.blobs.path(&digest))
                })
                .await
            };
            reading.boxed()
        };
        ids.push(inner.install(&lease, found, progress, fetch).await?);
    }
    Ok(Imported { ids, warnings })
}

fn parse_name(name: &str) -> Result<Reference, ImageError> {
    let reference: Reference = name.parse()?;
    if reference.repo_tag().is_none() {
        return Err(ImageError::BadReference {
            reference: name.to_owned(),
            reason: "a name for an import has a tag and no digest",
        });
    }
    Ok(reference)
}

fn give_name(
    archive: &Archive,
    mut candidates: Vec<Candidate>,
    name: Option<&Reference>,
) -> Result<Vec<Candidate>, ImageError> {
    let Some(name) = name else {
        return Ok(candidates);
    };
    match candidates.as_mut_slice() {
        [only] => {
            only.found.tags = name.repo_tag().into_iter().collect::<BTreeSet<_>>();
            only.found.label = name.to_string();
            Ok(candidates)
        }
        several => {
            let names: Vec<String> = several
                .iter()
                .flat_map(|c| c.found.tags.iter().cloned())
                .collect();
            Err(archive.bad(format!(
                "it holds {} images ({}), so one name can't be given to it; import it without a name",
                several.len(),
                names.join(", ")
            )))
        }
    }
}
