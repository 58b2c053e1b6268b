//! Makes one entry of an archive.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags, chmodat,
    chownat, fchmod, fchown, fsetxattr, futimens, linkat, lsetxattr, makedev, mkdirat, mknodat,
    openat, symlinkat, utimensat,
};
use rustix::io::Errno;

use super::name::{Meaning, clean, meaning};
use super::tar_stream::{Entry, Kind};
use super::tree::{kind, look, remove_all};
use super::whiteout::{is_whiteout, mark_opaque};
use super::{Failure, Target, Unpacker};

impl Unpacker<'_> {
    pub(super) fn apply(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<(), Failure> {
        let parts = clean(&entry.path).map_err(Failure::Name)?;
        let Some((&name, above)) = parts.split_last() else {
            return self.root_entry(entry);
        };
        if above.iter().any(|part| part.starts_with(b".wh..wh.")) {
            return Ok(());
        }
        let parent = above.join(&b'/');
        match meaning(name).map_err(Failure::Name)? {
            Meaning::Plain => self.make(entry, data, &parent, name, parts.join(&b'/')),
            Meaning::Whiteout(name) => self.whiteout(&parent, name),
            Meaning::Opaque => self.opaque(&parent),
            Meaning::Aufs => Ok(()),
        }
    }

    /// Opens the directory that an entry goes into; a copy, so that the tree can be changed meanwhile.
    pub(super) fn open_parent(&mut self, parent: &[u8]) -> Result<OwnedFd, Failure> {
        let fd = rustix::io::fcntl_dupfd_cloexec(self.tree.parent(parent)?, 0)?;
        for path in self.tree.take_made() {
            self.usage.inodes += 1;
            self.usage.bytes += 4096;
            self.implicit.insert(path);
        }
        if self.tree.dangling && self.target != Target::Merged {
            return Err(Failure::NeedsBelow);
        }
        Ok(fd)
    }

    fn root_entry(&mut self, entry: &Entry) -> Result<(), Failure> {
        if entry.kind != Kind::Directory {
            return Err(Failure::Name("it would replace the root directory"));
        }
        self.implicit.remove(b"".as_slice());
        let root = rustix::io::fcntl_dupfd_cloexec(self.tree.root(), 0)?;
        self.describe_fd(entry, root.as_fd())?;
        self.times.insert(Vec::new(), entry.mtime);
        Ok(())
    }

    fn make(
        &mut self,
        entry: &Entry,
        data: &mut dyn Read,
        parent: &[u8],
        name: &[u8],
        path: Vec<u8>,
    ) -> Result<(), Failure> {
        let directory = self.open_parent(parent)?;
        let at = directory.as_fd();
        let existing = look(at, name)?;
        if entry.kind == Kind::HardLink {
            self.hard_link(entry, at, name, existing.as_ref())?;
        } else {
            self.clear_way(entry, at, name, existing.as_ref(), &path)?;
            match entry.kind {
                Kind::Directory => self.directory(entry, at, name, existing.as_ref(), &path)?,
                Kind::File => self.file(entry, data, at, name)?,
                Kind::HardLink => {}
                Kind::Symlink => {
                    if entry.link.is_empty() || entry.link.contains(&0) {
                        return Err(Failure::Name("its link target is empty or has a NUL in it"));
                    }
                    symlinkat(entry.link.as_slice(), at, name)?;
                    self.describe_name(entry, at, name)?;
                }
                Kind::Char | Kind::Block | Kind::Fifo => {
                    let (file_type, device) = match entry.kind {
                        Kind::Char => (
                            FileType::CharacterDevice,
                            makedev(entry.device.0, entry.device.1),
                        ),
                        Kind::Block => (
                            FileType::BlockDevice,
                            makedev(entry.device.0, entry.device.1),
                        ),
                        _ => (FileType::Fifo, 0),
                    };
                    mknodat(at, name, file_type, Mode::from_raw_mode(0o600), device)?;
                    chmodat(at, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
                    self.describe_name(entry, at, name)?;
                    // The owner's change may have taken setuid and setgid away.
                    chmodat(at, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
                }
            }
        }
        if entry.kind != Kind::HardLink && entry.kind != Kind::Directory {
            self.usage.inodes += 1;
        }
        if self.target == Target::Merged {
            self.brought.insert(path);
        }
        Ok(())
    }

    /// Removes what is in the way: anything but a directory that stays one.
    fn clear_way(
        &mut self,
        entry: &Entry,
        at: BorrowedFd<'_>,
        name: &[u8],
        existing: Option<&Stat>,
        path: &[u8],
    ) -> Result<(), Failure> {
        let Some(existing) = existing else {
            return Ok(());
        };
        let was_directory = kind(existing) == FileType::Directory;
        if was_directory && entry.kind == Kind::Directory {
            return Ok(());
        }
        self.tree.forget();
        if was_directory {
            self.implicit.retain(|p| !is_below(p, path));
            self.times.retain(|p, _| !is_below(p, path));
        }
        Ok(remove_all(at, name)?)
    }

    fn directory(
        &mut self,
        entry: &Entry,
        at: BorrowedFd<'_>,
        name: &[u8],
        existing: Option<&Stat>,
        path: &[u8],
    ) -> Result<(), Failure> {
        let kept = existing.is_some_and(|stat| kind(stat) == FileType::Directory);
        if !kept {
            mkdirat(at, name, Mode::from_raw_mode(0o700))?;
            self.usage.inodes += 1;
            self.usage.bytes += 4096;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(at, name, flags, Mode::empty())?;
        // It took the place of a whiteout or file of this layer, so it hides a directory below.
        let replaced = existing.is_some_and(|stat| is_whiteout(stat) || !kept);
        if replaced && self.target != Target::Merged {
            mark_opaque(fd.as_fd())?;
        }
        self.describe_fd(entry, fd.as_fd())?;
        let was_implicit = self.implicit.remove(path);
        if was_implicit && self.target == (Target::Layer { above_others: true }) {
            // What went into it before it was named may have gone through a link below.
            return Err(Failure::NeedsBelow);
        }
        self.times.insert(path.to_vec(), entry.mtime);
        Ok(())
    }

    fn file(
        &mut self,
        entry: &Entry,
        data: &mut dyn Read,
        at: BorrowedFd<'_>,
        name: &[u8],
    ) -> Result<(), Failure> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(at, name, flags, Mode::from_raw_mode(0o600))?;
        loop {
            let read = match data.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(read) => read,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(Failure::Read(e)),
            };
            self.meter
                .spend(
                    read as u64,
                    self.tree.root(),
                    self.into,
                    "unpacking a layer",
                )
                .map_err(Failure::Space)?;
            let mut rest = &self.buffer[..read];
            while !rest.is_empty() {
                let written = rustix::io::retry_on_intr(|| rustix::io::write(&fd, rest))?;
                rest = &rest[written..];
            }
        }
        self.usage.bytes += entry.size.next_multiple_of(4096);
        self.describe_fd(entry, fd.as_fd())?;
        futimens(&fd, &times(entry.mtime))?;
        Ok(())
    }

    fn hard_link(
        &mut self,
        entry: &Entry,
        at: BorrowedFd<'_>,
        name: &[u8],
        existing: Option<&Stat>,
    ) -> Result<(), Failure> {
        let parts = clean(&entry.link)
            .map_err(|_| Failure::Name("its link target could lead out of the image"))?;
        let Some((&last, above)) = parts.split_last() else {
            return Err(Failure::Name("it is a hard link to the root directory"));
        };
        let missing = match self.target {
            Target::Layer { above_others: true } => Failure::NeedsBelow,
            _ => Failure::Name("it is a hard link to a file that is not there"),
        };
        let from = match self.tree.directory(&above.join(&b'/')) {
            Err(Errno::NOENT) => return Err(missing),
            other => other?,
        };
        let Some(target) = look(from.as_fd(), last)? else {
            return Err(missing);
        };
        if is_whiteout(&target) {
            return Err(missing);
        }
        if let Some(existing) = existing {
            if (existing.st_dev, existing.st_ino) == (target.st_dev, target.st_ino) {
                return Ok(());
            }
            self.tree.forget();
            remove_all(at, name)?;
        }
        match linkat(&from, last, at, name, AtFlags::empty()) {
            Err(Errno::PERM) => Err(Failure::Name("it is a hard link to a directory")),
            other => Ok(other?),
        }
    }

    /// Owner, mode and attributes; in this order, since a change of owner takes setuid and capabilities away.
    fn describe_fd(&self, entry: &Entry, fd: BorrowedFd<'_>) -> Result<(), Failure> {
        fchown(
            fd,
            Some(Uid::from_raw(entry.uid)),
            Some(Gid::from_raw(entry.gid)),
        )?;
        fchmod(fd, Mode::from_raw_mode(entry.mode))?;
        for (name, value) in wanted_xattrs(entry) {
            tolerate(fsetxattr(fd, name, value, XattrFlags::empty()))?;
        }
        Ok(())
    }

    /// The same by name, for what can't be opened; links have no mode of their own.
    fn describe_name(&self, entry: &Entry, at: BorrowedFd<'_>, name: &[u8]) -> Result<(), Failure> {
        let nofollow = AtFlags::SYMLINK_NOFOLLOW;
        chownat(
            at,
            name,
            Some(Uid::from_raw(entry.uid)),
            Some(Gid::from_raw(entry.gid)),
            nofollow,
        )?;
        let mut path =
            format!("/proc/self/fd/{}/", std::os::fd::AsRawFd::as_raw_fd(&at)).into_bytes();
        path.extend_from_slice(name);
        for (xattr, value) in wanted_xattrs(entry) {
            tolerate(lsetxattr(
                path.as_slice(),
                xattr,
                value,
                XattrFlags::empty(),
            ))?;
        }
        Ok(utimensat(at, name, &times(entry.mtime), nofollow)?)
    }
}

/// Attributes to set: all but overlayfs' own.
fn wanted_xattrs(entry: &Entry) -> impl Iterator<Item = (&[u8], &[u8])> {
    let ours =
        |name: &[u8]| name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
    entry
        .xattrs
        .iter()
        .map(|(n, v)| (n.as_slice(), v.as_slice()))
        .filter(move |(name, _)| !ours(name))
}

/// A filesystem without such attributes, or a kind of file that can't have them, does without.
fn tolerate(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::OPNOTSUPP | Errno::PERM) => Ok(()),
        other => other,
    }
}

pub(super) fn times((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

fn is_below(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}
