//! From a pod to CRI's PodSandboxConfig.

mod dns;

use std::collections::HashMap;
use std::path::PathBuf;

use berth_cri_api::v1::{
    Int64Value, LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption,
    PodSandboxConfig, PodSandboxMetadata, PortMapping, Protocol, SecurityProfile,
    SupplementalGroupsPolicy,
};
use k8s_openapi::api::core::v1::{Pod, PodSpec};

use crate::agent::Agent;
use crate::amount::{self, QuantityError};
use crate::container_config::{ProfileError, resources_of_pod, seccomp, selinux};
use crate::cri::labels;
use crate::users::{IdRange, UsersError};

/// Why a sandbox's config cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SandboxConfigError {
    #[error("no user namespace for the pod: {0}")]
    Users(#[from] UsersError),
    #[error(transparent)]
    Profile(#[from] ProfileError),
    #[error(transparent)]
    Quantity(#[from] QuantityError),
    #[error(transparent)]
    Dns(#[from] dns::ResolvConfError),
    #[error("supplementalGroupsPolicy {0:?} is not known to this node")]
    GroupsPolicy(String),
}

/// `/var/log/pods/<namespace>_<name>_<uid>`.
pub(crate) fn log_directory(agent: &Agent, pod: &Pod) -> PathBuf {
    let m = &pod.metadata;
    let part = |s: &Option<String>| s.clone().unwrap_or_default();
    agent.config.pod_logs_dir.join(format!(
        "{}_{}_{}",
        part(&m.namespace),
        part(&m.name),
        part(&m.uid)
    ))
}

/// The pod's host name (KEP-1797) and its DNS domain.
pub(crate) fn hostname(agent: &Agent, pod: &Pod) -> (String, String) {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let ns = pod.metadata.namespace.as_deref().unwrap_or_default();
    let Some(spec) = &pod.spec else {
        return (name.to_owned(), String::new());
    };
    let mut host = spec
        .hostname_override
        .clone()
        .or_else(|| spec.hostname.clone())
        .filter(|h| !h.is_empty())
        .unwrap_or_else(|| name.to_owned());
    if host.len() > 63 {
        host.truncate(63);
        host.truncate(host.trim_end_matches(['-', '.']).len());
    }
    let domain = match spec.subdomain.as_deref() {
        Some(sub) if !sub.is_empty() => {
            format!("{sub}.{ns}.svc.{}", agent.config.cluster_domain)
        }
        _ => String::new(),
    };
    if spec.set_hostname_as_fqdn == Some(true) && !domain.is_empty() {
        host = format!("{host}.{domain}");
    }
    (host, domain)
}

/// Namespaces that the pod shares with the node or among its containers.
pub(crate) fn namespaces(spec: &PodSpec, users: Option<IdRange>) -> NamespaceOption {
    let mode = |host: Option<bool>, own: NamespaceMode| {
        if host == Some(true) {
            NamespaceMode::Node as i32
        } else {
            own as i32
        }
    };
    let pid = if spec.share_process_namespace == Some(true) {
        NamespaceMode::Pod
    } else {
        NamespaceMode::Container
    };
    NamespaceOption {
        network: mode(spec.host_network, NamespaceMode::Pod),
        ipc: mode(spec.host_ipc, NamespaceMode::Pod),
        pid: mode(spec.host_pid, pid),
        target_id: String::new(),
        userns_options: users.map(IdRange::namespace),
    }
}

/// The groups policy as CRI numbers it.
pub(crate) fn groups_policy(spec: &PodSpec) -> i32 {
    let policy = spec
        .security_context
        .as_ref()
        .and_then(|s| s.supplemental_groups_policy.as_deref());
    match policy {
        Some("Strict") => SupplementalGroupsPolicy::Strict as i32,
        _ => SupplementalGroupsPolicy::Merge as i32,
    }
}

/// A policy that is not known would be taken for the laxer one.
fn known_groups_policy(spec: &PodSpec) -> Result<(), SandboxConfigError> {
    let policy = spec
        .security_context
        .as_ref()
        .and_then(|s| s.supplemental_groups_policy.as_deref());
    match policy {
        None | Some("Merge" | "Strict") => Ok(()),
        Some(other) => Err(SandboxConfigError::GroupsPolicy(other.to_owned())),
    }
}

/// Groups of the pod: fsGroup first, then the supplemental ones.
pub(crate) fn groups(spec: &PodSpec) -> Vec<i64> {
    let Some(s) = &spec.security_context else {
        return Vec::new();
    };
    let mut groups: Vec<i64> = s.fs_group.into_iter().collect();
    groups.extend(s.supplemental_groups.iter().flatten());
    groups
}

fn port_mappings(spec: &PodSpec) -> Vec<PortMapping> {
    if spec.host_network == Some(true) {
        return Vec::new();
    }
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|c| berth_lifecycle::is_sidecar(c));
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|c| c.ports.iter().flatten())
        .map(|p| PortMapping {
            protocol: match p.protocol.as_deref() {
                Some("UDP") => Protocol::Udp as i32,
                Some("SCTP") => Protocol::Sctp as i32,
                _ => Protocol::Tcp as i32,
            },
            container_port: p.container_port,
            host_port: p.host_port.unwrap_or(0),
            host_ip: p.host_ip.clone().unwrap_or_default(),
        })
        .collect()
}

fn privileged(spec: &PodSpec) -> bool {
    spec.containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .any(|c| {
            c.security_context
                .as_ref()
                .is_some_and(|s| s.privileged == Some(true))
        })
}

/// Builds the whole config for the sandbox numbered `attempt`.
pub(crate) fn sandbox_config(
    agent: &Agent,
    pod: &Pod,
    attempt: u32,
    cgroup_parent: String,
) -> Result<PodSandboxConfig, SandboxConfigError> {
    let meta = &pod.metadata;
    let part = |s: &Option<String>| s.clone().unwrap_or_default();
    let spec = pod.spec.clone().unwrap_or_default();
    let mut tags: HashMap<String, String> = meta.labels.clone().into_iter().flatten().collect();
    tags.insert(labels::POD_NAME.into(), part(&meta.name));
    tags.insert(labels::POD_NAMESPACE.into(), part(&meta.namespace));
    tags.insert(labels::POD_UID.into(), part(&meta.uid));
    let mut annotations: HashMap<String, String> =
        meta.annotations.clone().into_iter().flatten().collect();
    annotations.insert("kubernetes.io/config.source".into(), "api".into());
    annotations
        .entry("kubernetes.io/config.seen".into())
        .or_insert_with(|| jiff::Timestamp::now().to_string());
    let context = spec.security_context.clone().unwrap_or_default();
    let hostname = if spec.host_network == Some(true) {
        String::new()
    } else {
        hostname(agent, pod).0
    };
    amount::check_pod(&spec)?;
    known_groups_policy(&spec)?;
    let (requests, overhead) = resources_of_pod(agent, &spec);
    let users = agent.users.of(pod)?;
    let seccomp = sandbox_seccomp(agent, &context)?;
    Ok(PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: part(&meta.name),
            uid: part(&meta.uid),
            namespace: part(&meta.namespace),
            attempt,
        }),
        hostname,
        log_directory: log_directory(agent, pod).to_string_lossy().into_owned(),
        dns_config: Some(dns::dns(agent, pod, &spec)?),
        port_mappings: port_mappings(&spec),
        labels: tags,
        annotations,
        linux: Some(LinuxPodSandboxConfig {
            cgroup_parent,
            security_context: Some(LinuxSandboxSecurityContext {
                namespace_options: Some(namespaces(&spec, users)),
                selinux_options: selinux(context.se_linux_options.as_ref()),
                run_as_user: context.run_as_user.map(|value| Int64Value { value }),
                run_as_group: match context.run_as_user {
                    Some(_) => context.run_as_group.map(|value| Int64Value { value }),
                    None => None,
                },
                supplemental_groups: groups(&spec),
                supplemental_groups_policy: groups_policy(&spec),
                privileged: privileged(&spec),
                seccomp: Some(seccomp),
                ..LinuxSandboxSecurityContext::default()
            }),
            sysctls: context
                .sysctls
                .into_iter()
                .flatten()
                .map(|s| (s.name, s.value))
                .collect(),
            overhead,
            resources: Some(requests),
        }),
        windows: None,
    })
}

/// A sandbox runs under the default profile unless the pod names another.
fn sandbox_seccomp(
    agent: &Agent,
    context: &k8s_openapi::api::core::v1::PodSecurityContext,
) -> Result<SecurityProfile, ProfileError> {
    match &context.seccomp_profile {
        Some(profile) => seccomp(agent, Some(profile)),
        None => Ok(SecurityProfile::default()),
    }
}
