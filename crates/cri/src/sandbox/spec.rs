//! From a CRI pod to what `oci` wants to know of it.

use std::collections::BTreeMap;

use berth_cri_api::v1::{
    LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption,
    PodSandboxConfig,
};
use berth_oci::runtime::RuntimeKind;
use berth_oci::{
    CgroupDriver, Container, Namespace, Process, Resources, Sandbox, Spec, UserNamespace,
};

use crate::engine::Engine;
use crate::error::CriError;
use crate::known;
use crate::netns;
use crate::record::SandboxRecord;
use crate::runtime::{PodRuntime, pass_annotations};

fn security(config: &PodSandboxConfig) -> Option<&LinuxSandboxSecurityContext> {
    config.linux.as_ref()?.security_context.as_ref()
}

pub(super) fn options(config: &PodSandboxConfig) -> Option<&NamespaceOption> {
    security(config)?.namespace_options.as_ref()
}

/// Whether the pod uses the host's network.
pub(crate) fn host_network(config: &PodSandboxConfig) -> bool {
    options(config).is_some_and(|options| options.network() == NamespaceMode::Node)
}

pub(super) fn host_ipc(config: &PodSandboxConfig) -> bool {
    options(config).is_some_and(|options| options.ipc() == NamespaceMode::Node)
}

/// Whether the pod's containers share one PID namespace: the CRI's default (`NamespaceOption.pid`), which kubelets
/// override.
pub(super) fn shares_pids(config: &PodSandboxConfig) -> bool {
    options(config).is_none_or(|options| options.pid() == NamespaceMode::Pod)
}

/// Whether the pod is allowed privileged containers.
pub(crate) fn privileged(config: &PodSandboxConfig) -> bool {
    security(config).is_some_and(|security| security.privileged)
}

pub(super) fn hostname(config: &PodSandboxConfig) -> String {
    if !config.hostname.is_empty() {
        return config.hostname.clone();
    }
    if host_network(config) {
        return nix::unistd::gethostname()
            .ok()
            .and_then(|name| name.into_string().ok())
            .unwrap_or_default();
    }
    // As a container without one is called elsewhere.
    config
        .metadata
        .as_ref()
        .map(|metadata| metadata.name.chars().take(63).collect())
        .unwrap_or_default()
}

/// What a pod can't have.
pub(super) fn check(config: &PodSandboxConfig, runtime: &PodRuntime) -> Result<(), CriError> {
    if config
        .metadata
        .as_ref()
        .is_none_or(|metadata| metadata.name.is_empty())
    {
        return Err(CriError::Invalid(
            "the pod sandbox has no name (metadata.name)".to_owned(),
        ));
    }
    known::check_sandbox(config)?;
    if let Some(options) = options(config) {
        for (what, mode) in [("network", options.network()), ("ipc", options.ipc())] {
            if matches!(mode, NamespaceMode::Container | NamespaceMode::Target) {
                return Err(CriError::Invalid(format!(
                    "namespace_options.{what} must be POD or NODE, not {}",
                    mode.as_str_name()
                )));
            }
        }
    }
    let parent = config
        .linux
        .as_ref()
        .map(|linux| linux.cgroup_parent.as_str());
    if let Some(parent) = parent.filter(|parent| !parent.is_empty())
        && runtime.systemd_cgroup()
        && !parent.trim_end_matches('/').ends_with(".slice")
    {
        return Err(CriError::Invalid(format!(
            "cgroup_parent {parent:?} is no slice, but systemd makes the cgroups of runtime handler {:?}: \
             set the kubelet's cgroupDriver to systemd",
            runtime.handler
        )));
    }
    for port in &config.port_mappings {
        let valid = |port: i32| (0..=65535).contains(&port);
        if !valid(port.container_port) || !valid(port.host_port) {
            return Err(CriError::Invalid(format!(
                "port mapping {}:{} is not between 0 and 65535",
                port.host_port, port.container_port
            )));
        }
    }
    Ok(())
}

/// What all containers of the pod share, for the spec.
pub(crate) fn oci_sandbox(engine: &Engine, record: &SandboxRecord) -> Sandbox {
    let config = &record.config.0;
    let metadata = config.metadata.clone().unwrap_or_default();
    let pins = engine.layout.pod(&record.id);
    let linux = config.linux.clone().unwrap_or_default();
    let network = host_network(config);
    let ipc = host_ipc(config);
    let pinned = |host: bool, name: &str| {
        if host {
            Namespace::Host
        } else {
            Namespace::Path(pins.join(name))
        }
    };
    Sandbox {
        id: record.id.clone(),
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        hostname: hostname(config),
        network: pinned(network, "net"),
        ipc: pinned(ipc, "ipc"),
        uts: pinned(network, "uts"),
        user: super::users::wanted(options(config)).map(|user| UserNamespace {
            path: Some(netns::pinned_user(&pins)),
            ..user
        }),
        cgroup_parent: linux.cgroup_parent,
        cgroup_driver: if record.runtime.systemd_cgroup() {
            CgroupDriver::Systemd
        } else {
            CgroupDriver::Cgroupfs
        },
        // They are set where the namespaces are made, and in a running gVisor; other kernels' runtimes
        // get them with the spec.
        sysctls: if record.runtime.kind().shares_host_kernel() || record.runtime.gvisor().is_some()
        {
            BTreeMap::new()
        } else {
            linux.sysctls.into_iter().collect()
        },
        shm: (!ipc).then(|| pins.join("shm")),
        annotations: pass_annotations(&record.runtime.pod_annotations, &config.annotations),
    }
}

/// The sandbox container's spec.
pub(super) fn pause_spec(engine: &Engine, record: &SandboxRecord) -> Result<Spec, CriError> {
    let config = &record.config.0;
    let linux = config.linux.clone().unwrap_or_default();
    let pause = Container {
        id: record.id.clone(),
        readonly_rootfs: true,
        process: Process {
            args: vec!["/pause".to_owned()],
            cwd: "/".to_owned(),
            ..Process::default()
        },
        pid: if options(config).is_some_and(|options| options.pid() == NamespaceMode::Node) {
            Namespace::Host
        } else {
            Namespace::Private
        },
        resources: pause_resources(record.runtime.kind(), &linux),
        ..Container::default()
    };
    let sandbox = oci_sandbox(engine, record);
    Ok(berth_oci::sandbox_spec(
        &engine.host,
        record.runtime.kind(),
        &sandbox,
        &pause,
    )?)
}

/// The sandbox container's limits.
///
/// Beside a host kernel it is only the pause process. A runtime with a kernel of its own runs
/// the whole pod in it, so it gets the pod's share and its limits, overhead included.
fn pause_resources(kind: RuntimeKind, linux: &LinuxPodSandboxConfig) -> Resources {
    if kind.shares_host_kernel() {
        return Resources {
            cpu_shares: 2,
            oom_score_adj: -998,
            ..Resources::default()
        };
    }
    let pod = linux.resources.clone().unwrap_or_default();
    let overhead = linux.overhead.clone().unwrap_or_default();
    // No limit plus something is no limit.
    let sum = |pod: i64, overhead: i64| {
        if pod > 0 {
            pod.saturating_add(overhead.max(0))
        } else {
            0
        }
    };
    Resources {
        cpu_shares: sum(pod.cpu_shares, overhead.cpu_shares),
        cpu_period: pod.cpu_period,
        cpu_quota: if overhead.cpu_period == 0 || overhead.cpu_period == pod.cpu_period {
            sum(pod.cpu_quota, overhead.cpu_quota)
        } else {
            0
        },
        memory_limit: sum(pod.memory_limit_in_bytes, overhead.memory_limit_in_bytes),
        ..Resources::default()
    }
}
