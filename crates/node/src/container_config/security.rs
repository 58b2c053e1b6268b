//! Security contexts: the container's own over the pod's.

use std::path::{Component, Path};

use berth_cri_api::v1::security_profile::ProfileType;
use berth_cri_api::v1::{
    Capability, Int64Value, LinuxContainerSecurityContext, NamespaceMode, SeLinuxOption,
    SecurityProfile,
};
use k8s_openapi::api::core::v1::{Container, PodSpec, SELinuxOptions, SeccompProfile};

use super::ImageUser;
use crate::agent::Agent;
use crate::sandbox_config::{groups, groups_policy, namespaces};
use crate::users::IdRange;

/// `runAsNonRoot` is asked for, but the user would be root or cannot be known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NonRootError {
    #[error("container's runAsUser breaks non-root policy (container: {0})")]
    RunAsUser(String),
    #[error("container has runAsNonRoot and image will run as root (container: {0})")]
    Image(String),
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({1}), cannot verify user is non-root (container: {0})"
    )]
    Name(String, String),
}

/// A seccomp or AppArmor profile that cannot be given; without it the container would have none.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ProfileError {
    #[error("{what} profile type {sort:?} is not known to this node")]
    Type { what: &'static str, sort: String },
    #[error("{what} profile of type Localhost names no localhostProfile")]
    NoName { what: &'static str },
    #[error("seccomp localhostProfile {0:?} must be a relative path without '..'")]
    BadPath(String),
}

/// Why a container's security context cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecurityError {
    #[error(transparent)]
    NonRoot(#[from] NonRootError),
    #[error(transparent)]
    Profile(#[from] ProfileError),
    #[error("procMount {0:?} is not known to this node")]
    ProcMount(String),
}

const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const MASKED_MORE: [&str; 1] = ["/sys/devices/virtual/powercap"];
const READONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

pub(super) fn context(
    agent: &Agent,
    spec: &PodSpec,
    c: &Container,
    image: &ImageUser,
    target_id: Option<String>,
    users: Option<IdRange>,
) -> Result<LinuxContainerSecurityContext, SecurityError> {
    let pod = spec.security_context.clone().unwrap_or_default();
    let own = c.security_context.clone().unwrap_or_default();
    let run_as_user = own.run_as_user.or(pod.run_as_user);
    let run_as_group = own.run_as_group.or(pod.run_as_group);
    if own.run_as_non_root.or(pod.run_as_non_root) == Some(true) {
        non_root(c, run_as_user, image)?;
    }
    let (run_as_user, run_as_username) = match run_as_user {
        Some(value) => (Some(Int64Value { value }), String::new()),
        None => match image.uid {
            Some(value) => (Some(Int64Value { value }), String::new()),
            None => (None, image.name.clone()),
        },
    };
    let privileged = own.privileged == Some(true);
    let mut namespace_options = namespaces(spec, users);
    if let Some(id) = target_id {
        namespace_options.pid = NamespaceMode::Target as i32;
        namespace_options.target_id = id;
    }
    match own.proc_mount.as_deref() {
        None | Some("" | "Default" | "Unmasked") => {}
        Some(other) => return Err(SecurityError::ProcMount(other.to_owned())),
    }
    let unmasked = privileged || own.proc_mount.as_deref() == Some("Unmasked");
    let paths = |lists: &[&[&str]]| -> Vec<String> {
        if unmasked {
            return Vec::new();
        }
        lists
            .iter()
            .flat_map(|l| l.iter())
            .map(|s| (*s).to_owned())
            .collect()
    };
    let capabilities = own.capabilities.map(|caps| Capability {
        add_capabilities: caps.add.unwrap_or_default(),
        drop_capabilities: caps.drop.unwrap_or_default(),
        add_ambient_capabilities: Vec::new(),
    });
    let apparmor = own
        .app_armor_profile
        .as_ref()
        .or(pod.app_armor_profile.as_ref());
    let has_admin = capabilities.as_ref().is_some_and(|c| {
        c.add_capabilities
            .iter()
            .any(|cap| cap.trim_start_matches("CAP_") == "SYS_ADMIN")
    });
    Ok(LinuxContainerSecurityContext {
        capabilities,
        privileged,
        namespace_options: Some(namespace_options),
        selinux_options: selinux(
            own.se_linux_options
                .as_ref()
                .or(pod.se_linux_options.as_ref()),
        ),
        run_as_group: run_as_group
            .filter(|_| run_as_user.is_some() || !run_as_username.is_empty())
            .map(|value| Int64Value { value }),
        run_as_user,
        run_as_username,
        readonly_rootfs: own.read_only_root_filesystem == Some(true),
        supplemental_groups: groups(spec),
        supplemental_groups_policy: groups_policy(spec),
        no_new_privs: own.allow_privilege_escalation == Some(false) && !privileged && !has_admin,
        masked_paths: paths(&[&MASKED, &MASKED_MORE]),
        readonly_paths: paths(&[&READONLY]),
        seccomp: Some(if privileged {
            unconfined()
        } else {
            seccomp(
                agent,
                own.seccomp_profile
                    .as_ref()
                    .or(pod.seccomp_profile.as_ref()),
            )?
        }),
        apparmor: apparmor
            .map(|p| {
                let name = p.localhost_profile.clone().unwrap_or_default();
                profile("AppArmor", &p.type_, name)
            })
            .transpose()?,
        ..LinuxContainerSecurityContext::default()
    })
}

fn non_root(c: &Container, user: Option<i64>, image: &ImageUser) -> Result<(), NonRootError> {
    match (user, image.uid) {
        (Some(0), _) => Err(NonRootError::RunAsUser(c.name.clone())),
        (Some(_), _) => Ok(()),
        (None, Some(0)) => Err(NonRootError::Image(c.name.clone())),
        (None, Some(_)) => Ok(()),
        (None, None) if image.name.is_empty() => Err(NonRootError::Image(c.name.clone())),
        (None, None) => Err(NonRootError::Name(c.name.clone(), image.name.clone())),
    }
}

fn unconfined() -> SecurityProfile {
    SecurityProfile {
        profile_type: ProfileType::Unconfined as i32,
        localhost_ref: String::new(),
    }
}

fn profile(
    what: &'static str,
    sort: &str,
    localhost_ref: String,
) -> Result<SecurityProfile, ProfileError> {
    let (profile_type, localhost_ref) = match sort {
        "RuntimeDefault" => (ProfileType::RuntimeDefault, String::new()),
        "Localhost" if localhost_ref.is_empty() => return Err(ProfileError::NoName { what }),
        "Localhost" => (ProfileType::Localhost, localhost_ref),
        "Unconfined" => (ProfileType::Unconfined, String::new()),
        other => {
            return Err(ProfileError::Type {
                what,
                sort: other.to_owned(),
            });
        }
    };
    Ok(SecurityProfile {
        profile_type: profile_type as i32,
        localhost_ref,
    })
}

/// A seccomp profile; local ones live in the agent's `seccomp` directory.
pub(crate) fn seccomp(
    agent: &Agent,
    wanted: Option<&SeccompProfile>,
) -> Result<SecurityProfile, ProfileError> {
    let Some(wanted) = wanted else {
        return Ok(unconfined());
    };
    let path = local_path(
        &agent.config.root_dir.join("seccomp"),
        wanted.localhost_profile.as_deref().unwrap_or_default(),
    )?;
    profile("seccomp", &wanted.type_, path)
}

/// The path of a local profile; empty when none is named.
fn local_path(dir: &Path, file: &str) -> Result<String, ProfileError> {
    if file.is_empty() {
        return Ok(String::new());
    }
    let inside = Path::new(file)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if !inside {
        return Err(ProfileError::BadPath(file.to_owned()));
    }
    Ok(dir.join(file).to_string_lossy().into_owned())
}

/// SELinux labels as CRI carries them.
pub(crate) fn selinux(options: Option<&SELinuxOptions>) -> Option<SeLinuxOption> {
    let o = options?;
    let part = |s: &Option<String>| s.clone().unwrap_or_default();
    Some(SeLinuxOption {
        user: part(&o.user),
        role: part(&o.role),
        r#type: part(&o.type_),
        level: part(&o.level),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_that_is_not_understood_is_refused_and_never_unconfined() {
        let sort = |sort: &str, name: &str| {
            profile("seccomp", sort, name.to_owned()).map(|p| (p.profile_type, p.localhost_ref))
        };
        let local = ProfileType::Localhost as i32;
        assert_eq!(sort("Localhost", "/a"), Ok((local, "/a".to_owned())));
        assert!(matches!(
            sort("Localhost", ""),
            Err(ProfileError::NoName { .. })
        ));
        for unknown in ["", "runtimedefault", "Custom"] {
            assert!(matches!(
                sort(unknown, "/a"),
                Err(ProfileError::Type { .. })
            ));
        }
    }

    #[test]
    fn a_local_profile_stays_in_its_directory() {
        let dir = Path::new("/node/seccomp");
        assert_eq!(
            local_path(dir, "a/b.json").unwrap(),
            "/node/seccomp/a/b.json"
        );
        for bad in ["../x", "/etc/x", "a/../../x"] {
            assert!(local_path(dir, bad).is_err(), "{bad}");
        }
    }
}
