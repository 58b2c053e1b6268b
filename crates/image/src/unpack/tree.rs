//! The directory that a layer is unpacked into. Every path is resolved by the kernel inside it
//! (`openat2` with `RESOLVE_IN_ROOT`): absolute links and `..` end at its root, whatever an archive
//! has put there before.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, mkdirat, openat, openat2, readlinkat,
    statat, unlinkat,
};
use rustix::io::Errno;

/// A symlink chain that is longer is a loop.
const LINKS_MAX: u32 = 40;
const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

#[derive(Debug)]
pub(crate) struct Tree {
    root: OwnedFd,
    /// The directory opened last: entries mostly come directory by directory.
    last: Option<(Vec<u8>, OwnedFd)>,
    /// Directories that had to be made though no entry named them.
    made: Vec<Vec<u8>>,
    /// A parent led through a link to nowhere, so what lies below this layer decides.
    pub(crate) dangling: bool,
}

impl Tree {
    pub(crate) fn open(path: &Path) -> Result<Self, Errno> {
        let root = rustix::fs::open(path, DIRECTORY, Mode::empty())?;
        Ok(Self {
            root,
            last: None,
            made: Vec::new(),
            dangling: false,
        })
    }

    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens an existing directory; a link as the last part is followed inside the root.
    pub(crate) fn directory(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        open_in_root(self.root.as_fd(), path, DIRECTORY)
    }

    /// Opens an existing directory, not through a link as its last part.
    pub(crate) fn directory_itself(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        open_in_root(self.root.as_fd(), path, DIRECTORY | OFlags::NOFOLLOW)
    }

    /// Opens a directory, made with its parents where missing.
    pub(crate) fn parent(&mut self, path: &[u8]) -> Result<BorrowedFd<'_>, Errno> {
        let known = self.last.as_ref().is_some_and(|(p, _)| p == path);
        if !known {
            let fd = match self.directory(path) {
                Err(Errno::NOENT) => self.make(path, 0)?,
                other => other?,
            };
            self.last = Some((path.to_vec(), fd));
        }
        match &self.last {
            Some((_, fd)) => Ok(fd.as_fd()),
            None => Err(Errno::NOENT),
        }
    }

    /// Directories made so far without an entry; forgets them.
    pub(crate) fn take_made(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.made)
    }

    /// Something was removed or replaced: what was opened before may lead elsewhere now.
    pub(crate) fn forget(&mut self) {
        self.last = None;
    }

    fn make(&mut self, path: &[u8], links: u32) -> Result<OwnedFd, Errno> {
        if links > LINKS_MAX {
            return Err(Errno::LOOP);
        }
        let mut above = self.directory(b"")?;
        let mut end = 0;
        for component in path.split(|&b| b == b'/').filter(|c| !c.is_empty()) {
            let start = end;
            end = path
                .len()
                .min(start + usize::from(start > 0) + component.len());
            let here = &path[..end];
            above = match self.directory(here) {
                Err(Errno::NOENT) => match mkdirat(&above, component, Mode::from_raw_mode(0o755)) {
                    Ok(()) => {
                        self.made.push(here.to_vec());
                        openat(
                            &above,
                            component,
                            DIRECTORY | OFlags::NOFOLLOW,
                            Mode::empty(),
                        )?
                    }
                    Err(Errno::EXIST) => {
                        // A link to what is not there, not in this layer at least.
                        self.dangling = true;
                        let target = readlinkat(&above, component, Vec::new())?;
                        let target = join(&path[..start], target.as_bytes())?;
                        self.make(&target, links + 1)?
                    }
                    Err(e) => return Err(e),
                },
                other => other?,
            };
        }
        Ok(above)
    }
}

/// Where a link in `directory` points to, as a path from the root.
fn join(directory: &[u8], target: &[u8]) -> Result<Vec<u8>, Errno> {
    let base: &[u8] = if target.starts_with(b"/") {
        b""
    } else {
        directory
    };
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in base
        .split(|&b| b == b'/')
        .chain(target.split(|&b| b == b'/'))
    {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    if parts.is_empty() {
        return Err(Errno::LOOP);
    }
    Ok(parts.join(&b'/'))
}

/// `openat2` inside `root`; the kernel asks to try again when a rename elsewhere crosses a `..`.
pub(crate) fn open_in_root(
    root: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    let path: &[u8] = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut tries = 0;
    loop {
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN) if tries < 128 => tries += 1,
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// What is there under a name, links not followed.
pub(crate) fn look(directory: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Stat>, Errno> {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

pub(crate) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Removes a name and all below it, never leaving the directory. Directories are walked with an open
/// file each, so their depth is bounded.
pub(crate) fn remove_all(directory: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    remove_below(directory, name, 0)
}

fn remove_below(directory: BorrowedFd<'_>, name: &[u8], depth: u32) -> Result<(), Errno> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(Errno::NOENT) => return Ok(()),
        other => return other,
    }
    if depth > 2000 {
        return Err(Errno::NAMETOOLONG);
    }
    let fd = openat(directory, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
    for child in children(fd.as_fd())? {
        remove_below(fd.as_fd(), &child, depth + 1)?;
    }
    unlinkat(directory, name, AtFlags::REMOVEDIR)
}

/// Names in a directory.
pub(crate) fn children(directory: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}
