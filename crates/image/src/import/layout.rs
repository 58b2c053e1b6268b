//! OCI image layouts: `index.json` and `blobs/`.

use std::collections::BTreeSet;

use super::Candidate;
use super::archive::Archive;
use crate::error::ImageError;
use crate::install::Found;
use crate::lease::Lease;
use crate::manifest::{
    CONFIG_MAX, Descriptor, Document, MANIFEST_MAX, choose, parse, parse_config,
};
use crate::reference::Reference;
use crate::store::Inner;

/// Indexes inside indexes: no tool writes more than two.
const DEPTH_MAX: usize = 4;

pub(super) fn candidates(
    inner: &Inner,
    lease: &Lease,
    archive: &Archive,
    name: Option<&Reference>,
    warnings: &mut Vec<String>,
) -> Result<Vec<Candidate>, ImageError> {
    let Some(member) = archive.get("index.json")? else {
        return Ok(Vec::new());
    };
    let bytes = archive.read(&member, MANIFEST_MAX)?;
    let bad = |reason: String| archive.bad(format!("its index.json is not valid: {reason}"));
    let index = match parse(&bytes).map_err(bad)? {
        Document::Index(index) if index.is_empty() => {
            return Err(archive.bad("its index.json is empty".to_owned()));
        }
        Document::Index(index) => index,
        Document::Manifest(_) => return Err(bad("it is a manifest".to_owned())),
    };
    let mut groups: Vec<(Option<Reference>, Vec<Descriptor>)> = Vec::new();
    for descriptor in index {
        let found = named(&descriptor, warnings);
        match groups.iter_mut().find(|(name, _)| *name == found) {
            Some((_, group)) => group.push(descriptor),
            None => groups.push((found, vec![descriptor])),
        }
    }
    // The same image under several names is one image.
    let mut candidates: Vec<Candidate> = Vec::new();
    for (reference, group) in groups {
        let reference = reference.or_else(|| name.cloned());
        let candidate = Layout {
            inner,
            lease,
            archive,
        }
        .candidate(reference.as_ref(), &group)?;
        let id = &candidate.found.manifest.config.digest;
        match candidates
            .iter_mut()
            .find(|c| c.found.manifest.config.digest == *id)
        {
            Some(same) => {
                same.found.tags.extend(candidate.found.tags);
                same.found.digests.extend(candidate.found.digests);
                same.found.documents.extend(candidate.found.documents);
            }
            None => candidates.push(candidate),
        }
    }
    Ok(candidates)
}

/// The name that tools write beside an image: containerd and Docker the whole, others perhaps the tag alone.
fn named(descriptor: &Descriptor, warnings: &mut Vec<String>) -> Option<Reference> {
    let annotation = |key: &str| {
        descriptor
            .annotations
            .get(key)
            .filter(|value| !value.is_empty())
    };
    if let Some(name) = annotation("io.containerd.image.name") {
        return name.parse().ok();
    }
    let name = annotation("org.opencontainers.image.ref.name")?;
    if name.contains(['/', ':']) {
        return name.parse().ok();
    }
    warnings.push(format!(
        "the archive names an image only by its tag {name:?}, which is not enough for a name"
    ));
    None
}

struct Layout<'a> {
    inner: &'a Inner,
    lease: &'a Lease,
    archive: &'a Archive,
}

impl Layout<'_> {
    fn candidate(
        &self,
        reference: Option<&Reference>,
        group: &[Descriptor],
    ) -> Result<Candidate, ImageError> {
        let label = reference.map_or_else(|| "of the archive".to_owned(), Reference::to_string);
        let mut documents = BTreeSet::new();
        let mut size = 0;
        let mut chosen = self.choose(&label, group)?.clone();
        let top = chosen.digest.clone();
        let mut depth = 0;
        let manifest = loop {
            let bytes = self.document(&chosen, MANIFEST_MAX)?;
            documents.insert(chosen.digest.clone());
            size += chosen.size;
            let document = parse(&bytes).map_err(|reason| ImageError::BadImage {
                reference: label.clone(),
                what: format!("manifest {}", chosen.digest),
                reason,
            })?;
            match document {
                Document::Manifest(manifest) => break manifest,
                Document::Index(index) if depth < DEPTH_MAX => {
                    chosen = self.choose(&label, &index)?.clone()
                }
                Document::Index(_) => {
                    return Err(self
                        .archive
                        .bad("its indexes are nested too deep".to_owned()));
                }
            }
            depth += 1;
        };
        let config = self.document(&manifest.config, CONFIG_MAX)?;
        let config = parse_config(&config).map_err(|reason| ImageError::BadImage {
            reference: label.clone(),
            what: format!("config {}", manifest.config.digest),
            reason,
        })?;
        let layers = manifest
            .layers
            .iter()
            .map(|layer| self.member(layer))
            .collect::<Result<_, _>>()?;
        let found = Found {
            label,
            config,
            documents,
            documents_size: size,
            tags: reference
                .and_then(Reference::repo_tag)
                .into_iter()
                .collect(),
            digests: reference.map(|r| r.repo_digest(&top)).into_iter().collect(),
            manifest,
        };
        Ok(Candidate { found, layers })
    }

    fn choose<'d>(
        &self,
        label: &str,
        index: &'d [Descriptor],
    ) -> Result<&'d Descriptor, ImageError> {
        let wanted = &self.inner.options.platform;
        choose(index, wanted).map_err(|offered| ImageError::WrongPlatform {
            reference: label.to_owned(),
            wanted: wanted.clone(),
            offered,
        })
    }

    /// A verified document, which is then in the store too.
    fn document(&self, descriptor: &Descriptor, limit: u64) -> Result<Vec<u8>, ImageError> {
        let member = self.member(descriptor)?;
        let bytes = self.archive.read(&member, limit)?;
        self.archive
            .verify(&member, &descriptor.digest, descriptor.size)?;
        self.lease.protect(&descriptor.digest);
        self.inner.blobs.write(&descriptor.digest, &bytes)?;
        Ok(bytes)
    }

    fn member(&self, descriptor: &Descriptor) -> Result<super::archive::Member, ImageError> {
        let name = format!("blobs/sha256/{}", descriptor.digest.hex());
        self.archive.get(&name)?.ok_or_else(|| {
            self.archive.bad(format!(
                "its documents name blob {}, which is not in it",
                descriptor.digest
            ))
        })
    }
}
