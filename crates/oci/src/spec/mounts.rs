//! `mounts`: the kernel's filesystems, the pod's /dev/shm, then the binds, parents first.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;

use super::error::SpecError;
use crate::container::{self, Container, MOUNT_OPTIONS, Propagation};
use crate::mountinfo::{self, HostMount};
use crate::sandbox::{Namespace, Sandbox};

pub(super) fn mounts(sandbox: &Sandbox, container: &Container) -> Result<Vec<Mount>, SpecError> {
    let mut binds: Vec<&container::Mount> = container.mounts.iter().collect();
    binds.sort_by_key(|m| m.container_path.components().count());
    let taken = |path: &str| binds.iter().any(|m| m.container_path == Path::new(path));
    let mut out: Vec<Mount> = kernel_mounts(sandbox, container)
        .into_iter()
        .filter(|m| !taken(&m.destination().to_string_lossy()))
        .collect();
    let table = std::cell::OnceCell::new();
    for mount in &binds {
        if !mount.container_path.is_absolute() {
            return Err(SpecError::NotAbsolute {
                what: "mount point",
                path: mount.container_path.clone(),
            });
        }
        if mount.propagation != Propagation::Private {
            check_propagation(table.get_or_init(mountinfo::read), mount)?;
        }
        out.push(bind(mount)?);
    }
    Ok(out)
}

fn entry(destination: &str, typ: &str, source: &str, options: &[&str]) -> Mount {
    let mut m = Mount::default();
    m.set_destination(PathBuf::from(destination));
    m.set_typ(Some(typ.to_owned()));
    m.set_source(Some(PathBuf::from(source)));
    m.set_options(Some(options.iter().map(|o| (*o).to_owned()).collect()));
    m
}

fn kernel_mounts(sandbox: &Sandbox, container: &Container) -> Vec<Mount> {
    let access = if container.security.privileged {
        "rw"
    } else {
        "ro"
    };
    let quiet = ["nosuid", "noexec", "nodev"];
    let mut out = vec![
        entry("/proc", "proc", "proc", &quiet),
        entry(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        entry(
            "/dev/pts",
            "devpts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
    ];
    let shm_options = ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"];
    out.push(match (&sandbox.shm, &sandbox.ipc) {
        (_, Namespace::Host) => entry("/dev/shm", "bind", "/dev/shm", &["rbind", "rprivate"]),
        (Some(shm), _) => entry(
            "/dev/shm",
            "bind",
            &shm.to_string_lossy(),
            &["rbind", "rprivate"],
        ),
        (None, _) => entry("/dev/shm", "tmpfs", "shm", &shm_options),
    });
    out.push(match &sandbox.ipc {
        Namespace::Host => entry("/dev/mqueue", "bind", "/dev/mqueue", &["rbind", "rprivate"]),
        Namespace::Private | Namespace::Path(_) => entry("/dev/mqueue", "mqueue", "mqueue", &quiet),
    });
    if sandbox.ipc == Namespace::Host && !Path::new("/dev/mqueue").exists() {
        out.pop();
    }
    // A user namespace that does not own the network namespace may not mount its sysfs. One that is made before the
    // container owns the pod's.
    if sandbox
        .user
        .as_ref()
        .is_some_and(|user| user.path.is_none())
    {
        out.push(entry(
            "/sys",
            "bind",
            "/sys",
            &["rbind", "rprivate", "nosuid", "noexec", "nodev", access],
        ));
    } else {
        out.push(entry(
            "/sys",
            "sysfs",
            "sysfs",
            &["nosuid", "noexec", "nodev", access],
        ));
    }
    out.push(entry(
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["nosuid", "noexec", "nodev", "relatime", access],
    ));
    out
}

fn bind(mount: &container::Mount) -> Result<Mount, SpecError> {
    let propagation = match mount.propagation {
        Propagation::Private => "rprivate",
        Propagation::HostToContainer => "rslave",
        Propagation::Bidirectional => "rshared",
    };
    let mut options = vec!["rbind", propagation];
    if mount.recursive_read_only {
        if !mount.readonly || mount.propagation != Propagation::Private {
            return Err(SpecError::RecursiveReadOnly(mount.container_path.clone()));
        }
        options.push("rro");
    }
    options.push(if mount.readonly { "ro" } else { "rw" });
    for option in &mount.options {
        if !MOUNT_OPTIONS.contains(&option.as_str()) {
            return Err(SpecError::MountOption {
                option: option.clone(),
                path: mount.container_path.clone(),
            });
        }
        options.push(option);
    }
    Ok(entry(
        &mount.container_path.to_string_lossy(),
        "bind",
        &mount.host_path.to_string_lossy(),
        &options,
    ))
}

/// Bidirectional needs a shared mount below, HostToContainer a shared or slave one.
fn check_propagation(table: &[HostMount], mount: &container::Mount) -> Result<(), SpecError> {
    let source =
        std::fs::canonicalize(&mount.host_path).unwrap_or_else(|_| mount.host_path.clone());
    let holding = mountinfo::holding(table, &source);
    let (shared, slave) = holding.map_or((false, false), |m| (m.shared, m.slave));
    let (fine, wanted) = match mount.propagation {
        Propagation::Private => (true, ""),
        Propagation::HostToContainer => (shared || slave, "shared or slave"),
        Propagation::Bidirectional => (shared, "shared"),
    };
    if fine {
        Ok(())
    } else {
        Err(SpecError::Propagation {
            path: source,
            mount: holding.map_or_else(|| PathBuf::from("/"), |m| m.point.clone()),
            wanted,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn propagation_follows_the_deepest_mount() {
        let table = "1 0 0:1 / / rw - ext4 /dev/vda rw\n2 1 0:2 / /nowhere/a rw shared:7 - tmpfs tmpfs rw\n3 1 0:3 / /nowhere/b rw master:7 - tmpfs tmpfs rw";
        let check = |path: &str, propagation| {
            let mount = container::Mount {
                host_path: path.into(),
                propagation,
                ..container::Mount::default()
            };
            check_propagation(&mountinfo::parse(table), &mount).is_ok()
        };
        assert!(check("/nowhere/a/x", Propagation::Bidirectional));
        assert!(!check("/nowhere/b/x", Propagation::Bidirectional));
        assert!(check("/nowhere/b/x", Propagation::HostToContainer));
        assert!(!check("/elsewhere", Propagation::HostToContainer));
    }
}
