//! `linux.devices` and the device cgroup's rules.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};

use super::error::SpecError;
use crate::container::Container;

/// Directories below /dev that the container has its own of, or that hold no devices.
const SKIPPED: [&str; 7] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];

/// The nodes to make, and the rules: nothing but what is listed, or everything when privileged.
pub(super) fn devices(
    container: &Container,
) -> Result<(Vec<LinuxDevice>, Vec<LinuxDeviceCgroup>), SpecError> {
    let security = &container.security;
    let whole_host = security.privileged && !security.privileged_without_host_devices;
    let all_allowed = whole_host || (security.privileged && security.all_devices_allowed);
    let mut nodes = Vec::new();
    let mut rules = vec![rule(all_allowed, None, "rwm")];
    if whole_host {
        collect(Path::new("/dev"), Path::new("/dev"), &mut nodes)?;
    }
    for device in &container.devices {
        let first = nodes.len();
        let kind = metadata(&device.host_path)?.file_type();
        if kind.is_dir() {
            collect(&device.host_path, &device.container_path, &mut nodes)?;
        } else {
            match node(&device.host_path, &device.container_path)? {
                Some(node) => nodes.push(node),
                None => return Err(SpecError::NotADevice(device.host_path.clone())),
            }
        }
        let access = if device.permissions.is_empty() {
            "rwm"
        } else {
            &device.permissions
        };
        rules.extend(
            nodes
                .iter()
                .skip(first)
                .map(|n| rule(true, Some(n), access)),
        );
    }
    Ok((nodes, rules))
}

fn metadata(path: &Path) -> Result<fs::Metadata, SpecError> {
    fs::metadata(path).map_err(|source| SpecError::Device {
        path: path.to_owned(),
        source,
    })
}

pub(crate) fn rule(allow: bool, node: Option<&LinuxDevice>, access: &str) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow);
    rule.set_access(Some(access.to_owned()));
    if let Some(node) = node {
        rule.set_typ(Some(node.typ()));
        rule.set_major(Some(node.major()));
        rule.set_minor(Some(node.minor()));
    }
    rule
}

pub(crate) fn node(host: &Path, inside: &Path) -> Result<Option<LinuxDevice>, SpecError> {
    let meta = metadata(host)?;
    let typ = match meta.file_type() {
        t if t.is_char_device() => LinuxDeviceType::C,
        t if t.is_block_device() => LinuxDeviceType::B,
        _ => return Ok(None),
    };
    let mut node = LinuxDevice::default();
    node.set_path(inside.to_owned());
    node.set_typ(typ);
    node.set_major(i64::from(rustix::fs::major(meta.rdev())));
    node.set_minor(i64::from(rustix::fs::minor(meta.rdev())));
    node.set_file_mode(Some(meta.mode() & 0o7777));
    node.set_uid(Some(meta.uid()));
    node.set_gid(Some(meta.gid()));
    Ok(Some(node))
}

/// All nodes below a directory, in name order. What vanishes meanwhile is passed over.
fn collect(host: &Path, inside: &Path, out: &mut Vec<LinuxDevice>) -> Result<(), SpecError> {
    let failed = |source| SpecError::Device {
        path: host.to_owned(),
        source,
    };
    let mut names: Vec<_> = fs::read_dir(host)
        .map_err(failed)?
        .filter_map(Result::ok)
        .map(|e| e.file_name())
        .filter(|n| n != "console" && !SKIPPED.iter().any(|s| n == *s))
        .collect();
    names.sort();
    for name in names {
        let (from, to) = (host.join(&name), inside.join(&name));
        let Ok(meta) = fs::symlink_metadata(&from) else {
            continue;
        };
        if meta.is_dir() {
            collect(&from, &to, out)?;
        } else if !meta.is_symlink()
            && let Ok(Some(node)) = node(&from, &to)
        {
            out.push(node);
        }
    }
    Ok(())
}
