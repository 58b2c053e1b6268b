//! Which pods a waiting sandbox can become, and which handlers can have any.

use std::collections::BTreeSet;

use berth_cri_api::v1::{LinuxPodSandboxConfig, NamespaceMode, PodSandboxConfig};
use berth_oci::Spec;
use berth_oci::runtime::{GvisorNetwork, RuntimeKind};
use serde_json::Value;

use super::pool::Size;
use crate::runtime::{Driver, PodRuntime};
use crate::sandbox;

/// The longest hostname that the kernel takes.
const HOSTNAME_MAX: usize = 64;

/// Why a pod starts cold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Cold {
    #[error("no sandbox waits")]
    None,
    #[error("no sandbox with its limits waits")]
    Size,
    #[error("a virtual machine of its memory would be too large to wait")]
    TooLarge,
    #[error("sandboxes of this handler can't wait: {0}")]
    Refused(String),
    #[error("it shares the host's {0} namespace")]
    Host(&'static str),
    #[error("it has a user namespace of its own")]
    User,
    #[error("its containers share a PID namespace")]
    Pids,
    #[error("sysctls have to be set before the sandbox boots")]
    Sysctls,
    #[error("its bandwidth is limited")]
    Bandwidth,
    #[error("its SELinux options have to be set before the sandbox boots")]
    Selinux,
    #[error("a hostname of {0} bytes can't be set")]
    Hostname(usize),
    #[error("the sandbox would have to be booted with another {0}")]
    Spec(String),
    #[error("the waiting sandbox could not be taken: {0}")]
    Failed(String),
}

impl Cold {
    /// Its name in metrics.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::None => "none_waiting",
            Self::Size => "limits",
            Self::TooLarge => "too_large",
            Self::Refused(_) => "refused",
            Self::Host(_) => "host_namespace",
            Self::User => "user_namespace",
            Self::Pids => "shared_pids",
            Self::Sysctls => "sysctls",
            Self::Bandwidth => "bandwidth",
            Self::Selinux => "selinux",
            Self::Hostname(_) => "hostname",
            Self::Spec(_) => "spec",
            Self::Failed(_) => "failed",
        }
    }
}

/// Why no sandbox of a handler can wait; `None` where it can.
pub(super) fn refusal(runtime: &PodRuntime) -> Option<String> {
    if runtime.sandbox_service {
        return Some(
            "its shim makes the sandbox itself (sandboxer = \"shim\"), and takes no other hostname later"
                .to_owned(),
        );
    }
    match &runtime.driver {
        Driver::Shim { vm: false, .. } => Some(
            "it is another's shim for containers on the host's kernel, which start as fast without".to_owned(),
        ),
        Driver::Own(_) | Driver::Shim { .. } if runtime.needs_pause() && runtime.systemd_cgroup() => Some(
            "systemd makes its cgroups (systemd_cgroup = true), and does not move a scope to a pod's slice"
                .to_owned(),
        ),
        Driver::Own(_) | Driver::Shim { .. } => None,
    }
}

/// What a pod needs that no waiting sandbox can be given.
pub(super) fn check(config: &PodSandboxConfig, runtime: &PodRuntime) -> Result<(), Cold> {
    let options = sandbox::options(config);
    if sandbox::host_network(config) {
        return Err(Cold::Host("network"));
    }
    if sandbox::host_ipc(config) {
        return Err(Cold::Host("IPC"));
    }
    if options.is_some_and(|options| options.pid() == NamespaceMode::Node) {
        return Err(Cold::Host("PID"));
    }
    if sandbox::wanted_users(options).is_some() {
        return Err(Cold::User);
    }
    // Where there is a sandbox container anyway, it is the one that they share.
    if sandbox::shares_pids(config) && !runtime.needs_pause() {
        return Err(Cold::Pids);
    }
    let linux = config.linux.clone().unwrap_or_default();
    if linux
        .sysctls
        .keys()
        .any(|name| !is_set_later(runtime, name))
    {
        return Err(Cold::Sysctls);
    }
    let limited = |direction| {
        let name = format!("kubernetes.io/{direction}-bandwidth");
        config.annotations.contains_key(&name)
    };
    if limited("ingress") || limited("egress") {
        return Err(Cold::Bandwidth);
    }
    let security = linux.security_context.unwrap_or_default();
    if security.selinux_options.is_some() {
        return Err(Cold::Selinux);
    }
    match sandbox::hostname(config).len() {
        1..=HOSTNAME_MAX => Ok(()),
        length => Err(Cold::Hostname(length)),
    }
}

/// Whether a sysctl can be set in a sandbox that has booted.
fn is_set_later(runtime: &PodRuntime, name: &str) -> bool {
    match runtime.gvisor() {
        // With the host's stack gVisor has read the network's when it booted.
        Some(command) => command.network != GvisorNetwork::Host || !name.starts_with("net."),
        // A virtual machine's are in the spec that it boots with.
        None => !runtime.is_vm(),
    }
}

/// What of a pod's limits its sandbox has to be booted with.
pub(super) fn size(runtime: &PodRuntime, linux: Option<&LinuxPodSandboxConfig>) -> Size {
    let linux = linux.cloned().unwrap_or_default();
    let pod = linux.resources.unwrap_or_default();
    let overhead = linux.overhead.unwrap_or_default();
    let positive = |value: i64| value.max(0);
    match runtime.kind() {
        // It shows the limit to the pod as the machine's memory.
        RuntimeKind::Runsc => Size {
            memory: match positive(pod.memory_limit_in_bytes) {
                0 => 0,
                memory => memory.saturating_add(positive(overhead.memory_limit_in_bytes)),
            },
            ..cpu(runtime, &pod)
        },
        // Its shares are the pod's cgroup's: Kata makes a machine's CPUs of quota and period alone.
        RuntimeKind::Vm => Size {
            memory: positive(pod.memory_limit_in_bytes),
            cpu_period: positive(pod.cpu_period),
            cpu_quota: positive(pod.cpu_quota),
        },
        RuntimeKind::Runc
        | RuntimeKind::Crun
        | RuntimeKind::Youki
        | RuntimeKind::Berth
        | RuntimeKind::Other => Size::default(),
    }
}

/// gVisors that give a pod as many CPUs as its quota has.
fn cpu(runtime: &PodRuntime, pod: &berth_cri_api::v1::LinuxContainerResources) -> Size {
    const FLAG: &str = "cpu-num-from-quota";
    /// Builds that don't by default.
    const OLD: u32 = 20_230_401;
    let date = runtime
        .version
        .split(|c: char| !c.is_ascii_digit())
        .find(|part| part.len() == 8)
        .and_then(|part| part.parse::<u32>().ok());
    let asked = runtime.gvisor().is_some_and(|command| command.sets(FLAG));
    if !asked && date.is_some_and(|date| date < OLD) {
        return Size::default();
    }
    Size {
        cpu_period: pod.cpu_period.max(0),
        cpu_quota: pod.cpu_quota.max(0),
        ..Size::default()
    }
}

/// Annotations of a sandbox container that say whose it is, or what only the pod's cgroup has, and nothing to its runtime.
const OF_THE_POD: [&str; 5] = [
    berth_oci::SANDBOX_CPU_SHARES,
    berth_oci::SANDBOX_NAME,
    berth_oci::SANDBOX_NAMESPACE,
    berth_oci::SANDBOX_UID,
    berth_oci::SANDBOX_LOG_DIRECTORY,
];
/// Those that say how large it is: only virtual machines read them.
const OF_ITS_SIZE: [&str; 3] = [
    berth_oci::SANDBOX_CPU_PERIOD,
    berth_oci::SANDBOX_CPU_QUOTA,
    berth_oci::SANDBOX_MEMORY,
];

/// Where the specs of a waiting sandbox and of one made for the pod differ in something that can't be changed any more.
///
/// What can be is left out: the process' arguments and capabilities, hostname, cgroup and its limits, and annotations that
/// only name the pod.
pub(super) fn difference(waiting: &Spec, wanted: &Spec, kind: RuntimeKind) -> Option<String> {
    let plain = |spec: &Spec| {
        let mut spec = serde_json::to_value(spec).unwrap_or_default();
        for path in [
            "/hostname",
            "/process/args",
            "/process/capabilities",
            "/linux/cgroupsPath",
            "/linux/resources",
        ] {
            if let Some(value) = spec.pointer_mut(path) {
                *value = Value::Null;
            }
        }
        if let Some(annotations) = spec.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.retain(|name, _| {
                let size = OF_ITS_SIZE.contains(&name.as_str()) && kind != RuntimeKind::Vm;
                !size && !OF_THE_POD.contains(&name.as_str())
            });
        }
        spec
    };
    first_difference(&plain(waiting), &plain(wanted), "")
}

fn first_difference(one: &Value, other: &Value, path: &str) -> Option<String> {
    match (one, other) {
        (Value::Object(a), Value::Object(b)) => {
            let none = Value::Null;
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            keys.into_iter().find_map(|key| {
                let (a, b) = (a.get(key).unwrap_or(&none), b.get(key).unwrap_or(&none));
                let below = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                first_difference(a, b, &below)
            })
        }
        (a, b) => (a != b).then(|| path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(value: Value) -> Spec {
        let mut base = serde_json::to_value(Spec::default()).unwrap();
        for (key, value) in value.as_object().unwrap() {
            base[key] = value.clone();
        }
        serde_json::from_value(base).unwrap()
    }

    #[test]
    fn what_can_be_changed_later_is_no_difference() {
        let waiting = spec(json!({
            "hostname": "a",
            "annotations": {berth_oci::SANDBOX_NAME: "a", berth_oci::SANDBOX_MEMORY: "1", "x": "y"},
        }));
        let wanted = spec(json!({
            "hostname": "b",
            "annotations": {berth_oci::SANDBOX_NAME: "b", berth_oci::SANDBOX_MEMORY: "2", "x": "y"},
        }));
        assert_eq!(difference(&waiting, &wanted, RuntimeKind::Runsc), None);
        let size = difference(&waiting, &wanted, RuntimeKind::Vm).unwrap();
        assert_eq!(size, format!("annotations.{}", berth_oci::SANDBOX_MEMORY));
    }

    #[test]
    fn a_machines_size_is_not_its_shares() {
        let spec =
            |shares: &str| spec(json!({"annotations": {berth_oci::SANDBOX_CPU_SHARES: shares}}));
        assert_eq!(difference(&spec("2"), &spec("512"), RuntimeKind::Vm), None);
    }

    #[test]
    fn anything_else_is() {
        let waiting = spec(json!({"annotations": {"x": "y"}}));
        for (wanted, path) in [
            (json!({"annotations": {"x": "z"}}), "annotations.x"),
            (
                json!({"annotations": {"x": "y", "new": ""}}),
                "annotations.new",
            ),
            (
                json!({"annotations": {"x": "y"}, "root": {"path": "other"}}),
                "root.path",
            ),
        ] {
            let found = difference(&waiting, &spec(wanted), RuntimeKind::Runsc);
            assert_eq!(found.as_deref(), Some(path));
        }
    }
}
