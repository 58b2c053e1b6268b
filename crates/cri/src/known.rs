//! Numbers of the CRI's enumerations that this version doesn't know.
//!
//! Protobuf hands an unknown number on, and the generated accessors take it for the enumeration's first value. A newer
//! client that asks for a stricter profile or another namespace would get something else than it asked for, and think
//! that it has it. So such a request is refused.

use berth_cri_api::v1::security_profile::ProfileType;
use berth_cri_api::v1::{
    ContainerConfig, MountPropagation, NamespaceMode, NamespaceOption, PodSandboxConfig, Protocol,
    SecurityProfile, Signal, SupplementalGroupsPolicy,
};

/// A request that asks for what isn't known here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnknownValue {
    #[error("{field}: {value} is not known to this version of berth")]
    Number { field: String, value: i32 },
    #[error("{field}: {path:?} is no absolute path")]
    RelativePath { field: &'static str, path: String },
}

/// Refuses what a sandbox is asked for and nobody here understands.
pub(crate) fn check_sandbox(config: &PodSandboxConfig) -> Result<(), UnknownValue> {
    for port in &config.port_mappings {
        known::<Protocol>("port_mappings.protocol", port.protocol)?;
    }
    let security = config
        .linux
        .as_ref()
        .and_then(|linux| linux.security_context.as_ref());
    let Some(security) = security else {
        return Ok(());
    };
    namespaces(security.namespace_options.as_ref())?;
    profile("seccomp", security.seccomp.as_ref())?;
    profile("apparmor", security.apparmor.as_ref())?;
    known::<SupplementalGroupsPolicy>(
        "supplemental_groups_policy",
        security.supplemental_groups_policy,
    )
}

/// Refuses what a container is asked for and nobody here understands.
pub(crate) fn check_container(config: &ContainerConfig) -> Result<(), UnknownValue> {
    known::<Signal>("stop_signal", config.stop_signal)?;
    for mount in &config.mounts {
        known::<MountPropagation>("mounts.propagation", mount.propagation)?;
    }
    let security = config
        .linux
        .as_ref()
        .and_then(|linux| linux.security_context.as_ref());
    let Some(security) = security else {
        return Ok(());
    };
    namespaces(security.namespace_options.as_ref())?;
    profile("seccomp", security.seccomp.as_ref())?;
    profile("apparmor", security.apparmor.as_ref())?;
    known::<SupplementalGroupsPolicy>(
        "supplemental_groups_policy",
        security.supplemental_groups_policy,
    )?;
    for (field, paths) in [
        ("masked_paths", &security.masked_paths),
        ("readonly_paths", &security.readonly_paths),
    ] {
        // Runtimes pass over a path that they don't find.
        if let Some(path) = paths.iter().find(|path| !path.starts_with('/')) {
            let path = path.clone();
            return Err(UnknownValue::RelativePath { field, path });
        }
    }
    Ok(())
}

fn namespaces(options: Option<&NamespaceOption>) -> Result<(), UnknownValue> {
    let Some(options) = options else {
        return Ok(());
    };
    for (field, mode) in [
        ("namespace_options.network", options.network),
        ("namespace_options.pid", options.pid),
        ("namespace_options.ipc", options.ipc),
    ] {
        known::<NamespaceMode>(field, mode)?;
    }
    options.userns_options.as_ref().map_or(Ok(()), |user| {
        known::<NamespaceMode>("namespace_options.userns_options.mode", user.mode)
    })
}

fn profile(field: &str, profile: Option<&SecurityProfile>) -> Result<(), UnknownValue> {
    profile.map_or(Ok(()), |profile| {
        known::<ProfileType>(&format!("{field}.profile_type"), profile.profile_type)
    })
}

fn known<T: TryFrom<i32>>(field: &str, value: i32) -> Result<(), UnknownValue> {
    T::try_from(value)
        .map(drop)
        .map_err(|_| UnknownValue::Number {
            field: field.to_owned(),
            value,
        })
}

#[cfg(test)]
mod tests {
    use berth_cri_api::v1::{
        LinuxContainerConfig, LinuxContainerSecurityContext, LinuxPodSandboxConfig,
        LinuxSandboxSecurityContext, Mount, PortMapping, UserNamespace,
    };

    use super::*;

    const NEWER: i32 = 97;

    fn container(
        change: impl FnOnce(&mut ContainerConfig, &mut LinuxContainerSecurityContext),
    ) -> Result<(), String> {
        let mut config = ContainerConfig::default();
        let mut security = LinuxContainerSecurityContext {
            namespace_options: Some(NamespaceOption::default()),
            seccomp: Some(SecurityProfile::default()),
            apparmor: Some(SecurityProfile::default()),
            masked_paths: vec!["/proc/kcore".to_owned()],
            ..LinuxContainerSecurityContext::default()
        };
        change(&mut config, &mut security);
        config.linux = Some(LinuxContainerConfig {
            security_context: Some(security),
            ..LinuxContainerConfig::default()
        });
        check_container(&config).map_err(|error| error.to_string())
    }

    #[test]
    fn numbers_of_a_newer_client_are_refused_by_name() {
        container(|_, _| ()).unwrap();
        let refused = |field: &str, got: Result<(), String>| {
            let error = got.expect_err(field);
            assert!(error.contains(field), "{field}: {error}");
        };
        let options = |change: fn(&mut NamespaceOption)| {
            container(|_, security| change(security.namespace_options.as_mut().unwrap()))
        };
        refused("network", options(|options| options.network = NEWER));
        refused("pid", options(|options| options.pid = NEWER));
        refused("ipc", options(|options| options.ipc = NEWER));
        let user = UserNamespace {
            mode: NEWER,
            ..UserNamespace::default()
        };
        refused(
            "userns_options",
            container(|_, security| {
                security.namespace_options.as_mut().unwrap().userns_options = Some(user);
            }),
        );
        let newer = SecurityProfile {
            profile_type: NEWER,
            ..SecurityProfile::default()
        };
        refused(
            "seccomp",
            container(|_, security| security.seccomp = Some(newer.clone())),
        );
        refused(
            "apparmor",
            container(|_, security| security.apparmor = Some(newer.clone())),
        );
        refused(
            "supplemental_groups_policy",
            container(|_, security| security.supplemental_groups_policy = NEWER),
        );
        refused(
            "stop_signal",
            container(|config, _| config.stop_signal = NEWER),
        );
        let mount = Mount {
            propagation: NEWER,
            ..Mount::default()
        };
        refused(
            "propagation",
            container(|config, _| config.mounts = vec![mount]),
        );
        refused(
            "masked_paths",
            container(|_, security| security.masked_paths.push("proc/kcore".to_owned())),
        );
        refused(
            "readonly_paths",
            container(|_, security| security.readonly_paths.push(String::new())),
        );
    }

    #[test]
    fn sandboxes_are_looked_at_as_well() {
        let mut config = PodSandboxConfig {
            linux: Some(LinuxPodSandboxConfig {
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(NamespaceOption::default()),
                    ..LinuxSandboxSecurityContext::default()
                }),
                ..LinuxPodSandboxConfig::default()
            }),
            port_mappings: vec![PortMapping::default()],
            ..PodSandboxConfig::default()
        };
        check_sandbox(&config).unwrap();
        config.port_mappings[0].protocol = NEWER;
        check_sandbox(&config).unwrap_err();
        config.port_mappings.clear();
        let linux = config.linux.as_mut().unwrap();
        let security = linux.security_context.as_mut().unwrap();
        security.namespace_options.as_mut().unwrap().pid = NEWER;
        check_sandbox(&config).unwrap_err();
    }
}
