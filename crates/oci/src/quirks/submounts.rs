//! Mounts below a read-only mount, for runtimes in which a mount is one whatever is mounted below its source.
//!
//! A virtual machine sees a shared directory as a single file system: a read-only bind of it makes everything read-only,
//! as `rro` asks for. Where it was not asked for, the mounts below that can be written to are given as binds of their own.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};

use crate::mountinfo::HostMount;

/// File systems that are the host kernel's own views, or files that stand for namespaces. A guest has its own, and its
/// runtime shares none of them.
const KERNELS_OWN: [&str; 20] = [
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "rpc_pipefs",
    "securityfs",
    "sysfs",
    "tracefs",
];

pub(super) fn give_writable(spec: &mut Spec, table: &[HostMount]) {
    let Some(mounts) = spec.mounts().clone() else {
        return;
    };
    let mut out = Vec::with_capacity(mounts.len());
    for mount in mounts {
        let below = if is_open(&mount) {
            writable_below(&mount, table)
        } else {
            Vec::new()
        };
        out.push(mount);
        out.extend(below);
    }
    spec.set_mounts(Some(out));
}

/// Read-only itself, with nothing said of what lies below.
fn is_open(mount: &Mount) -> bool {
    let has = |name: &str| {
        let options = mount.options().iter().flatten();
        options.into_iter().any(|option| option == name)
    };
    has("rbind") && has("ro") && !has("rro")
}

fn writable_below(mount: &Mount, table: &[HostMount]) -> Vec<Mount> {
    let Some(source) = mount.source() else {
        return Vec::new();
    };
    let mut found: Vec<(PathBuf, &HostMount)> = Vec::new();
    for below in table {
        let Ok(rest) = below.point.strip_prefix(source) else {
            continue;
        };
        if rest.as_os_str().is_empty() {
            continue;
        }
        // A later mount hides those at its point and below it.
        found.retain(|(place, _)| !place.starts_with(rest));
        found.push((rest.to_owned(), below));
    }
    // Those of the kernel take part in hiding, and are left out only now.
    found.retain(|(_, below)| !below.readonly && !KERNELS_OWN.contains(&below.kind.as_str()));
    found.sort_by_key(|(rest, _)| rest.components().count());
    found
        .into_iter()
        .map(|(rest, below)| bind(&mount.destination().join(rest), &below.point, "rw"))
        .collect()
}

/// A private bind mount; `access` is `ro` or `rw`.
#[must_use]
pub fn bind(destination: &Path, source: &Path, access: &str) -> Mount {
    let mut mount = Mount::default();
    mount.set_destination(destination.to_owned());
    mount.set_typ(Some("bind".to_owned()));
    mount.set_source(Some(source.to_owned()));
    mount.set_options(Some(
        ["rbind", "rprivate", access].map(str::to_owned).to_vec(),
    ));
    mount
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mountinfo::parse;

    fn mount(options: &[&str]) -> Mount {
        let mut mount = bind(Path::new("/data"), Path::new("/host/data"), "ro");
        mount.set_options(Some(options.iter().map(|o| (*o).to_owned()).collect()));
        mount
    }

    fn given(options: &[&str]) -> Vec<(String, String)> {
        let table = parse(
            "1 0 0:1 / / rw - ext4 /dev/vda rw\n\
             2 1 0:2 / /host/data rw - tmpfs tmpfs rw\n\
             3 2 0:3 / /host/data/b/c rw - tmpfs tmpfs rw\n\
             4 2 0:4 / /host/data/a rw - tmpfs tmpfs rw\n\
             5 2 0:5 / /host/data/ro ro - tmpfs tmpfs rw\n\
             6 2 0:6 / /host/data/proc rw - proc proc rw\n\
             7 1 0:7 / /host/database rw - tmpfs tmpfs rw\n\
             8 2 0:8 / /host/data/old/below rw - tmpfs tmpfs rw\n\
             9 2 0:9 / /host/data/old rw - tmpfs tmpfs rw",
        );
        let mut spec = Spec::default();
        spec.set_mounts(Some(vec![mount(options)]));
        give_writable(&mut spec, &table);
        let mounts = spec.mounts().iter().flatten();
        mounts
            .skip(1)
            .map(|mount| {
                let options = mount.options().clone().unwrap_or_default();
                (mount.destination().display().to_string(), options.join(","))
            })
            .collect()
    }

    #[test]
    fn what_is_writable_below_a_read_only_mount_stays_so() {
        let writable = "rbind,rprivate,rw".to_owned();
        let wanted =
            ["/data/a", "/data/old", "/data/b/c"].map(|place| (place.to_owned(), writable.clone()));
        assert_eq!(given(&["rbind", "rprivate", "ro"]), wanted);
    }

    #[test]
    fn what_was_asked_to_be_read_only_all_the_way_stays_so() {
        assert_eq!(given(&["rbind", "rprivate", "rro", "ro"]), []);
        assert_eq!(given(&["rbind", "rprivate", "rw"]), []);
    }
}
