//! `linux`: namespaces, sysctls, cgroups path, masks and labels.

use std::path::PathBuf;

use oci_spec::runtime::{
    Linux, LinuxIdMapping, LinuxIdMappingBuilder, LinuxNamespace, LinuxNamespaceType,
};

use super::error::SpecError;
use super::{capabilities, devices, process, resources, root_propagation};
use crate::cgroup::CgroupMode;
use crate::container::Container;
use crate::sandbox::{CgroupDriver, IdMapping, Namespace, Sandbox};
use crate::{Host, seccomp};

const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

pub(super) fn linux(
    host: &Host,
    sandbox: &Sandbox,
    container: &Container,
) -> Result<Linux, SpecError> {
    let security = &container.security;
    let owned = |list: &[&str]| list.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
    let (masked, readonly) = if security.privileged {
        (Vec::new(), Vec::new())
    } else {
        (
            security
                .masked_paths
                .clone()
                .unwrap_or_else(|| owned(&MASKED)),
            security
                .readonly_paths
                .clone()
                .unwrap_or_else(|| owned(&READONLY)),
        )
    };
    let (nodes, rules) = devices::devices(container)?;

    let mut linux = Linux::default();
    linux.set_namespaces(Some(namespaces(host, sandbox, container)));
    if let Some(user) = &sandbox.user {
        linux.set_uid_mappings(Some(mappings(&user.uids)?));
        linux.set_gid_mappings(Some(mappings(&user.gids)?));
    }
    if !sandbox.sysctls.is_empty() {
        linux.set_sysctl(Some(sandbox.sysctls.clone().into_iter().collect()));
    }
    linux.set_devices((!nodes.is_empty()).then_some(nodes));
    linux.set_resources(Some(resources::resources(
        host,
        &container.resources,
        rules,
    )));
    linux.set_cgroups_path(Some(cgroups_path(sandbox, container)));
    linux.set_masked_paths(Some(masked));
    linux.set_readonly_paths(Some(readonly));
    linux.set_rootfs_propagation(root_propagation(container));
    if !security.privileged {
        let capabilities = capabilities::names(host, security)?;
        linux.set_seccomp(seccomp::filter(&security.seccomp, &capabilities)?);
    }
    linux.set_mount_label(
        security
            .selinux
            .as_ref()
            .filter(|_| host.selinux && !security.privileged)
            .map(process::mount_label),
    );
    Ok(linux)
}

fn namespaces(host: &Host, sandbox: &Sandbox, container: &Container) -> Vec<LinuxNamespace> {
    let mut out = Vec::new();
    let mut push = |typ, wanted: &Namespace| {
        let path = match wanted {
            Namespace::Host => return,
            Namespace::Private => None,
            Namespace::Path(path) => Some(path.clone()),
        };
        let mut ns = LinuxNamespace::default();
        ns.set_typ(typ);
        ns.set_path(path);
        out.push(ns);
    };
    if let Some(user) = &sandbox.user {
        push(
            LinuxNamespaceType::User,
            &user
                .path
                .clone()
                .map_or(Namespace::Private, Namespace::Path),
        );
    }
    push(LinuxNamespaceType::Pid, &container.pid);
    push(LinuxNamespaceType::Ipc, &sandbox.ipc);
    push(LinuxNamespaceType::Uts, &sandbox.uts);
    push(LinuxNamespaceType::Mount, &Namespace::Private);
    push(LinuxNamespaceType::Network, &sandbox.network);
    if host.cgroups.mode == CgroupMode::V2 && !container.security.privileged {
        push(LinuxNamespaceType::Cgroup, &Namespace::Private);
    }
    out
}

fn mappings(list: &[IdMapping]) -> Result<Vec<LinuxIdMapping>, SpecError> {
    list.iter()
        .map(|m| {
            Ok(LinuxIdMappingBuilder::default()
                .container_id(m.container_id)
                .host_id(m.host_id)
                .size(m.length)
                .build()?)
        })
        .collect()
}

/// A path below the parent for cgroupfs, `slice:prefix:name` for systemd.
fn cgroups_path(sandbox: &Sandbox, container: &Container) -> PathBuf {
    let parent = &sandbox.cgroup_parent;
    match sandbox.cgroup_driver {
        CgroupDriver::Cgroupfs => PathBuf::from("/")
            .join(parent.trim_start_matches('/'))
            .join(&container.id),
        CgroupDriver::Systemd => {
            let slice = parent
                .trim_end_matches('/')
                .rsplit('/')
                .next()
                .unwrap_or_default();
            let slice = if slice.is_empty() {
                "system.slice"
            } else {
                slice
            };
            PathBuf::from(format!("{slice}:cri-berth:{}", container.id))
        }
    }
}
