//! overlayfs mounts.
//!
//! Kernels from 6.5 on take lower directories one by one through `fsconfig`. Older ones take one page of
//! options; when the names of many layers don't fit, they are given relative to the layers' directory by a
//! thread with a working directory of its own, which dies after the call.

mod detached;
mod links;
mod mapped;
mod plan;

pub use detached::DetachedRoot;
pub(crate) use links::LayerLinks;
pub use plan::MountPlan;

use std::ffi::CString;
use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, move_mount,
    unmount,
};

/// What to mount.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Overlay<'a> {
    /// Topmost first; at least two when there is no upper.
    pub(crate) lower: &'a [PathBuf],
    /// Upper and work directory.
    pub(crate) upper: Option<(&'a Path, &'a Path)>,
    /// See [`crate::StoreOptions::volatile`].
    pub(crate) volatile: bool,
}

/// Layers made with one kernel's features on are not to depend on them with another's.
const SETTINGS: [(&str, &str); 2] = [("index", "off"), ("metacopy", "off")];
const PAGE: usize = 4096;

static ONE_BY_ONE: AtomicBool = AtomicBool::new(true);

impl Overlay<'_> {
    pub(crate) fn mount(&self, target: &Path) -> Result<(), Errno> {
        if let Some((_, work)) = self.upper {
            clear_volatile(work).map_err(|e| errno(&e))?;
        }
        if ONE_BY_ONE.load(Ordering::Relaxed) {
            match self.mount_one_by_one(target) {
                Err(Errno::NOSYS | Errno::INVAL | Errno::NOTSUP) => {}
                other => return other,
            }
            let mounted = self.mount_with_page(target);
            if mounted.is_ok() {
                ONE_BY_ONE.store(false, Ordering::Relaxed);
            }
            return mounted;
        }
        self.mount_with_page(target)
    }

    fn mount_one_by_one(&self, target: &Path) -> Result<(), Errno> {
        let mounted = self.assemble()?;
        move_mount(
            &mounted,
            "",
            CWD,
            target,
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )
    }

    /// The mount, which is nowhere yet.
    fn assemble(&self) -> Result<OwnedFd, Errno> {
        let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&fs, "source", "overlay")?;
        for lower in self.lower {
            fsconfig_set_string(&fs, "lowerdir+", lower)?;
        }
        if let Some((upper, work)) = self.upper {
            fsconfig_set_string(&fs, "upperdir", upper)?;
            fsconfig_set_string(&fs, "workdir", work)?;
            if self.volatile {
                fsconfig_set_flag(&fs, "volatile")?;
            }
            for (key, value) in SETTINGS {
                fsconfig_set_string(&fs, key, value)?;
            }
        }
        fsconfig_create(&fs)?;
        let attributes = if self.upper.is_none() {
            MountAttrFlags::MOUNT_ATTR_RDONLY
        } else {
            MountAttrFlags::empty()
        };
        fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    }

    pub(crate) fn mount_with_page(&self, target: &Path) -> Result<(), Errno> {
        let mut tries = vec![self.volatile];
        if self.volatile {
            tries.push(false);
        }
        let mut last = Errno::INVAL;
        for volatile in tries {
            match self.mount_with(target, volatile) {
                Err(Errno::INVAL) => last = Errno::INVAL,
                other => return other,
            }
        }
        Err(last)
    }

    fn mount_with(&self, target: &Path, volatile: bool) -> Result<(), Errno> {
        let flags = if self.upper.is_none() {
            MountFlags::RDONLY
        } else {
            MountFlags::empty()
        };
        let whole = self.options(self.lower, volatile)?;
        if whole.as_bytes().len() < PAGE {
            return mount("overlay", target, "overlay", flags, whole.as_c_str());
        }
        let base = common_directory(self.lower).ok_or(Errno::NAMETOOLONG)?;
        let relative: Vec<PathBuf> = self
            .lower
            .iter()
            .map(|l| l.strip_prefix(&base).unwrap_or(l).to_owned())
            .collect();
        let short = self.options(&relative, volatile)?;
        if short.as_bytes().len() >= PAGE {
            return Err(Errno::NAMETOOLONG);
        }
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                // SAFETY: CLONE_FS only gives this thread a working directory of its own; nothing else in
                // the process can tell, and the thread ends below.
                unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::FS) }?;
                rustix::process::chdir(&base)?;
                mount("overlay", target, "overlay", flags, short.as_c_str())
            });
            thread.join().unwrap_or(Err(Errno::INVAL))
        })
    }

    fn options(&self, lower: &[PathBuf], volatile: bool) -> Result<CString, Errno> {
        let escaped: Vec<String> = lower.iter().map(|l| escape(l)).collect();
        let mut options = format!("lowerdir={}", escaped.join(":"));
        if let Some((upper, work)) = self.upper {
            let _ = write!(
                options,
                ",upperdir={},workdir={}",
                escape(upper),
                escape(work)
            );
            for (key, value) in SETTINGS {
                let _ = write!(options, ",{key}={value}");
            }
            if volatile {
                options.push_str(",volatile");
            }
        }
        CString::new(options).map_err(|_| Errno::INVAL)
    }
}

/// Removes what a volatile mount has left; with it overlayfs refuses to be mounted again.
fn clear_volatile(work: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(work.join("work/incompat")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Takes a mount away; one that isn't there is fine.
pub(crate) fn unmount_if_mounted(target: &Path) -> Result<(), Errno> {
    match unmount(target, UnmountFlags::NOFOLLOW) {
        Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        // Somebody looks into it still; it goes when they leave.
        Err(Errno::BUSY) => unmount(target, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH),
        other => other,
    }
}

fn escape(path: &Path) -> String {
    let mut escaped = String::new();
    for c in path.to_string_lossy().chars() {
        if matches!(c, '\\' | ':' | ',') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

fn common_directory(paths: &[PathBuf]) -> Option<PathBuf> {
    let mut common = paths.first()?.parent()?.to_owned();
    while !paths.iter().all(|p| p.starts_with(&common)) {
        common = common.parent()?.to_owned();
    }
    Some(common)
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
