//! Another view of the mounts for a runtime: a private mount namespace with something hidden.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::thread::UnshareFlags;

use super::Hide;

/// What a child does to itself before it becomes the runtime.
#[derive(Debug)]
pub struct View {
    /// The mount that the hidden path lies on: made private, so that the change stays ours.
    parent: CString,
    path: CString,
    cover: bool,
}

impl View {
    /// Prepares the change, so that nothing needs memory after the fork.
    ///
    /// # Errors
    /// When the path contains a NUL.
    pub fn new(hide: &Hide) -> io::Result<Self> {
        let (path, cover) = match hide {
            Hide::Nothing => (Path::new("/"), false),
            Hide::Unmount(path) => (path.as_path(), false),
            Hide::Cover(path) => (path.as_path(), true),
        };
        let parent = if cover {
            Path::new("/proc")
        } else {
            path.parent().unwrap_or(Path::new("/"))
        };
        let text = |p: &OsStr| CString::new(p.as_bytes()).map_err(io::Error::from);
        Ok(Self {
            parent: text(parent.as_os_str())?,
            path: text(path.as_os_str())?,
            cover,
        })
    }

    /// Changes the calling process' mounts; made for the moment between fork and exec.
    ///
    /// # Errors
    /// What the system says.
    pub fn apply(&self) -> io::Result<()> {
        // SAFETY: the child has one thread and shares no state that a new mount namespace could surprise.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS)? };
        // It may be no mount point of its own: then its propagation is its parent's, which the next call tells.
        let _ = rustix::mount::mount_change(self.parent.as_c_str(), MountPropagationFlags::PRIVATE);
        if self.cover {
            rustix::mount::mount(
                c"tmpfs",
                self.path.as_c_str(),
                c"tmpfs",
                MountFlags::RDONLY,
                c"size=4k",
            )?;
        } else {
            rustix::mount::unmount(self.path.as_c_str(), UnmountFlags::DETACH)?;
        }
        Ok(())
    }
}
