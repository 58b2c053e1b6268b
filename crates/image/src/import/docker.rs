//! What `docker save` writes: `manifest.json` names a config, tags and layer files for each image.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::Candidate;
use super::archive::Archive;
use crate::digest::Digest;
use crate::error::ImageError;
use crate::install::Found;
use crate::lease::Lease;
use crate::manifest::{CONFIG_MAX, Descriptor, MANIFEST_MAX, Manifest, parse_config};
use crate::reference::Reference;
use crate::store::Inner;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

pub(super) fn candidates(
    inner: &Inner,
    lease: &Lease,
    archive: &Archive,
) -> Result<Vec<Candidate>, ImageError> {
    let Some(member) = archive.get("manifest.json")? else {
        return Ok(Vec::new());
    };
    let bytes = archive.read(&member, MANIFEST_MAX)?;
    let saved: Vec<Saved> = serde_json::from_slice(&bytes)
        .map_err(|e| archive.bad(format!("its manifest.json is not valid: {e}")))?;
    if saved.is_empty() {
        return Err(archive.bad("its manifest.json names no image".to_owned()));
    }
    saved
        .into_iter()
        .map(|saved| candidate(inner, lease, archive, saved))
        .collect()
}

fn candidate(
    inner: &Inner,
    lease: &Lease,
    archive: &Archive,
    saved: Saved,
) -> Result<Candidate, ImageError> {
    let missing = |name: &str| {
        archive.bad(format!(
            "its manifest.json names {name:?}, which is not in it"
        ))
    };
    let mut tags = BTreeSet::new();
    for tag in saved.repo_tags.unwrap_or_default() {
        tags.extend(tag.parse::<Reference>()?.repo_tag());
    }
    let member = archive
        .get(&saved.config)?
        .ok_or_else(|| missing(&saved.config))?;
    let bytes = archive.read(&member, CONFIG_MAX)?;
    let id = Digest::of(&bytes);
    let label = tags.first().cloned().unwrap_or_else(|| id.to_string());
    let config = parse_config(&bytes).map_err(|reason| ImageError::BadImage {
        reference: label.clone(),
        what: format!("its config {}", saved.config),
        reason,
    })?;
    lease.protect(&id);
    inner.blobs.write(&id, &bytes)?;
    let (mut layers, mut members) = (Vec::new(), Vec::new());
    for name in saved.layers.unwrap_or_default() {
        let member = archive.get(&name)?.ok_or_else(|| missing(&name))?;
        layers.push(Descriptor::new(archive.digest(&member)?, member.size));
        members.push(member);
    }
    let found = Found {
        label,
        manifest: Manifest {
            config: Descriptor::new(id, bytes.len() as u64),
            layers,
        },
        config,
        // Its manifest is no document of a registry, so no digest of it could be pulled again.
        documents: BTreeSet::new(),
        documents_size: 0,
        tags,
        digests: BTreeSet::new(),
    };
    Ok(Candidate {
        found,
        layers: members,
    })
}
