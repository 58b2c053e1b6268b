//! From a file's words about a node to the node of a spec.

use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};

use super::file::{DeviceNode, NodeKind};

/// The node that a file describes in full: with a type and a number (a FIFO has none). Nothing of the host is looked at then, and its
/// path may not be there. None where something is missing, which is that of the host's node, as CDI's specification has it.
pub(super) fn described(wanted: &DeviceNode) -> Option<LinuxDevice> {
    let kind = wanted.kind?;
    if kind != NodeKind::Fifo && wanted.major == 0 {
        return None;
    }
    let mut node = LinuxDevice::default();
    node.set_path(wanted.path.clone());
    node.set_typ(oci_type(kind));
    node.set_major(wanted.major.into());
    node.set_minor(wanted.minor.into());
    node.set_file_mode(None);
    node.set_uid(None);
    node.set_gid(None);
    Some(node)
}

/// Mode and owners that the file says; others stay.
pub(super) fn set_access(node: &mut LinuxDevice, wanted: &DeviceNode) {
    if wanted.file_mode.is_some() {
        node.set_file_mode(wanted.file_mode);
    }
    if wanted.uid.is_some() {
        node.set_uid(wanted.uid);
    }
    if wanted.gid.is_some() {
        node.set_gid(wanted.gid);
    }
}

/// The same type in OCI's specification.
pub(super) fn oci_type(kind: NodeKind) -> LinuxDeviceType {
    match kind {
        NodeKind::Block => LinuxDeviceType::B,
        NodeKind::Character => LinuxDeviceType::C,
        NodeKind::Unbuffered => LinuxDeviceType::U,
        NodeKind::Fifo => LinuxDeviceType::P,
    }
}

/// Whether the device cgroup knows nodes of this type.
pub(super) fn takes_rule(typ: LinuxDeviceType) -> bool {
    match typ {
        LinuxDeviceType::B | LinuxDeviceType::C => true,
        LinuxDeviceType::A | LinuxDeviceType::U | LinuxDeviceType::P => false,
    }
}
