//! The files of an archive: those of a directory, or those of a tar read into `ingest/`.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::blobs::Blobs;
use crate::digest::Digest;
use crate::error::ImageError;
use crate::files;
use crate::space::{Meter, MeteredFile, Refused, Space};
use crate::unpack::{Kind, TarStream, decompress};

/// More files than any image archive has.
const MEMBERS_MAX: usize = 100_000;

#[derive(Debug)]
pub(super) struct Archive {
    source: PathBuf,
    files: Files,
}

#[derive(Debug)]
enum Files {
    Directory,
    /// Removed with the archive.
    Spooled {
        place: PathBuf,
        members: HashMap<String, Spooled>,
    },
}

#[derive(Debug)]
enum Spooled {
    File(Member),
    /// Links inside the archive: older `docker save` wrote a layer once and linked it elsewhere.
    Link(String),
}

/// One file.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) path: PathBuf,
    pub(super) size: u64,
    /// Known where the file was hashed while it was written.
    digest: Option<Digest>,
}

pub(super) enum Format {
    Layout,
    Docker,
}

impl Archive {
    /// Reads what is at `source`; a tar's files go into a directory of their own in `ingest`, at most `limit` bytes.
    pub(super) fn open(
        source: &Path,
        ingest: &Path,
        space: &Arc<Space>,
        limit: u64,
    ) -> Result<Self, ImageError> {
        let failed = |e| ImageError::io("opening", source, e);
        if fs::metadata(source).map_err(failed)?.is_dir() {
            return Ok(Self {
                source: source.to_owned(),
                files: Files::Directory,
            });
        }
        let place = ingest.join(uuid::Uuid::new_v4().simple().to_string());
        files::make_directory(&place)?;
        // From here on the directory goes away with the archive.
        let mut archive = Self {
            source: source.to_owned(),
            files: Files::Spooled {
                place: place.clone(),
                members: HashMap::new(),
            },
        };
        let members = archive.spool(File::open(source).map_err(failed)?, &place, space, limit)?;
        archive.files = Files::Spooled { place, members };
        Ok(archive)
    }

    pub(super) fn format(&self) -> Result<Format, ImageError> {
        if self.get("index.json")?.is_some()
            && (self.get("oci-layout")?.is_some() || self.get("manifest.json")?.is_none())
        {
            return Ok(Format::Layout);
        }
        if self.get("manifest.json")?.is_some() {
            return Ok(Format::Docker);
        }
        Err(self.bad(
            "it is no image: neither an OCI layout (index.json) nor made by docker save (manifest.json)".to_owned(),
        ))
    }

    pub(super) fn bad(&self, reason: String) -> ImageError {
        ImageError::Archive {
            path: self.source.clone(),
            reason,
        }
    }

    pub(super) fn get(&self, name: &str) -> Result<Option<Member>, ImageError> {
        let name = normal(name)
            .ok_or_else(|| self.bad(format!("it names the file {name:?} outside of itself")))?;
        match &self.files {
            Files::Directory => {
                let path = self.source.join(&name);
                match fs::metadata(&path) {
                    Ok(meta) if meta.is_file() => Ok(Some(Member {
                        path,
                        size: meta.len(),
                        digest: None,
                    })),
                    Ok(_) => Ok(None),
                    Err(e)
                        if matches!(
                            e.kind(),
                            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                        ) =>
                    {
                        Ok(None)
                    }
                    Err(e) => Err(ImageError::io("reading", &path, e)),
                }
            }
            Files::Spooled { members, .. } => {
                let mut name = name.as_str();
                for _ in 0..10 {
                    match members.get(name) {
                        Some(Spooled::File(member)) => return Ok(Some(member.clone())),
                        Some(Spooled::Link(target)) => name = target,
                        None => break,
                    }
                }
                Ok(None)
            }
        }
    }

    /// A whole document.
    pub(super) fn read(&self, member: &Member, limit: u64) -> Result<Vec<u8>, ImageError> {
        if member.size > limit {
            return Err(self.bad(format!(
                "{} is larger than {limit} bytes",
                member.path.display()
            )));
        }
        fs::read(&member.path).map_err(|e| ImageError::io("reading", &member.path, e))
    }

    /// The digest of a file.
    pub(super) fn digest(&self, member: &Member) -> Result<Digest, ImageError> {
        match &member.digest {
            Some(digest) => Ok(digest.clone()),
            None => File::open(&member.path)
                .and_then(|file| copy_hashed(file, io::sink()))
                .map(|(digest, _)| digest)
                .map_err(|e| ImageError::io("reading", &member.path, e)),
        }
    }

    pub(super) fn verify(
        &self,
        member: &Member,
        wanted: &Digest,
        size: u64,
    ) -> Result<(), ImageError> {
        let mismatch = |expected: String, actual: String| {
            Err(ImageError::Mismatch {
                what: format!("blob {wanted} of {}", self.source.display()),
                expected,
                actual,
            })
        };
        if member.size != size {
            return mismatch(format!("{size} bytes"), member.size.to_string());
        }
        let digest = self.digest(member)?;
        if digest != *wanted {
            return mismatch(wanted.to_string(), digest.to_string());
        }
        Ok(())
    }

    /// Copies a verified file into the store.
    pub(super) fn copy_out(
        &self,
        member: &Member,
        blobs: &Blobs,
        digest: &Digest,
    ) -> Result<(), ImageError> {
        let path = blobs.path(digest);
        if path.exists() {
            return Ok(());
        }
        let temporary = path.with_extension(format!("{}.tmp", uuid::Uuid::new_v4().simple()));
        fs::copy(&member.path, &temporary)
            .map_err(|e| ImageError::io("copying", &member.path, e))
            .and_then(|_| blobs.adopt(&temporary, digest))
            .inspect_err(|_| {
                let _ = fs::remove_file(&temporary);
            })
    }

    fn spool(
        &self,
        file: File,
        place: &Path,
        space: &Arc<Space>,
        limit: u64,
    ) -> Result<HashMap<String, Spooled>, ImageError> {
        let (mut meter, mut left) = (Meter::new(space.clone()), limit);
        let broken =
            |e: &dyn std::fmt::Display| self.bad(format!("it can't be read as a tar archive: {e}"));
        let mut stream = TarStream::new(decompress(file).map_err(|e| broken(&e))?);
        let mut members = HashMap::new();
        while let Some(entry) = stream.next().map_err(|e| broken(&e))? {
            let name = String::from_utf8_lossy(&entry.path).into_owned();
            let Some(name) = normal(&name) else {
                return Err(self.bad(format!("it names the file {name:?} outside of itself")));
            };
            let spooled = match entry.kind {
                Kind::File => {
                    let path = place.join(members.len().to_string());
                    let target = File::create_new(&path)
                        .map_err(|e| ImageError::io("creating", &path, e))?;
                    let target = MeteredFile {
                        file: target,
                        path: &path,
                        meter: &mut meter,
                        left: &mut left,
                    };
                    let (digest, size) = copy_hashed(stream.data(), target).map_err(|e| {
                        if e.kind() == io::ErrorKind::StorageFull {
                            return ImageError::io("reading an archive into", &path, e);
                        }
                        match e.downcast::<Refused>() {
                            Ok(Refused::Space(error)) => error,
                            Ok(Refused::TooLarge) => {
                                self.bad(format!("its files have more than {limit} bytes"))
                            }
                            Err(e) => broken(&e),
                        }
                    })?;
                    Spooled::File(Member {
                        path,
                        size,
                        digest: Some(digest),
                    })
                }
                Kind::HardLink | Kind::Symlink => {
                    let target = String::from_utf8_lossy(&entry.link).into_owned();
                    let base = if entry.kind == Kind::Symlink {
                        Path::new(&name).parent()
                    } else {
                        None
                    };
                    match resolve(base.unwrap_or(Path::new("")), &target) {
                        Some(target) => Spooled::Link(target),
                        None => {
                            return Err(self.bad(format!("{name:?} is a link to outside of it")));
                        }
                    }
                }
                _ => continue,
            };
            members.insert(name, spooled);
            if members.len() > MEMBERS_MAX {
                return Err(self.bad(format!(
                    "it has more than {MEMBERS_MAX} files, so it is no image"
                )));
            }
        }
        Ok(members)
    }
}

impl Drop for Archive {
    fn drop(&mut self) {
        if let Files::Spooled { place, .. } = &self.files {
            let _ = fs::remove_dir_all(place);
        }
    }
}

fn copy_hashed(mut from: impl Read, mut to: impl Write) -> io::Result<(Digest, u64)> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    let mut size = 0;
    loop {
        let n = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        hasher.update(&buffer[..n]);
        to.write_all(&buffer[..n])?;
        size += n as u64;
    }
    Ok((Digest::from_hasher(hasher), size))
}

/// A name without `.` and slashes too many; none if it leads outside.
fn normal(name: &str) -> Option<String> {
    resolve(Path::new(""), name)
}

fn resolve(base: &Path, name: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for component in base.components().chain(Path::new(name).components()) {
        match component {
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
            Component::ParentDir => {
                parts.pop()?;
            }
            Component::Normal(part) => parts.push(part.to_str()?),
        }
    }
    Some(parts.join("/"))
}
