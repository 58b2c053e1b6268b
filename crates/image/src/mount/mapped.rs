//! An overlay for a pod with a user namespace: its layers seem to belong to the namespace's users.
//!
//! overlayfs itself knows no mapping, but takes layers that are mapped mounts. Those have to be somewhere while it is
//! put together: in a mount namespace of a thread's own, which takes them along when the thread ends.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::UnshareFlags;

use super::Overlay;
use crate::idmap::{UserMapping, attach, clone_mapped};

impl Overlay<'_> {
    /// Mounts at `target`; `scratch` is any directory.
    pub(crate) fn mount_mapped(
        &self,
        target: &Path,
        mapping: UserMapping<'_>,
        scratch: &Path,
    ) -> io::Result<()> {
        if let Some((upper, work)) = self.upper {
            // Left by a volatile mount; with it overlayfs refuses to be mounted again.
            let _ = fs::remove_dir_all(work.join("work/incompat"));
            own(upper, mapping.root)?;
        }
        let mounted = std::thread::scope(|scope| {
            let thread = scope.spawn(|| self.assemble_mapped(mapping, scratch));
            thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the mounting thread was lost")))
        })?;
        attach(mounted, target)
    }

    /// The mount, which is nowhere yet; the calling thread must end after it.
    pub(super) fn assemble_mapped(
        &self,
        mapping: UserMapping<'_>,
        scratch: &Path,
    ) -> io::Result<OwnedFd> {
        // SAFETY: the thread has nothing else to do with files than what follows, and ends with it.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?;
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private)?;
        let nothing = None::<&std::ffi::CStr>;
        mount("tmpfs", scratch, "tmpfs", MountFlags::empty(), nothing)?;
        let mut lower: Vec<PathBuf> = Vec::new();
        for (number, layer) in self.lower.iter().enumerate() {
            let place = scratch.join(number.to_string());
            fs::create_dir(&place)?;
            attach(clone_mapped(layer, mapping.namespace, false)?, &place)?;
            lower.push(place);
        }
        let mapped = Overlay {
            lower: &lower,
            ..*self
        };
        Ok(mapped.assemble()?)
    }
}

/// Gives what belongs to root to the namespace's root.
fn own(path: &Path, root: (u32, u32)) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let owner = fs::symlink_metadata(path)?;
    let uid = (owner.uid() == 0).then_some(root.0);
    let gid = (owner.gid() == 0).then_some(root.1);
    std::os::unix::fs::lchown(path, uid, gid)
}
