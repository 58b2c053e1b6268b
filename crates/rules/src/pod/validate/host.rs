//! Sharing with the host: its network, its users, its name; and the operating system.

use berth_api::field::{FieldError, FieldPath};
use berth_api::names;
use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::Of;
use berth_core::meta;

const MAX_HOSTNAME: usize = 64;

/// On the host's network a port is what it is. A template may leave it open; it is set when a pod is made.
pub(super) fn network_ports(spec: &PodSpec, of: Of, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if spec.host_network != Some(true) {
        return errors;
    }
    for (i, c) in spec.containers.iter().enumerate() {
        for (j, port) in c.ports.iter().flatten().enumerate() {
            let host = port.host_port.unwrap_or(0);
            let is_open = of == Of::Template && host == 0;
            if host != port.container_port && !is_open {
                errors.push(FieldError::invalid(
                    &at.child("containers")
                        .index(i)
                        .child("ports")
                        .index(j)
                        .child("hostPort"),
                    host,
                    "must match `containerPort` when `hostNetwork` is true",
                ));
            }
        }
    }
    errors
}

/// With users of its own a pod shares no other namespace of the host.
pub(super) fn users(spec: &PodSpec, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if spec.host_users != Some(false) {
        return errors;
    }
    for (name, set) in [
        ("hostNetwork", spec.host_network),
        ("HostPID", spec.host_pid),
        ("HostIPC", spec.host_ipc),
    ] {
        if set == Some(true) {
            errors.push(FieldError::forbidden(
                &at.child(name),
                "when `hostUsers` is false",
            ));
        }
    }
    let lists = [
        (
            "initContainers",
            spec.init_containers.as_deref().unwrap_or_default(),
        ),
        ("containers", spec.containers.as_slice()),
    ];
    for (name, containers) in lists {
        for (i, c) in containers.iter().enumerate() {
            if c.volume_devices.as_ref().is_some_and(|d| !d.is_empty()) {
                let at = at.child(name).index(i).child("volumeDevices");
                errors.push(FieldError::forbidden(&at, "when `hostUsers` is false"));
            }
        }
    }
    errors
}

/// `hostnameOverride` and what excludes it.
pub(super) fn names(spec: &PodSpec, at: &FieldPath) -> Vec<FieldError> {
    let Some(name) = &spec.hostname_override else {
        return Vec::new();
    };
    let mut errors = Vec::new();
    let at = at.child("hostnameOverride");
    if spec.set_hostname_as_fqdn == Some(true) {
        errors.push(FieldError::forbidden(
            &at,
            "may not be specified when setHostnameAsFQDN is true",
        ));
    }
    if spec.host_network == Some(true) {
        errors.push(FieldError::forbidden(
            &at,
            "may not be specified when hostNetwork is true",
        ));
    }
    if name.len() > MAX_HOSTNAME {
        errors.push(FieldError::too_long(&at, MAX_HOSTNAME));
    }
    meta::extend_invalid(&mut errors, &at, name, names::dns1123_subdomain(name));
    errors
}

/// `os`, and the fields that the named system does not have.
pub(super) fn operating_system(spec: &PodSpec, at: &FieldPath) -> Vec<FieldError> {
    let Some(os) = &spec.os else {
        return Vec::new();
    };
    match os.name.as_str() {
        "" => vec![FieldError::required(&at.child("os.name"), "")],
        "linux" => linux(spec, at),
        "windows" => windows(spec, at),
        other => vec![FieldError::not_supported(
            &at.child("os"),
            other,
            &["linux", "windows"],
        )],
    }
}

fn each_container<'p>(spec: &'p PodSpec, at: &FieldPath) -> Vec<(FieldPath, &'p Container)> {
    let lists = [
        (
            "initContainers",
            spec.init_containers.as_deref().unwrap_or_default(),
        ),
        ("containers", spec.containers.as_slice()),
    ];
    lists
        .into_iter()
        .flat_map(|(name, list)| list.iter().enumerate().map(move |(i, c)| (name, i, c)))
        .map(|(name, i, c)| (at.child(name).index(i).child("securityContext"), c))
        .collect()
}

fn linux(spec: &PodSpec, at: &FieldPath) -> Vec<FieldError> {
    const WHY: &str = "windows options cannot be set for a linux pod";
    let mut errors = Vec::new();
    if spec
        .security_context
        .as_ref()
        .is_some_and(|s| s.windows_options.is_some())
    {
        errors.push(FieldError::forbidden(
            &at.child("securityContext.windowsOptions"),
            WHY,
        ));
    }
    for (at, c) in each_container(spec, at) {
        if c.security_context
            .as_ref()
            .is_some_and(|s| s.windows_options.is_some())
        {
            errors.push(FieldError::forbidden(&at.child("windowsOptions"), WHY));
        }
    }
    errors
}

fn windows(spec: &PodSpec, at: &FieldPath) -> Vec<FieldError> {
    const WHY: &str = "cannot be set for a windows pod";
    let mut errors = Vec::new();
    let mut forbid = |at: FieldPath, set: bool| {
        if set {
            errors.push(FieldError::forbidden(&at, WHY));
        }
    };
    forbid(at.child("hostPID"), spec.host_pid == Some(true));
    forbid(at.child("hostIPC"), spec.host_ipc == Some(true));
    forbid(at.child("hostUsers"), spec.host_users.is_some());
    forbid(at.child("resources"), spec.resources.is_some());
    forbid(
        at.child("securityContext.shareProcessNamespace"),
        spec.share_process_namespace.is_some(),
    );
    if let Some(context) = &spec.security_context {
        let at = at.child("securityContext");
        forbid(
            at.child("appArmorProfile"),
            context.app_armor_profile.is_some(),
        );
        forbid(
            at.child("seLinuxOptions"),
            context.se_linux_options.is_some(),
        );
        forbid(
            at.child("seccompProfile"),
            context.seccomp_profile.is_some(),
        );
        forbid(at.child("fsGroup"), context.fs_group.is_some());
        forbid(
            at.child("fsGroupChangePolicy"),
            context.fs_group_change_policy.is_some(),
        );
        forbid(
            at.child("sysctls"),
            context.sysctls.as_ref().is_some_and(|s| !s.is_empty()),
        );
        forbid(at.child("runAsUser"), context.run_as_user.is_some());
        forbid(at.child("runAsGroup"), context.run_as_group.is_some());
        forbid(
            at.child("supplementalGroups"),
            context.supplemental_groups.is_some(),
        );
    }
    for (at, c) in each_container(spec, at) {
        let Some(context) = &c.security_context else {
            continue;
        };
        forbid(
            at.child("appArmorProfile"),
            context.app_armor_profile.is_some(),
        );
        forbid(
            at.child("seLinuxOptions"),
            context.se_linux_options.is_some(),
        );
        forbid(
            at.child("seccompProfile"),
            context.seccomp_profile.is_some(),
        );
        forbid(at.child("capabilities"), context.capabilities.is_some());
        forbid(
            at.child("readOnlyRootFilesystem"),
            context.read_only_root_filesystem.is_some(),
        );
        forbid(at.child("privileged"), context.privileged.is_some());
        forbid(
            at.child("allowPrivilegeEscalation"),
            context.allow_privilege_escalation.is_some(),
        );
        forbid(at.child("procMount"), context.proc_mount.is_some());
        forbid(at.child("runAsUser"), context.run_as_user.is_some());
        forbid(at.child("runAsGroup"), context.run_as_group.is_some());
    }
    errors
}
