//! Security contexts of pods and containers.

use std::collections::HashSet;

use berth_api::field::{FieldError, FieldPath};
use k8s_openapi::api::core::v1::{
    AppArmorProfile, Container, PodSecurityContext, PodSpec, SeccompProfile,
};

use super::{mounts, one_of};

const MAX_ID: i64 = 2_147_483_647;
const MAX_SYSCTL: usize = 253;
const MAX_PROFILE_PATH: usize = 4095;

fn id(errors: &mut Vec<FieldError>, at: &FieldPath, value: Option<i64>) {
    if let Some(value) = value.filter(|v| !(0..=MAX_ID).contains(v)) {
        errors.push(FieldError::invalid(
            at,
            value,
            format!("must be between 0 and {MAX_ID}, inclusive"),
        ));
    }
}

pub(super) fn pod(spec: &PodSpec, at: &FieldPath) -> Vec<FieldError> {
    let Some(context) = &spec.security_context else {
        return Vec::new();
    };
    let mut errors = Vec::new();
    id(&mut errors, &at.child("fsGroup"), context.fs_group);
    id(&mut errors, &at.child("runAsUser"), context.run_as_user);
    id(&mut errors, &at.child("runAsGroup"), context.run_as_group);
    for (i, group) in context.supplemental_groups.iter().flatten().enumerate() {
        id(
            &mut errors,
            &at.child("supplementalGroups").index(i),
            Some(*group),
        );
    }
    if spec.share_process_namespace == Some(true) && spec.host_pid == Some(true) {
        errors.push(FieldError::invalid(
            &at.child("shareProcessNamespace"),
            true,
            "ShareProcessNamespace and HostPID cannot both be enabled",
        ));
    }
    errors.extend(sysctls(spec, context, &at.child("sysctls")));
    for (name, value, values) in [
        (
            "fsGroupChangePolicy",
            &context.fs_group_change_policy,
            &["Always", "OnRootMismatch"],
        ),
        (
            "supplementalGroupsPolicy",
            &context.supplemental_groups_policy,
            &["Merge", "Strict"],
        ),
        (
            "seLinuxChangePolicy",
            &context.se_linux_change_policy,
            &["MountOption", "Recursive"],
        ),
    ] {
        if let Some(value) = value.as_deref().filter(|v| !values.contains(v)) {
            errors.push(FieldError::not_supported(&at.child(name), value, values));
        }
    }
    errors.extend(seccomp(
        context.seccomp_profile.as_ref(),
        &at.child("seccompProfile"),
    ));
    errors.extend(app_armor(
        context.app_armor_profile.as_ref(),
        &at.child("appArmorProfile"),
    ));
    errors
}

pub(super) fn container(spec: &PodSpec, c: &Container, at: &FieldPath) -> Vec<FieldError> {
    let Some(context) = &c.security_context else {
        return Vec::new();
    };
    let mut errors = Vec::new();
    id(&mut errors, &at.child("runAsUser"), context.run_as_user);
    id(&mut errors, &at.child("runAsGroup"), context.run_as_group);
    if let Some(mount) = &context.proc_mount {
        let at = at.child("procMount");
        one_of(&mut errors, &at, mount, &["Default", "Unmasked"]);
        if mount == "Unmasked" && spec.host_users.unwrap_or(true) {
            errors.push(FieldError::invalid(
                &at,
                mount,
                "`hostUsers` must be false to use `Unmasked`",
            ));
        }
    }
    errors.extend(seccomp(
        context.seccomp_profile.as_ref(),
        &at.child("seccompProfile"),
    ));
    if context.allow_privilege_escalation == Some(false) {
        if context.privileged == Some(true) {
            errors.push(FieldError::invalid(
                at,
                context,
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            ));
        }
        let mut added = context
            .capabilities
            .iter()
            .flat_map(|c| c.add.iter().flatten());
        if added.any(|c| c == "CAP_SYS_ADMIN") {
            errors.push(FieldError::invalid(
                at,
                context,
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
            ));
        }
    }
    errors.extend(app_armor(
        context.app_armor_profile.as_ref(),
        &at.child("appArmorProfile"),
    ));
    errors
}

/// Segments of `[a-z0-9]([-_a-z0-9]*[a-z0-9])?` joined by dots or slashes.
fn is_sysctl_name(name: &str) -> bool {
    let plain = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    name.len() <= MAX_SYSCTL
        && name.split(['.', '/']).all(|segment| {
            let bytes = segment.as_bytes();
            plain(bytes.first())
                && plain(bytes.last())
                && bytes
                    .iter()
                    .all(|b| plain(Some(b)) || matches!(b, b'-' | b'_'))
        })
}

fn sysctls(spec: &PodSpec, context: &PodSecurityContext, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut names = HashSet::new();
    for (i, sysctl) in context.sysctls.iter().flatten().enumerate() {
        let at = at.index(i).child("name");
        let name = sysctl.name.as_str();
        let is_first = names.insert(name);
        if name.is_empty() {
            errors.push(FieldError::required(&at, ""));
        } else if !is_sysctl_name(name) {
            errors.push(FieldError::invalid(
                &at,
                name,
                format!("must have at most {MAX_SYSCTL} characters and be segments of lower case alphanumeric characters, '-' or '_', joined by '.' or '/'"),
            ));
        } else if !is_first {
            errors.push(FieldError::duplicate(&at, name));
        }
        let dotted = name.replace('/', ".");
        let of_ipc = dotted == "kernel.sem"
            || ["kernel.shm", "kernel.msg", "fs.mqueue."]
                .iter()
                .any(|p| dotted.starts_with(p));
        if spec.host_network == Some(true) && dotted.starts_with("net.") {
            errors.push(FieldError::invalid(
                &at,
                name,
                "may not be specified when 'hostNetwork' is true",
            ));
        } else if spec.host_ipc == Some(true) && of_ipc {
            errors.push(FieldError::invalid(
                &at,
                name,
                "may not be specified when 'hostIPC' is true",
            ));
        }
    }
    errors
}

fn seccomp(profile: Option<&SeccompProfile>, at: &FieldPath) -> Vec<FieldError> {
    let Some(profile) = profile else {
        return Vec::new();
    };
    let mut errors = Vec::new();
    one_of(
        &mut errors,
        &at.child("type"),
        &profile.type_,
        &["Localhost", "RuntimeDefault", "Unconfined"],
    );
    let at = at.child("localhostProfile");
    match (profile.type_.as_str(), &profile.localhost_profile) {
        ("Localhost", None) => errors.push(FieldError::required(
            &at,
            "must be set when seccomp type is Localhost",
        )),
        ("Localhost", Some(path)) => errors.extend(mounts::descending(path, &at)),
        (_, Some(_)) => errors.push(FieldError::invalid(
            &at,
            profile,
            "can only be set when seccomp type is Localhost",
        )),
        (_, None) => {}
    }
    errors
}

fn app_armor(profile: Option<&AppArmorProfile>, at: &FieldPath) -> Vec<FieldError> {
    let Some(profile) = profile else {
        return Vec::new();
    };
    let mut errors = Vec::new();
    let path_at = at.child("localhostProfile");
    match (profile.type_.as_str(), &profile.localhost_profile) {
        ("Localhost", None) => errors.push(FieldError::required(
            &path_at,
            "must be set when AppArmor type is Localhost",
        )),
        ("Localhost", Some(path)) => {
            if path.trim() != path {
                errors.push(FieldError::invalid(
                    &path_at,
                    path,
                    "must not be padded with whitespace",
                ));
            } else if path.is_empty() {
                errors.push(FieldError::required(
                    &path_at,
                    "must be set when AppArmor type is Localhost",
                ));
            }
            if path.len() > MAX_PROFILE_PATH {
                errors.push(FieldError::too_long(&path_at, MAX_PROFILE_PATH));
            }
        }
        ("RuntimeDefault" | "Unconfined", Some(path)) => errors.push(FieldError::invalid(
            &path_at,
            path,
            "can only be set when AppArmor type is Localhost",
        )),
        ("RuntimeDefault" | "Unconfined", None) => {}
        (other, _) => one_of(
            &mut errors,
            &at.child("type"),
            other,
            &["Localhost", "RuntimeDefault", "Unconfined"],
        ),
    }
    errors
}
