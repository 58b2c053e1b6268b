//! Whiteouts: what a layer takes away from those below it.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, XattrFlags, fgetxattr, fsetxattr, makedev, mknodat, openat,
    readlink, unlinkat,
};
use rustix::io::Errno;

use super::tree::{Tree, children, kind, look, remove_all};
use super::{Failure, Target, Unpacker};

const OPAQUE: &str = "trusted.overlay.opaque";

impl Unpacker<'_> {
    /// `.wh.NAME` in `parent`.
    pub(super) fn whiteout(&mut self, parent: &[u8], name: &[u8]) -> Result<(), Failure> {
        let fd = self.open_parent(parent)?;
        match self.target {
            Target::Merged => return self.take_away(&join(parent, name), parent, name),
            // Nothing below that it could hide.
            Target::Layer {
                above_others: false,
            } => return Ok(()),
            Target::Layer { above_others: true } => {}
        }
        let path = join(parent, name);
        match look(fd.as_fd(), name)? {
            // This layer has brought a directory: it is a new one, not the one below.
            Some(stat) if kind(&stat) == FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let directory = openat(&fd, name, flags, Mode::empty())?;
                if !(self.implicit.contains(&path)
                    && only_whiteouts(directory.as_fd(), &path, &self.implicit)?)
                {
                    return Ok(mark_opaque(directory.as_fd())?);
                }
                // It is there for whiteouts in it alone, which this one makes needless.
                self.tree.forget();
                self.implicit.retain(|p| {
                    !p.starts_with(&path) || p.get(path.len()).is_some_and(|b| *b != b'/')
                });
                remove_all(fd.as_fd(), name)?;
            }
            // Whatever this layer has brought hides what is below.
            Some(_) => return Ok(()),
            None => {}
        }
        mknodat(
            &fd,
            name,
            FileType::CharacterDevice,
            Mode::empty(),
            makedev(0, 0),
        )?;
        self.usage.inodes += 1;
        self.whiteouts
            .insert(join(&self.real_path(fd.as_fd())?, name));
        Ok(())
    }

    /// `.wh..wh..opq` in `directory`.
    pub(super) fn opaque(&mut self, directory: &[u8]) -> Result<(), Failure> {
        let fd = self.open_parent(directory)?;
        match self.target {
            Target::Merged => self.take_away_children(directory),
            Target::Layer {
                above_others: false,
            } => Ok(()),
            // overlayfs always merges the roots of its layers.
            Target::Layer { above_others: true } if directory.is_empty() => {
                Err(Failure::NeedsBelow)
            }
            Target::Layer { above_others: true } => Ok(mark_opaque(fd.as_fd())?),
        }
    }

    /// Where a directory of the tree really lies, links on the way to it resolved.
    fn real_path(&self, directory: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
        let path =
            |fd: BorrowedFd<'_>| readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new());
        let (root, here) = (path(self.tree.root())?, path(directory)?);
        let relative = here
            .as_bytes()
            .strip_prefix(root.as_bytes())
            .ok_or(Errno::XDEV)?;
        Ok(relative.strip_prefix(b"/").unwrap_or(relative).to_vec())
    }

    fn take_away(&mut self, path: &[u8], parent: &[u8], name: &[u8]) -> Result<(), Failure> {
        let below = join(path, b"");
        let brought_below = self
            .brought
            .range(below.clone()..)
            .next()
            .is_some_and(|p| p.starts_with(&below));
        if brought_below || self.brought.contains(path) {
            return self.take_away_children(path);
        }
        let fd = match self.tree.directory(parent) {
            Err(Errno::NOENT) => return Ok(()),
            other => other?,
        };
        self.tree.forget();
        Ok(remove_all(fd.as_fd(), name)?)
    }

    fn take_away_children(&mut self, directory: &[u8]) -> Result<(), Failure> {
        let fd = match self.tree.directory_itself(directory) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            other => other?,
        };
        for child in children(fd.as_fd())? {
            self.take_away(&join(directory, &child), directory, &child)?;
        }
        Ok(())
    }
}

/// Takes away the whiteouts of an unpacked layer that hide nothing of what is below. overlayfs passes over
/// whiteouts only where it merges directories; anywhere else a listing would show them.
pub(crate) fn drop_idle(
    layer: &Path,
    below: &Path,
    whiteouts: &BTreeSet<Vec<u8>>,
) -> Result<(), Errno> {
    let (layer, below) = (Tree::open(layer)?, Tree::open(below)?);
    for path in whiteouts {
        let at = path.iter().rposition(|&b| b == b'/');
        let (parent, name) = at.map_or((b"".as_slice(), path.as_slice()), |at| {
            (&path[..at], &path[at + 1..])
        });
        // Replaced by something else later in the archive, or gone with its directory.
        let Ok(directory) = layer.directory_itself(parent) else {
            continue;
        };
        if !look(directory.as_fd(), name)?.is_some_and(|stat| is_whiteout(&stat)) {
            continue;
        }
        let hides = match below.directory_itself(parent) {
            Ok(fd) => look(fd.as_fd(), name)?.is_some() && !below_opaque(&layer, parent)?,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => false,
            Err(e) => return Err(e),
        };
        if !hides {
            unlinkat(&directory, name, AtFlags::empty())?;
        }
    }
    Ok(())
}

/// Whether a directory or one above it hides all that is below this layer.
fn below_opaque(layer: &Tree, path: &[u8]) -> Result<bool, Errno> {
    let ends = path
        .iter()
        .enumerate()
        .filter(|(_, b)| **b == b'/')
        .map(|(at, _)| at)
        .chain([path.len()]);
    for end in ends.filter(|end| *end > 0) {
        let fd = layer.directory_itself(&path[..end])?;
        match fgetxattr(&fd, OPAQUE, &mut [0_u8; 8]) {
            Ok(_) => return Ok(true),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(false)
}

/// Whether a directory holds whiteouts and nothing else but directories of that kind.
fn only_whiteouts(
    directory: BorrowedFd<'_>,
    path: &[u8],
    implicit: &BTreeSet<Vec<u8>>,
) -> Result<bool, Errno> {
    for child in children(directory)? {
        let Some(stat) = look(directory, &child)? else {
            continue;
        };
        let path = join(path, &child);
        let fine = is_whiteout(&stat)
            || kind(&stat) == FileType::Directory && implicit.contains(&path) && {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let fd = openat(directory, child.as_slice(), flags, Mode::empty())?;
                only_whiteouts(fd.as_fd(), &path, implicit)?
            };
        if !fine {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Nothing below shows through this directory.
pub(super) fn mark_opaque(directory: BorrowedFd<'_>) -> Result<(), Errno> {
    fsetxattr(directory, OPAQUE, b"y", XattrFlags::empty())
}

/// A whiteout as [`Target::Layer`] makes them.
pub(super) fn is_whiteout(stat: &rustix::fs::Stat) -> bool {
    kind(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() {
        name.to_vec()
    } else {
        [directory, name].join(&b'/')
    }
}
