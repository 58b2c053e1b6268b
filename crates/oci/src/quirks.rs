//! Changes that single runtimes need in a spec that others take as it is.

pub mod gvisor;
mod submounts;

use oci_spec::runtime::Spec;

use crate::runtime::RuntimeKind;
use crate::spec::error::SpecError;

pub(crate) fn adapt(spec: &mut Spec, kind: RuntimeKind) -> Result<(), SpecError> {
    match kind {
        RuntimeKind::Runsc => gvisor::adapt(spec, &crate::mountinfo::read()),
        RuntimeKind::Youki => {
            plain_root_propagation(spec);
            Ok(())
        }
        RuntimeKind::Vm => {
            submounts::give_writable(spec, &crate::mountinfo::read());
            Ok(())
        }
        RuntimeKind::Runc | RuntimeKind::Crun | RuntimeKind::Berth | RuntimeKind::Other => Ok(()),
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
