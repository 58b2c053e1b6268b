//! Whiteouts: what a layer takes away from those below it.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{FileType, Mode, XattrFlags, fsetxattr, makedev, mknodat};
use rustix::io::Errno;

use super::tree::{children, kind, look, remove_all};
use super::{Failure, Target, Unpacker};

const OPAQUE: &str = "trusted.overlay.opaque";

impl Unpacker<'_> {
    /// `.wh.NAME` in `parent`.
    pub(super) fn whiteout(&mut self, parent: &[u8], name: &[u8]) -> Result<(), Failure> {
        if self.target == Target::Merged {
            let path = join(parent, name);
            return self.take_away(&path, parent, name);
        }
        let fd = self.open_parent(parent)?;
        match look(fd.as_fd(), name)? {
            None => mknodat(
                &fd,
                name,
                FileType::CharacterDevice,
                Mode::empty(),
                makedev(0, 0),
            )?,
            // This layer has brought a directory: it is a new one, not the one below.
            Some(stat) if kind(&stat) == FileType::Directory => {
                let fd =
                    super::tree::open_in_root(fd.as_fd(), name, rustix::fs::OFlags::DIRECTORY)?;
                mark_opaque(fd.as_fd())?;
            }
            // Whatever this layer has brought hides what is below.
            Some(_) => return Ok(()),
        }
        self.usage.inodes += 1;
        Ok(())
    }

    /// `.wh..wh..opq` in `directory`.
    pub(super) fn opaque(&mut self, directory: &[u8]) -> Result<(), Failure> {
        match self.target {
            Target::Merged => self.take_away_children(directory),
            // overlayfs always merges the roots of its layers.
            Target::Layer { above_others: true } if directory.is_empty() => {
                Err(Failure::NeedsBelow)
            }
            Target::Layer { .. } => {
                let fd = self.open_parent(directory)?;
                Ok(mark_opaque(fd.as_fd())?)
            }
        }
    }

    fn take_away(&mut self, path: &[u8], parent: &[u8], name: &[u8]) -> Result<(), Failure> {
        let below = join(path, b"");
        let brought_below = self
            .brought
            .range(below.clone()..)
            .next()
            .is_some_and(|p| p.starts_with(&below));
        if brought_below {
            return self.take_away_children(path);
        }
        if !self.brought.contains(path) {
            let fd = match self.tree.directory(parent) {
                Err(Errno::NOENT) => return Ok(()),
                other => other?,
            };
            self.tree.forget();
            remove_all(fd.as_fd(), name)?;
        }
        Ok(())
    }

    fn take_away_children(&mut self, directory: &[u8]) -> Result<(), Failure> {
        let fd = match self.tree.directory(directory) {
            Err(Errno::NOENT) => return Ok(()),
            other => other?,
        };
        for child in children(fd.as_fd())? {
            self.take_away(&join(directory, &child), directory, &child)?;
        }
        Ok(())
    }
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
