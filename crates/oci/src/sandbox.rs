//! The pod's side of the input: what all containers of a sandbox share.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// How a container gets one of its namespaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Namespace {
    /// The host's (CRI `NODE`).
    Host,
    /// A new one made by the runtime for this container (CRI `CONTAINER`).
    #[default]
    Private,
    /// An existing one, pinned at this path or `/proc/PID/ns/...` (CRI `POD` and `TARGET`).
    Path(PathBuf),
}

/// One line of a user namespace's id map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdMapping {
    /// First id inside the container.
    pub container_id: u32,
    /// First id on the host.
    pub host_id: u32,
    /// How many ids follow each other.
    pub length: u32,
}

/// The pod's user namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserNamespace {
    /// An existing user namespace to join; a new one is made when absent.
    pub path: Option<PathBuf>,
    /// The map of user ids.
    pub uids: Vec<IdMapping>,
    /// The map of group ids.
    pub gids: Vec<IdMapping>,
}

/// Who writes the cgroups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CgroupDriver {
    /// The runtime makes directories below the parent.
    #[default]
    Cgroupfs,
    /// The runtime asks systemd for scopes below the parent slice.
    Systemd,
}

/// The limits that a pod was announced with (CRI `LinuxPodSandboxConfig.resources`). They do not limit the sandbox
/// container; a runtime with a kernel of its own sizes its virtual machine by them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PodSize {
    /// CFS period in microseconds.
    pub cpu_period: i64,
    /// CFS quota in microseconds.
    pub cpu_quota: i64,
    /// Relative weight in the old scale.
    pub cpu_shares: i64,
    /// Bytes.
    pub memory_limit: i64,
}

/// What the containers of one pod share (CRI `PodSandboxConfig` with `LinuxPodSandboxConfig`).
#[derive(Debug, Clone, Default)]
pub struct Sandbox {
    /// The sandbox's id.
    pub id: String,
    /// The pod's name, namespace and uid, for annotations.
    pub name: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's uid.
    pub uid: String,
    /// The hostname; not set with the host's UTS namespace.
    pub hostname: String,
    /// Network namespace (`Host` for hostNetwork pods, else the pinned path).
    pub network: Namespace,
    /// IPC namespace.
    pub ipc: Namespace,
    /// UTS namespace (the host's for hostNetwork pods).
    pub uts: Namespace,
    /// User namespace, when the pod has one.
    pub user: Option<UserNamespace>,
    /// `cgroup_parent`: a path (cgroupfs) or a slice's name (systemd). Empty: the root of the hierarchy.
    pub cgroup_parent: String,
    /// Who writes the cgroups.
    pub cgroup_driver: CgroupDriver,
    /// Namespaced sysctls.
    pub sysctls: BTreeMap<String, String>,
    /// Host path of the pod's shared `/dev/shm`; without it every container gets its own of 64 MiB.
    pub shm: Option<PathBuf>,
    /// Directory of the pod's logs on the host, for an annotation of the sandbox container.
    pub log_directory: String,
    /// Name of the sandbox container's image, for an annotation.
    pub image: String,
    /// The pod's limits, for annotations of the sandbox container; absent where the client announced none.
    pub size: Option<PodSize>,
    /// Annotations passed on to the runtime (already filtered by the handler's `pod_annotations`).
    pub annotations: BTreeMap<String, String>,
}
