//! A pod's user namespace, which owns the pod's other namespaces.
//!
//! A process with threads can't make one for itself, so a child makes all of them, does nothing more, and is killed
//! once they are pinned.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use berth_oci::{IdMapping, UserNamespace};
use nix::sched::{CloneCb, CloneFlags, clone, setns};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::NamespaceError;

/// Enough for a function that calls into the kernel and nothing else.
const STACK: usize = 64 << 10;

/// The child that holds the namespaces.
pub(super) struct Holder(Pid);

impl Holder {
    /// Makes a user namespace with these maps, and namespaces of its own.
    pub(super) fn start(user: &UserNamespace, others: CloneFlags) -> Result<Self, NamespaceError> {
        let mut stack = vec![0; STACK];
        let wait: CloneCb<'_> = Box::new(|| {
            // SAFETY: both are plain system calls; the child shares nothing with us that it could harm.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                loop {
                    libc::pause();
                }
            }
        });
        let flags = CloneFlags::CLONE_NEWUSER | others;
        // SAFETY: the child has a copy of our memory and its own stack, takes no lock, allocates nothing and never
        // returns.
        let child = unsafe { clone(wait, &mut stack, flags, Some(libc::SIGCHLD)) }
            .map_err(|errno| NamespaceError::Unshare(errno.into()))?;
        let holder = Self(child);
        for (file, map) in [("uid_map", &user.uids), ("gid_map", &user.gids)] {
            std::fs::write(holder.path(file), lines(map)).map_err(NamespaceError::Map)?;
        }
        Ok(holder)
    }

    fn path(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.0))
    }

    /// Where a namespace of the child is found.
    pub(super) fn namespace(&self, name: &str) -> PathBuf {
        self.path("ns").join(name)
    }

    /// Moves the calling thread into one of them.
    pub(super) fn enter(&self, name: &str, kind: CloneFlags) -> Result<(), NamespaceError> {
        let path = self.namespace(name);
        let failed = |source: io::Error| NamespaceError::Enter {
            path: path.clone(),
            source,
        };
        let file = File::open(&path).map_err(failed)?;
        setns(&file, kind).map_err(|errno| failed(errno.into()))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGKILL);
        let _ = waitpid(self.0, None);
    }
}

fn lines(map: &[IdMapping]) -> String {
    map.iter()
        .map(|line| format!("{} {} {}\n", line.container_id, line.host_id, line.length))
        .collect()
}

/// The pinned user namespace of a pod.
pub(crate) fn pinned(dir: &Path) -> PathBuf {
    dir.join("user")
}

/// Whether a file is a user namespace, and not the host's.
pub(crate) fn check(file: &File) -> io::Result<()> {
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: the descriptor is open; the call reads nothing from us, and other files refuse it.
    let kind = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) };
    let wrong = |why: &str| Err(io::Error::new(io::ErrorKind::InvalidData, why.to_owned()));
    if kind != libc::CLONE_NEWUSER {
        return wrong("it is no user namespace");
    }
    let (found, own) = (file.metadata()?, std::fs::metadata("/proc/self/ns/user")?);
    if (found.dev(), found.ino()) == (own.dev(), own.ino()) {
        return wrong("it is the host's");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_pod_s_user_namespace_is_one() {
        let empty = tempfile::NamedTempFile::new().unwrap();
        check(empty.as_file()).unwrap_err();
        for host in ["/proc/self/ns/user", "/proc/self/ns/net"] {
            check(&File::open(host).unwrap()).unwrap_err();
        }
        let user = UserNamespace {
            path: None,
            uids: vec![line()],
            gids: vec![line()],
        };
        let holder = Holder::start(&user, CloneFlags::empty()).unwrap();
        check(&File::open(holder.namespace("user")).unwrap()).unwrap();
    }

    fn line() -> IdMapping {
        IdMapping {
            container_id: 0,
            host_id: 70_000,
            length: 1,
        }
    }
}
