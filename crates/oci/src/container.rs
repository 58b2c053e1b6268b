//! The container's side of the input: what one CRI `ContainerConfig` asks for, resolved against its image.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::sandbox::Namespace;

/// The user a process runs as, already resolved to numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups.
    pub additional_gids: Vec<u32>,
}

/// A resource limit of the process (`RLIMIT_NOFILE`, ...).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rlimit {
    /// The name in capitals, with the `RLIMIT_` prefix.
    pub name: String,
    /// The soft limit.
    pub soft: u64,
    /// The hard limit; lowered to the host's when that is less.
    pub hard: u64,
}

/// What runs in the container.
#[derive(Debug, Clone, Default)]
pub struct Process {
    /// Program and arguments: image and CRI config already merged. Must not be empty.
    pub args: Vec<String>,
    /// `NAME=value` lines: image and CRI config already merged, later ones win.
    pub env: Vec<String>,
    /// Working directory; empty means `/`.
    pub cwd: String,
    /// Whether the process gets a terminal.
    pub terminal: bool,
    /// The user.
    pub user: User,
    /// Resource limits; none means that the supervisor's are inherited.
    pub rlimits: Vec<Rlimit>,
}

/// Mount propagation, by the CRI's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Propagation {
    /// No mount events in either direction (`rprivate`).
    #[default]
    Private,
    /// Mounts made on the host appear in the container (`rslave`).
    HostToContainer,
    /// Mounts appear on both sides (`rshared`); the source must be on a shared mount.
    Bidirectional,
}

/// What else a bind mount may be: flags that narrow what can be done with it, and their opposites.
pub const MOUNT_OPTIONS: [&str; 14] = [
    "noexec",
    "exec",
    "nodev",
    "dev",
    "nosuid",
    "suid",
    "noatime",
    "atime",
    "relatime",
    "strictatime",
    "nodiratime",
    "diratime",
    "nosymfollow",
    "symfollow",
];

/// A bind mount from the host, or an image mounted on the host.
#[derive(Debug, Clone, Default)]
pub struct Mount {
    /// Where it appears in the container, absolute.
    pub container_path: PathBuf,
    /// The source on the host; must exist.
    pub host_path: PathBuf,
    /// Read-only.
    pub readonly: bool,
    /// Read-only all the way down (`rro`); needs `readonly` and private propagation.
    pub recursive_read_only: bool,
    /// Propagation.
    pub propagation: Propagation,
    /// Further options, of those in [`MOUNT_OPTIONS`].
    pub options: Vec<String>,
}

/// A device (or a directory of devices) of the host.
#[derive(Debug, Clone, Default)]
pub struct Device {
    /// Where it appears in the container.
    pub container_path: PathBuf,
    /// The device node or a directory of them on the host.
    pub host_path: PathBuf,
    /// Any of `r`, `w`, `m`; empty means all.
    pub permissions: String,
}

/// The limit of one size of huge pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HugepageLimit {
    /// Such as `2MB`.
    pub page_size: String,
    /// In bytes.
    pub limit: u64,
}

/// CRI `LinuxContainerResources`; zero and empty mean not set.
#[derive(Debug, Clone, Default)]
pub struct Resources {
    /// CFS period in microseconds.
    pub cpu_period: i64,
    /// CFS quota in microseconds; negative for none.
    pub cpu_quota: i64,
    /// Relative weight in the old scale (2 to 262144).
    pub cpu_shares: i64,
    /// Memory limit in bytes.
    pub memory_limit: i64,
    /// Memory plus swap in bytes.
    pub memory_swap_limit: i64,
    /// OOM score adjustment, -1000 to 1000; raised to what the kernel lets us set.
    pub oom_score_adj: i64,
    /// CPUs as a list (`0-3,5`).
    pub cpuset_cpus: String,
    /// Memory nodes as a list.
    pub cpuset_mems: String,
    /// Number of processes; zero for no limit of the container's own.
    pub pids_limit: i64,
    /// Limits of huge pages; dropped when the controller is missing.
    pub hugepage_limits: Vec<HugepageLimit>,
    /// cgroup v2 keys; dropped on v1.
    pub unified: BTreeMap<String, String>,
}

/// A seccomp profile (CRI `SecurityProfile`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SeccompProfile {
    /// berth's own default profile ([`crate::seccomp::default_profile`]).
    RuntimeDefault,
    /// No filter.
    #[default]
    Unconfined,
    /// A JSON file on the host, in the OCI form or in Docker's.
    Localhost(PathBuf),
}

/// An AppArmor profile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Profile {
    /// berth's own ([`crate::apparmor::DEFAULT_PROFILE`]), which the caller has loaded.
    RuntimeDefault,
    /// No profile.
    #[default]
    Unconfined,
    /// A profile loaded on the host, by name.
    Localhost(String),
}

/// SELinux label parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SelinuxOptions {
    /// User.
    pub user: String,
    /// Role.
    pub role: String,
    /// Type.
    pub kind: String,
    /// Level.
    pub level: String,
}

/// CRI `LinuxContainerSecurityContext`, without the user.
#[derive(Debug, Clone, Default)]
pub struct Security {
    /// All capabilities, all devices, nothing masked, writable /sys.
    pub privileged: bool,
    /// The handler's `privileged_without_host_devices`.
    pub privileged_without_host_devices: bool,
    /// The handler's `privileged_without_host_devices_all_devices_allowed`: none of the host's nodes, but any may be
    /// made and opened.
    pub all_devices_allowed: bool,
    /// Capabilities added to the default set, with or without `CAP_`; `ALL` for every one.
    pub add_capabilities: Vec<String>,
    /// Capabilities taken away; `ALL` for every one.
    pub drop_capabilities: Vec<String>,
    /// Capabilities that are also ambient (and so inheritable).
    pub ambient_capabilities: Vec<String>,
    /// `no_new_privs`.
    pub no_new_privs: bool,
    /// Seccomp.
    pub seccomp: SeccompProfile,
    /// AppArmor.
    pub apparmor: Profile,
    /// SELinux; ignored where the kernel has none.
    pub selinux: Option<SelinuxOptions>,
    /// Paths hidden in the container; `None` for the usual ones.
    pub masked_paths: Option<Vec<String>>,
    /// Paths read-only in the container; `None` for the usual ones.
    pub readonly_paths: Option<Vec<String>>,
}

/// One container.
#[derive(Debug, Clone, Default)]
pub struct Container {
    /// The container's id.
    pub id: String,
    /// Name within the pod, for annotations.
    pub name: String,
    /// Image reference, for annotations.
    pub image: String,
    /// The root filesystem: absolute, or relative to the bundle. Empty means `rootfs`.
    pub rootfs: PathBuf,
    /// Read-only root filesystem.
    pub readonly_rootfs: bool,
    /// What runs.
    pub process: Process,
    /// PID namespace: own, the host's, or another process's (`/proc/PID/ns/pid`).
    pub pid: Namespace,
    /// Binds (the pod's resolv.conf, hosts, hostname among them).
    pub mounts: Vec<Mount>,
    /// Devices.
    pub devices: Vec<Device>,
    /// Fully qualified CDI device names (`vendor/class=name`).
    pub cdi_devices: Vec<String>,
    /// Limits.
    pub resources: Resources,
    /// Security.
    pub security: Security,
    /// Annotations passed on to the runtime (already filtered by the handler's `container_annotations`).
    pub annotations: BTreeMap<String, String>,
}
