//! From a CRI pod to what `oci` wants to know of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use berth_cri_api::v1::{
    LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption,
    PodSandboxConfig,
};
use berth_oci::runtime::RuntimeKind;
use berth_oci::{
    Capability, CgroupDriver, Container, LinuxCapabilities, Namespace, PodSize, Process, Resources,
    RuntimeProcess, Sandbox, Spec, UserNamespace,
};

use crate::engine::Engine;
use crate::error::CriError;
use crate::known;
use crate::netns;
use crate::pause;
use crate::record::{SandboxRecord, Warm};
use crate::runtime::PodRuntime;
use crate::sound;

fn security(config: &PodSandboxConfig) -> Option<&LinuxSandboxSecurityContext> {
    config.linux.as_ref()?.security_context.as_ref()
}

pub(crate) fn options(config: &PodSandboxConfig) -> Option<&NamespaceOption> {
    security(config)?.namespace_options.as_ref()
}

/// Whether the pod uses the host's network.
pub(crate) fn host_network(config: &PodSandboxConfig) -> bool {
    options(config).is_some_and(|options| options.network() == NamespaceMode::Node)
}

pub(crate) fn host_ipc(config: &PodSandboxConfig) -> bool {
    options(config).is_some_and(|options| options.ipc() == NamespaceMode::Node)
}

/// Whether the pod's containers share one PID namespace: the CRI's default (`NamespaceOption.pid`), which kubelets
/// override.
pub(crate) fn shares_pids(config: &PodSandboxConfig) -> bool {
    options(config).is_none_or(|options| options.pid() == NamespaceMode::Pod)
}

/// Whether the pod is allowed privileged containers.
pub(crate) fn privileged(config: &PodSandboxConfig) -> bool {
    security(config).is_some_and(|security| security.privileged)
}

/// The name that the pod's containers see: the machine's where the client gives none, as under containerd.
pub(crate) fn hostname(config: &PodSandboxConfig) -> String {
    if !config.hostname.is_empty() {
        return config.hostname.clone();
    }
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_default()
}

/// The sysctls that the pod asks for.
pub(crate) fn sysctls(record: &SandboxRecord) -> BTreeMap<String, String> {
    let linux = record.config.0.linux.clone().unwrap_or_default();
    linux.sysctls.into_iter().collect()
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
    sound::check_sandbox(config)?;
    if runtime.is_vm() && host_network(config) {
        return Err(CriError::Invalid(format!(
            "a pod on the host's network (hostNetwork: true) can't run under runtime handler {:?}: its pods are virtual \
             machines, whose ports can't be reached at the node's addresses; leave hostNetwork out, or use a \
             RuntimeClass whose handler shares the host's kernel",
            runtime.handler
        )));
    }
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
        // Runtimes that join the pod's UTS namespace find the name there; gVisor has no other way to learn it.
        hostname: if record.runtime.gvisor().is_some() {
            hostname(config)
        } else {
            config.hostname.clone()
        },
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
        // They are set where the namespaces are made, in a running gVisor, and in a virtual machine by its sandbox
        // container's spec.
        sysctls: BTreeMap::new(),
        log_directory: config.log_directory.clone(),
        image: pause::IMAGE.to_owned(),
        // Without the overhead: that is what the virtual machine itself costs, beside what it gives to the pod.
        size: linux.resources.map(|resources| PodSize {
            cpu_period: resources.cpu_period,
            cpu_quota: resources.cpu_quota,
            cpu_shares: resources.cpu_shares,
            memory_limit: resources.memory_limit_in_bytes,
        }),
        shm: (!ipc).then(|| pins.join("shm")),
        annotations: record
            .runtime
            .annotation_match
            .pass(&record.runtime.pod_annotations, &config.annotations),
    }
}

/// Whether the sandbox container takes the pod's hostname from its stdin: one of ours that waits for its pod, with a kernel
/// of its own. Elsewhere the pod's UTS namespace has it.
pub(crate) fn receives_hostname(record: &SandboxRecord) -> bool {
    record.pause && record.warm == Warm::Making && record.runtime.gvisor().is_some()
}

/// The spec that a sandbox container is made with: that of its pod, and for one that waits what lets it become one.
pub(super) fn boot_spec(engine: &Engine, record: &SandboxRecord) -> Result<Spec, CriError> {
    let mut spec = pause_spec(engine, record)?;
    if receives_hostname(record)
        && let Some(process) = spec.process_mut()
    {
        process.set_args(Some(vec!["/pause".to_owned(), pause::RECEIVE.to_owned()]));
        may_set_hostname(process);
    }
    Ok(spec)
}

/// Lets a process set the hostname of its sandbox's own kernel, and nothing else.
pub(crate) fn may_set_hostname(process: &mut RuntimeProcess) {
    let only = || Some([Capability::SysAdmin].into());
    let mut capabilities = LinuxCapabilities::default();
    capabilities
        .set_bounding(only())
        .set_effective(only())
        .set_permitted(only())
        .set_inheritable(None)
        .set_ambient(None);
    process.set_capabilities(Some(capabilities));
}

/// The sandbox container's spec.
pub(crate) fn pause_spec(engine: &Engine, record: &SandboxRecord) -> Result<Spec, CriError> {
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
    let mut sandbox = oci_sandbox(engine, record);
    if record.runtime.is_vm() {
        sandbox.sysctls = sysctls(record);
    }
    Ok(berth_oci::sandbox_spec(
        &engine.host,
        record.runtime.kind(),
        &sandbox,
        &pause,
    )?)
}

/// The cgroup of a container, by the spec in its bundle.
pub(super) fn cgroup(bundle: &Path) -> Option<PathBuf> {
    let text = std::fs::read(bundle.join("config.json")).ok()?;
    let spec: Spec = serde_json::from_slice(&text).ok()?;
    spec.linux().as_ref()?.cgroups_path().clone()
}

/// The sandbox container's limits.
///
/// It is only the pause process, in a virtual machine too: that is sized by annotations, and its processes on the host
/// are limited by the pod's cgroup. gVisor runs the whole pod in its sandbox container, so that gets the pod's share and
/// its limits, overhead included.
fn pause_resources(kind: RuntimeKind, linux: &LinuxPodSandboxConfig) -> Resources {
    if kind != RuntimeKind::Runsc {
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
