//! A pod's namespaces without a process to hold them: unshared in a throwaway thread, pinned by
//! bind mounts of `/proc/thread-self/ns/*`.

mod owner;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

pub(crate) use owner::{check as check_user, pinned as pinned_user};

use berth_oci::UserNamespace;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

/// What a pod has of its own. Absent means the host's.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub(crate) network: bool,
    pub(crate) ipc: bool,
    /// A UTS namespace with this hostname.
    pub(crate) hostname: Option<String>,
    /// A user namespace that owns the others, with these maps.
    pub(crate) user: Option<UserNamespace>,
    /// Written inside the new namespaces.
    pub(crate) sysctls: BTreeMap<String, String>,
}

/// Why a pod's namespaces could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NamespaceError {
    #[error("cannot unshare the pod's namespaces")]
    Unshare(#[source] io::Error),
    #[error("cannot write the maps of the pod's user namespace")]
    Map(#[source] io::Error),
    #[error("cannot pin a namespace at {}", path.display())]
    Pin { path: PathBuf, source: io::Error },
    #[error("cannot set the hostname {hostname:?}")]
    Hostname { hostname: String, source: io::Error },
    #[error("cannot bring the loopback interface up")]
    Loopback(#[source] io::Error),
    #[error("cannot set sysctl {name:?} to {value:?}")]
    Sysctl {
        name: String,
        value: String,
        source: io::Error,
    },
    #[error("sysctl {0:?} is not allowed: it belongs to no namespace that the pod has of its own")]
    SysctlNotNamespaced(String),
    #[error("sysctl name {0:?} is malformed")]
    SysctlName(String),
    #[error("cannot enter the namespace {}", path.display())]
    Enter { path: PathBuf, source: io::Error },
    #[error("the thread that makes namespaces was lost")]
    Thread,
}

/// Makes the namespaces and pins them at `dir/net`, `dir/ipc`, `dir/uts` and `dir/user`.
pub(crate) fn pin(dir: &Path, request: &Request) -> Result<(), NamespaceError> {
    check_sysctls(request)?;
    on_thread(|| {
        let mut flags = CloneFlags::empty();
        flags.set(CloneFlags::CLONE_NEWNET, request.network);
        flags.set(CloneFlags::CLONE_NEWIPC, request.ipc);
        flags.set(CloneFlags::CLONE_NEWUTS, request.hostname.is_some());
        match &request.user {
            None => unshare(flags).map_err(|errno| NamespaceError::Unshare(errno.into()))?,
            Some(user) => {
                let holder = owner::Holder::start(user, flags)?;
                for (flag, name) in [
                    (CloneFlags::CLONE_NEWNET, "net"),
                    (CloneFlags::CLONE_NEWIPC, "ipc"),
                    (CloneFlags::CLONE_NEWUTS, "uts"),
                ] {
                    if flags.contains(flag) {
                        holder.enter(name, flag)?;
                    }
                }
                pin_one(dir, "user", &holder.namespace("user"))?;
            }
        }
        if let Some(hostname) = &request.hostname {
            nix::unistd::sethostname(hostname).map_err(|errno| NamespaceError::Hostname {
                hostname: hostname.clone(),
                source: errno.into(),
            })?;
        }
        if request.network {
            loopback_up().map_err(NamespaceError::Loopback)?;
        }
        write_sysctls(&request.sysctls)?;
        for (wanted, name) in [
            (request.network, "net"),
            (request.ipc, "ipc"),
            (request.hostname.is_some(), "uts"),
        ] {
            if wanted {
                pin_one(dir, name, &Path::new("/proc/thread-self/ns").join(name))?;
            }
        }
        Ok(())
    })
}

/// Gives namespaces that are pinned in `dir` another hostname, and sysctls.
pub(crate) fn adjust(
    dir: &Path,
    hostname: &str,
    sysctls: &BTreeMap<String, String>,
) -> Result<(), NamespaceError> {
    check_sysctls(&Request {
        network: true,
        ipc: true,
        sysctls: sysctls.clone(),
        ..Request::default()
    })?;
    on_thread(|| {
        for (name, flag) in [
            ("net", CloneFlags::CLONE_NEWNET),
            ("ipc", CloneFlags::CLONE_NEWIPC),
            ("uts", CloneFlags::CLONE_NEWUTS),
        ] {
            let path = dir.join(name);
            let failed = |source: io::Error| NamespaceError::Enter {
                path: path.clone(),
                source,
            };
            let file = File::open(&path).map_err(failed)?;
            setns(&file, flag).map_err(|errno| failed(errno.into()))?;
        }
        nix::unistd::sethostname(hostname).map_err(|errno| NamespaceError::Hostname {
            hostname: hostname.to_owned(),
            source: errno.into(),
        })?;
        write_sysctls(sysctls)
    })
}

fn write_sysctls(sysctls: &BTreeMap<String, String>) -> Result<(), NamespaceError> {
    for (name, value) in sysctls {
        let path = Path::new("/proc/sys").join(name.replace('.', "/"));
        std::fs::write(path, value).map_err(|source| NamespaceError::Sysctl {
            name: name.clone(),
            value: value.clone(),
            source,
        })?;
    }
    Ok(())
}

fn pin_one(dir: &Path, name: &str, source: &Path) -> Result<(), NamespaceError> {
    let path = dir.join(name);
    let failed = |source| NamespaceError::Pin {
        path: path.clone(),
        source,
    };
    File::create(&path).map_err(failed)?;
    mount(
        Some(source),
        &path,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .map_err(|errno| failed(errno.into()))
}

/// Unmounts and removes what [`pin`] left in `dir`, however much of it there is.
pub(crate) fn unpin(dir: &Path) -> io::Result<()> {
    for name in ["net", "ipc", "uts", "user"] {
        let path = dir.join(name);
        match umount2(&path, MntFlags::MNT_DETACH) {
            Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
        match std::fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Runs `work` on a thread inside the network namespace at `path`, which ends with it.
pub(crate) fn within_network<T: Send>(
    path: &Path,
    work: impl FnOnce() -> T + Send,
) -> Result<T, NamespaceError> {
    let failed = |source: io::Error| NamespaceError::Enter {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    on_thread(|| {
        setns(&file, CloneFlags::CLONE_NEWNET).map_err(|errno| failed(errno.into()))?;
        Ok(work())
    })
}

/// A thread of its own: namespaces are a thread's, and the runtime's workers must keep theirs.
fn on_thread<T: Send>(
    work: impl FnOnce() -> Result<T, NamespaceError> + Send,
) -> Result<T, NamespaceError> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("berth-netns".to_owned())
            .spawn_scoped(scope, work)
            .map_err(NamespaceError::Unshare)?
            .join()
            .unwrap_or(Err(NamespaceError::Thread))
    })
}

fn check_sysctls(request: &Request) -> Result<(), NamespaceError> {
    for name in request.sysctls.keys() {
        let plain = name.split('.').all(|part| {
            !part.is_empty() && part != ".." && !part.contains('/') && !part.contains('\0')
        });
        if !plain {
            return Err(NamespaceError::SysctlName(name.clone()));
        }
        let ipc = name.starts_with("kernel.shm")
            || name.starts_with("kernel.msg")
            || name == "kernel.sem"
            || name.starts_with("fs.mqueue.");
        let allowed = (request.network && name.starts_with("net.")) || (request.ipc && ipc);
        if !allowed {
            return Err(NamespaceError::SysctlNotNamespaced(name.clone()));
        }
    }
    Ok(())
}

/// Sets IFF_UP on `lo` of the calling thread's network namespace.
fn loopback_up() -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: ifreq is plain data, for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo\0") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    // SAFETY: the descriptor is open, and the pointer is to an ifreq with a terminated name, which
    // the kernel fills.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: SIOCGIFFLAGS has set the union's flags.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    let up = libc::c_short::try_from(libc::IFF_UP).unwrap_or(1);
    request.ifr_ifru.ifru_flags = flags | up;
    // SAFETY: as above; the kernel only reads.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(path: &Path) -> String {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(path).unwrap().ino().to_string()
    }

    #[test]
    fn pinned_namespaces_are_new_and_have_a_loopback() {
        let dir = tempfile::tempdir().unwrap();
        let request = Request {
            network: true,
            ipc: true,
            hostname: Some("berth-test".to_owned()),
            user: None,
            sysctls: BTreeMap::from([(
                "net.ipv4.ip_unprivileged_port_start".to_owned(),
                "7".to_owned(),
            )]),
        };
        pin(dir.path(), &request).unwrap();
        for name in ["net", "ipc", "uts"] {
            assert_ne!(
                link(&dir.path().join(name)),
                link(&Path::new("/proc/self/ns").join(name)),
                "{name}"
            );
        }
        let (answered, sysctl) = within_network(&dir.path().join("net"), || {
            let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let answered = std::net::TcpStream::connect(server.local_addr().unwrap()).is_ok();
            (
                answered,
                std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap(),
            )
        })
        .unwrap();
        assert!(answered);
        assert_eq!(sysctl.trim(), "7");
        unpin(dir.path()).unwrap();
        unpin(dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn sysctls_of_the_host_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "vm.swappiness",
            "net..x",
            "kernel.hostname",
            "net.ipv4/../../vm.swappiness",
        ] {
            let request = Request {
                network: true,
                sysctls: BTreeMap::from([(name.to_owned(), "1".to_owned())]),
                ..Request::default()
            };
            pin(dir.path(), &request).unwrap_err();
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
