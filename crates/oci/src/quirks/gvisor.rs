//! What gVisor's runsc needs in a spec, and what it leaves to mounts that others do themselves.

mod paths;

use std::path::PathBuf;

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, Mount, Spec};

use crate::mountinfo::HostMount;
use crate::spec::error::SpecError;

pub use super::submounts::bind;
pub use paths::confine;

/// gVisor rejects labels, propagation that leads out, recursive read-only and user namespaces.
pub(super) fn adapt(spec: &mut Spec, table: &[HostMount]) -> Result<(), SpecError> {
    if let Some(process) = spec.process_mut() {
        process.set_selinux_label(None);
        process.set_apparmor_profile(None);
        if let Some(capabilities) = process.capabilities().clone() {
            process.set_capabilities(Some(without_new(capabilities)));
        }
        // Linux keeps groups sorted; gVisor shows them as they were given.
        let mut user = process.user().clone();
        if let Some(mut groups) = user.additional_gids().clone() {
            groups.sort_unstable();
            user.set_additional_gids(Some(groups));
            process.set_user(user);
        }
    }
    if let Some(linux) = spec.linux_mut() {
        if linux.uid_mappings().is_some() {
            return Err(SpecError::UserNamespaces);
        }
        linux.set_mount_label(None);
        linux.set_rootfs_propagation(None);
        if let Some(resources) = linux.resources_mut() {
            resources.set_hugepage_limits(None);
            resources.set_unified(None);
        }
    }
    if let Some(mounts) = spec.mounts().clone() {
        spec.set_mounts(Some(adapt_mounts(mounts, table)?));
    }
    Ok(())
}

/// A read-only mount of gVisor's is so with all that is mounted below its source. That is what
/// `rro` asks for; where it was not asked for, the mounts below are given for themselves.
fn adapt_mounts(mounts: Vec<Mount>, table: &[HostMount]) -> Result<Vec<Mount>, SpecError> {
    let mut out = Vec::with_capacity(mounts.len());
    for mut mount in mounts {
        let mut options = mount.options().clone().unwrap_or_default();
        let has = |name: &str| options.iter().any(|option| option == name);
        if has("rshared") || has("shared") {
            return Err(SpecError::BidirectionalUnsupported(
                mount.destination().clone(),
            ));
        }
        let open = has("rbind") && has("ro") && !has("rro");
        options.retain(|option| option != "rro");
        mount.set_options(Some(options));
        let below = if open {
            submounts(&mount, table)
        } else {
            Vec::new()
        };
        out.push(mount);
        out.extend(below);
    }
    Ok(out)
}

/// What is mounted below a bind's source, each as a bind of its own.
fn submounts(mount: &Mount, table: &[HostMount]) -> Vec<Mount> {
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
        // Of two mounts on one point the later one shows.
        found.retain(|(place, _)| place != rest);
        found.push((rest.to_owned(), below));
    }
    found.sort_by_key(|(rest, _)| rest.components().count());
    found
        .into_iter()
        .map(|(rest, below)| {
            bind(
                &mount.destination().join(rest),
                &below.point,
                if below.readonly { "ro" } else { "rw" },
            )
        })
        .collect()
}

/// gVisor refuses a container with a capability that it has not heard of; inside it these three mean nothing.
fn without_new(mut all: LinuxCapabilities) -> LinuxCapabilities {
    let strip = |set: &Option<Capabilities>| {
        let mut set = set.clone()?;
        for new in [
            Capability::Perfmon,
            Capability::Bpf,
            Capability::CheckpointRestore,
        ] {
            set.remove(&new);
        }
        Some(set)
    };
    all.set_bounding(strip(all.bounding()));
    all.set_effective(strip(all.effective()));
    all.set_permitted(strip(all.permitted()));
    all.set_inheritable(strip(all.inheritable()));
    all.set_ambient(strip(all.ambient()));
    all
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::mountinfo::parse;

    #[test]
    fn gvisor_gets_no_capability_that_it_does_not_know() {
        let mut capabilities = LinuxCapabilities::default();
        let wanted = [
            Capability::SysAdmin,
            Capability::Bpf,
            Capability::CheckpointRestore,
            Capability::Perfmon,
        ];
        capabilities.set_bounding(Some(wanted.into_iter().collect()));
        let got = without_new(capabilities);
        assert_eq!(
            got.bounding(),
            &Some([Capability::SysAdmin].into_iter().collect())
        );
    }

    fn with(options: &[&str]) -> Result<Vec<(String, String, String)>, SpecError> {
        let table = parse(
            "1 0 0:1 / / rw - ext4 /dev/vda rw\n\
             2 1 0:2 / /srv/data/deep/er rw - tmpfs tmpfs rw\n\
             3 1 0:3 / /srv/data/deep ro - tmpfs tmpfs rw\n\
             4 1 0:4 / /srv/other rw - tmpfs tmpfs rw",
        );
        let mut mount = bind(Path::new("/m"), Path::new("/srv/data"), "ro");
        mount.set_options(Some(options.iter().map(|o| (*o).to_owned()).collect()));
        let got = adapt_mounts(vec![mount], &table)?;
        Ok(got
            .iter()
            .map(|m| {
                (
                    m.destination().display().to_string(),
                    m.source().clone().unwrap_or_default().display().to_string(),
                    m.options().clone().unwrap_or_default().join(","),
                )
            })
            .collect())
    }

    #[test]
    fn mounts_below_a_read_only_one_keep_their_own_mode() {
        let row = |d: &str, s: &str, o: &str| (d.to_owned(), s.to_owned(), o.to_owned());
        assert_eq!(
            with(&["rbind", "rprivate", "ro"]).expect("taken"),
            [
                row("/m", "/srv/data", "rbind,rprivate,ro"),
                row("/m/deep", "/srv/data/deep", "rbind,rprivate,ro"),
                row("/m/deep/er", "/srv/data/deep/er", "rbind,rprivate,rw"),
            ]
        );
        assert_eq!(
            with(&["rbind", "rprivate", "rro", "ro"]).expect("taken"),
            [row("/m", "/srv/data", "rbind,rprivate,ro")]
        );
        assert_eq!(with(&["rbind", "rslave", "rw"]).expect("taken").len(), 1);
        assert!(matches!(
            with(&["rbind", "rshared", "rw"]),
            Err(SpecError::BidirectionalUnsupported(_))
        ));
    }
}
