//! An image's files for reading, mounted nowhere: for those who need a look into a root file system that somebody else
//! mounts.
//!
//! The mount hangs on a descriptor only, so it is gone with its last user, also when that one is killed.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::UnshareFlags;

use super::Overlay;
use crate::idmap::UserMapping;

/// A root file system that can be read and is mounted nowhere.
#[derive(Debug)]
pub struct DetachedRoot(OwnedFd);

impl DetachedRoot {
    /// A path to its root for this process, as long as this value lives. Links in the image are not confined by it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

impl Overlay<'_> {
    /// The overlay, which must have no upper directory; `scratch` is any directory.
    pub(crate) fn detached(
        &self,
        mapping: Option<UserMapping<'_>>,
        scratch: &Path,
    ) -> io::Result<DetachedRoot> {
        if mapping.is_none() {
            match self.assemble() {
                // A kernel that takes no layers one by one (before 6.5).
                Err(Errno::NOSYS | Errno::INVAL | Errno::NOTSUP) => {}
                other => return Ok(DetachedRoot(other?)),
            }
        }
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| match mapping {
                Some(mapping) => self.assemble_mapped(mapping, scratch),
                None => self.assemble_with_page(scratch),
            });
            thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the mounting thread was lost")))
        })
        .map(DetachedRoot)
    }

    /// Mounts in a mount namespace of the calling thread's own, which must end after it: what is open stays usable.
    fn assemble_with_page(&self, scratch: &Path) -> io::Result<OwnedFd> {
        // SAFETY: the thread has nothing else to do with files than what follows, and ends with it.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?;
        mount_change(
            "/",
            MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
        )?;
        self.mount_with_page(scratch)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::open(scratch, flags, Mode::empty())?)
    }
}
