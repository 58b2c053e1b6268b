//! Which devices a container may use, on machines where all controllers are of version 2.
//!
//! Version 1 has a controller for it, which libcgroups writes to. Version 2 has programs in its place: one of type
//! `BPF_PROG_TYPE_CGROUP_DEVICE` on the container's cgroup is asked at each `open` and `mknod` of a device below it.
//! libcgroups has such programs through libbpf, behind a feature that berth leaves out: they are not there under
//! systemd's driver, an update of other limits puts one for the default devices only in their place, they let
//! `O_RDWR` pass a rule that denies writing, and libbpf, libelf and zlib would have to come along to load a list of
//! comparisons. aya loads programs out of ELF files only.
//!
//! All programs of a cgroup and of those above it must agree, so strangers' (systemd's, of `DeviceAllow=`) can only
//! take away; they are left alone. Ours goes when the cgroup does, and is known by its name when it is replaced.

mod bpf;
mod program;
mod rule;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;
use rustix::fs::{Mode, OFlags};

use rule::Rules;

/// What our programs are called.
const NAME: &str = "berth_devices";

/// Why devices are not restricted as the spec wants it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeviceError {
    #[error("device rule \"{rule}\": {problem}")]
    Rule { rule: String, problem: &'static str },
    #[error("devices can't be restricted on this machine: {missing}")]
    Missing {
        missing: &'static str,
        source: io::Error,
    },
    #[error("the kernel does not take the program of {rules} device rules")]
    Load { rules: usize, source: io::Error },
    #[error("cannot {verb} the device program of {}", cgroup.display())]
    Attach {
        verb: &'static str,
        cgroup: PathBuf,
        source: io::Error,
    },
}

/// A container's rules as the kernel has them.
#[derive(Debug)]
pub(crate) struct Devices {
    /// `None`: all is allowed, which takes no program.
    program: Option<OwnedFd>,
}

impl Devices {
    /// Gives the rules to the kernel. Nobody is bound by them yet.
    ///
    /// The list is complete: what neither it nor the default devices allow is denied, and the default devices are
    /// allowed whatever it says. So does runc.
    pub(crate) fn prepare(resources: Option<&LinuxResources>) -> Result<Self, DeviceError> {
        let listed = resources.and_then(|all| all.devices().as_deref());
        Self::load(&Rules::of_container(listed.unwrap_or_default())?)
    }

    fn load(rules: &Rules) -> Result<Self, DeviceError> {
        if rules.allow_everything() {
            return Ok(Self { program: None });
        }
        let program =
            bpf::load(NAME, &program::assemble(rules)).map_err(|source| {
                match missing(&source, || bpf::load(NAME, &program::deny()).is_ok()) {
                    Some(missing) => DeviceError::Missing { missing, source },
                    None => {
                        let rules = rules.len();
                        DeviceError::Load { rules, source }
                    }
                }
            })?;
        Ok(Self {
            program: Some(program),
        })
    }

    /// Binds all processes of a cgroup and of those below it, in place of what we bound them by before.
    ///
    /// The new program comes before the old ones go: in between both must agree, so nothing is ever open that
    /// neither allows, nor closed that both allow. Older kernels have no other way (`BPF_F_REPLACE` came with 5.6).
    pub(crate) fn enforce(&self, cgroup: &Path) -> Result<(), DeviceError> {
        let failed = |verb| {
            let cgroup = cgroup.to_owned();
            move |source| DeviceError::Attach {
                verb,
                cgroup,
                source,
            }
        };
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(cgroup, flags, Mode::empty())
            .map_err(|error| failed("find the cgroup of")(error.into()))?;
        // Before ours is there, so that two updates at a time don't take away each other's.
        let old = match ours(folder.as_fd()) {
            // A kernel that has no programs has none of ours.
            Err(error) if self.program.is_none() && missing(&error, || false).is_some() => {
                return Ok(());
            }
            old => old.map_err(failed("look for"))?,
        };
        if let Some(program) = &self.program {
            bpf::attach(folder.as_fd(), program.as_fd()).map_err(failed("attach"))?;
        }
        for program in old {
            match bpf::detach(folder.as_fd(), program.as_fd()) {
                // Another update was faster.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                result => result.map_err(failed("replace"))?,
            }
        }
        Ok(())
    }
}

/// The programs that we put on a cgroup.
fn ours(cgroup: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
    let mut found = Vec::new();
    for id in bpf::attached(cgroup)? {
        match bpf::open(id) {
            Ok(program) if bpf::name(program.as_fd())? == NAME.as_bytes() => found.push(program),
            Ok(_) => {}
            // Of somebody who keeps it from us, or gone by now.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::EPERM | libc::EACCES | libc::ENOENT)
                ) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// What the machine lacks, when an error says so; `works` tells whether it would take another program.
fn missing(error: &io::Error, works: impl FnOnce() -> bool) -> Option<&'static str> {
    match error.raw_os_error()? {
        libc::ENOSYS => Some("the kernel is built without CONFIG_BPF_SYSCALL"),
        libc::EINVAL if !works() => Some("the kernel is built without CONFIG_CGROUP_BPF"),
        libc::EPERM => Some(
            "bpf(2) is not permitted, for want of capabilities (BPF and NET_ADMIN, or SYS_ADMIN) or by a filter",
        ),
        _ => None,
    }
}
