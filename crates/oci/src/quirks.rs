//! Changes that single runtimes need in a spec that others take as it is.

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, Spec};

use crate::runtime::RuntimeKind;
use crate::spec::SpecError;

pub(crate) fn adapt(spec: &mut Spec, kind: RuntimeKind) -> Result<(), SpecError> {
    match kind {
        RuntimeKind::Runsc => gvisor(spec),
        RuntimeKind::Youki => {
            plain_root_propagation(spec);
            Ok(())
        }
        RuntimeKind::Runc | RuntimeKind::Crun | RuntimeKind::Other => Ok(()),
    }
}

/// youki refuses the recursive names of the root's propagation.
fn plain_root_propagation(spec: &mut Spec) {
    if let Some(linux) = spec.linux_mut()
        && let Some(name) = linux.rootfs_propagation().clone()
    {
        linux.set_rootfs_propagation(Some(name.trim_start_matches('r').to_owned()));
    }
}

/// gVisor rejects labels, propagation that leads out, recursive read-only and user namespaces.
fn gvisor(spec: &mut Spec) -> Result<(), SpecError> {
    if let Some(process) = spec.process_mut() {
        process.set_selinux_label(None);
        process.set_apparmor_profile(None);
        if let Some(capabilities) = process.capabilities().clone() {
            process.set_capabilities(Some(without_new(capabilities)));
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
    if let Some(mounts) = spec.mounts_mut() {
        for mount in mounts {
            let destination = mount.destination().clone();
            let Some(options) = mount.options_mut() else {
                continue;
            };
            if options.iter().any(|o| o == "rro") {
                return Err(SpecError::RecursiveReadOnlyUnsupported(destination));
            }
            options.retain(|o| o != "rshared" && o != "shared");
        }
    }
    Ok(())
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
    use super::*;

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
}
