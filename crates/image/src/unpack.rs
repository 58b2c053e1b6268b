//! Unpacks one layer into a directory in overlayfs' terms.
//!
//! A layer is unpacked by itself first ([`Target::Layer`]), so that the layers of an image can be done side
//! by side: a whiteout becomes a character device 0:0, an opaque whiteout an extended attribute. A few
//! archives can't be understood without what lies below them (a hard link to a file of a lower layer, a
//! parent that is a symbolic link there); [`Unpacked::needs_below`] says so, and they are unpacked once
//! more on top of a mounted overlay of their lower layers ([`Target::Merged`]), where a whiteout simply
//! removes.
//!
//! Nothing in an archive is trusted: paths are resolved inside the directory by the kernel (see `tree`),
//! headers have bounds (`tar_stream`), sizes have limits (`source`), and overlayfs' own attributes, which
//! would let a layer redirect lookups, are dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::Path;

use rustix::io::Errno;

use crate::bounds::{Bounds, Spent};
use crate::digest::Digest;
use crate::error::ImageError;
use crate::space::Meter;
use crate::types::Usage;

mod entry;
mod name;
mod source;
mod tar_stream;
mod tree;
mod whiteout;

pub(crate) use source::decompress;
pub(crate) use tar_stream::{Kind, TarStream};
pub(crate) use tree::open_in_root;
pub(crate) use whiteout::drop_idle;

use source::{OverLimit, Source};
use tar_stream::{Entry, TarError};
use tree::Tree;

/// What the directory is that a layer is unpacked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// An empty directory that becomes one layer of an overlay.
    Layer {
        /// There are layers below this one.
        above_others: bool,
    },
    /// A directory that shows all lower layers already: a mounted overlay, or an empty one for the lowest.
    Merged,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Unpacked {
    /// Digest of the uncompressed archive.
    pub(crate) diff: Digest,
    /// Only meant for [`Target::Layer`].
    pub(crate) usage: Usage,
    /// The archive makes no sense without the layers below; what was unpacked is not to be used.
    pub(crate) needs_below: bool,
    /// Directories without an entry of their own; their owner and mode come from the layers below.
    /// The empty path is the root.
    pub(crate) implicit: BTreeSet<Vec<u8>>,
    /// Whiteouts that were made; those that hide nothing are to be dropped, see [`drop_idle`].
    pub(crate) whiteouts: BTreeSet<Vec<u8>>,
    /// What it has used of the image's bounds.
    pub(crate) spent: Spent,
}

/// Unpacks `blob` into the existing directory `into`. `label` names the layer in errors.
pub(crate) fn unpack(
    blob: impl Read + Send,
    into: &Path,
    target: Target,
    bounds: impl Into<Bounds>,
    label: &str,
) -> Result<Unpacked, ImageError> {
    let bounds = bounds.into();
    let read = |e: io::Error| broken(label, TarError::Read(e), into);
    let source = Source::new(blob, bounds.clone()).map_err(read)?;
    let mut stream = TarStream::new(source);
    let mut unpacker = Unpacker::new(into, target, bounds, label)?;
    while let Some(entry) = stream.next().map_err(|e| broken(label, e, into))? {
        unpacker.count_entry()?;
        let done = unpacker.apply(&entry, &mut stream.data());
        match done {
            Ok(()) => {}
            Err(Failure::NeedsBelow) => {
                unpacker.needs_below = true;
                break;
            }
            Err(Failure::Name(reason)) => return Err(unpacker.bad_entry(&entry, reason.to_owned())),
            Err(Failure::Errno(errno)) => return Err(unpacker.refused(&entry, errno)),
            Err(Failure::Space(error)) => return Err(error),
            Err(Failure::Read(error)) => return Err(broken(label, TarError::Read(error), into)),
        }
    }
    unpacker.finish()?;
    let source = stream.finish().map_err(|e| broken(label, e, into))?;
    let spent = Spent {
        entries: unpacker.entries,
        ..source.spent()
    };
    Ok(Unpacked {
        diff: source.digest(),
        spent,
        usage: unpacker.usage,
        needs_below: unpacker.needs_below || unpacker.tree.dangling && target != Target::Merged,
        implicit: unpacker.implicit,
        whiteouts: unpacker.whiteouts,
    })
}

/// Why an entry could not be applied.
#[derive(Debug)]
enum Failure {
    /// See [`Unpacked::needs_below`].
    NeedsBelow,
    /// Its name or link breaks a rule.
    Name(&'static str),
    /// The kernel refused.
    Errno(Errno),
    /// The disk is to stay as free as it is.
    Space(ImageError),
    /// Its data can't be read.
    Read(io::Error),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

struct Unpacker<'a> {
    tree: Tree,
    into: &'a Path,
    target: Target,
    bounds: Bounds,
    meter: Meter,
    label: &'a str,
    usage: Usage,
    entries: u64,
    needs_below: bool,
    implicit: BTreeSet<Vec<u8>>,
    whiteouts: BTreeSet<Vec<u8>>,
    /// Times of directories, set last: making what is inside changes them.
    times: BTreeMap<Vec<u8>, (i64, u32)>,
    /// With [`Target::Merged`]: what this layer brought, which its whiteouts don't concern.
    brought: BTreeSet<Vec<u8>>,
    buffer: Vec<u8>,
}

const BUFFER: usize = 256 << 10;

impl<'a> Unpacker<'a> {
    fn new(
        into: &'a Path,
        target: Target,
        bounds: Bounds,
        label: &'a str,
    ) -> Result<Self, ImageError> {
        let tree =
            Tree::open(into).map_err(|e| ImageError::io("opening the directory", into, e))?;
        Ok(Self {
            tree,
            into,
            target,
            meter: Meter::new(bounds.space.clone()),
            bounds,
            label,
            usage: Usage {
                bytes: 4096,
                inodes: 1,
            },
            entries: 0,
            needs_below: false,
            implicit: BTreeSet::from([Vec::new()]),
            whiteouts: BTreeSet::new(),
            times: BTreeMap::new(),
            brought: BTreeSet::new(),
            buffer: vec![0; BUFFER],
        })
    }

    fn count_entry(&mut self) -> Result<(), ImageError> {
        self.entries += 1;
        self.bounds.entry().map_err(|limit| ImageError::OverLimit {
            layer: self.label.to_owned(),
            limit,
        })?;
        // An empty file and a directory take an inode and part of a block as well.
        self.meter
            .spend(4096, self.tree.root(), self.into, "unpacking a layer")
    }

    /// Sets the times of directories.
    fn finish(&mut self) -> Result<(), ImageError> {
        for (path, mtime) in std::mem::take(&mut self.times) {
            match self.tree.directory_itself(&path) {
                Ok(fd) => rustix::fs::futimens(&fd, &entry::times(mtime))
                    .map_err(|e| ImageError::io("setting times in", self.into, e))?,
                // Replaced by something else later in the archive.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(e) => return Err(ImageError::io("opening a directory in", self.into, e)),
            }
        }
        Ok(())
    }

    fn refused(&self, entry: &Entry, errno: Errno) -> ImageError {
        match errno {
            Errno::NOSPC | Errno::DQUOT => ImageError::NoSpace {
                path: self.into.to_owned(),
                action: "unpacking",
            },
            Errno::LOOP => self.bad_entry(entry, "its path is a loop of links".to_owned()),
            Errno::NOTDIR => {
                self.bad_entry(entry, "a part of its path is not a directory".to_owned())
            }
            other => self.bad_entry(entry, io::Error::from(other).to_string()),
        }
    }

    fn bad_entry(&self, entry: &Entry, reason: String) -> ImageError {
        ImageError::BadEntry {
            layer: self.label.to_owned(),
            entry: String::from_utf8_lossy(&entry.path).into_owned(),
            reason,
        }
    }
}

/// An error of the stream in a person's terms.
fn broken(label: &str, error: TarError, into: &Path) -> ImageError {
    let TarError::Read(error) = error else {
        return ImageError::BadLayer {
            layer: label.to_owned(),
            reason: error.to_string(),
        };
    };
    if let Some(OverLimit(limit)) = error.get_ref().and_then(|e| e.downcast_ref()) {
        return ImageError::OverLimit {
            layer: label.to_owned(),
            limit: limit.clone(),
        };
    }
    match error.kind() {
        io::ErrorKind::StorageFull => ImageError::NoSpace {
            path: into.to_owned(),
            action: "unpacking",
        },
        _ => ImageError::BadLayer {
            layer: label.to_owned(),
            reason: format!("the blob can't be decompressed: {error}"),
        },
    }
}

#[cfg(test)]
mod tests;
