//! A handler as some configuration describes it, before anyone looked whether it can run.

use std::path::{Path, PathBuf};

use super::annotations::AnnotationMatch;
use super::document::Origin;

/// One row of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// The handler's name, as RuntimeClasses give it.
    pub name: String,
    /// What runs the pods.
    pub runtime: RuntimeDef,
    /// Privileged containers don't get the host's devices.
    pub privileged_without_host_devices: bool,
    /// They may make and open any device nevertheless; only together with the setting above.
    pub all_devices_allowed: bool,
    /// How the two lists of annotations are to be read.
    pub annotation_match: AnnotationMatch,
    /// Pod annotations that reach the OCI annotations.
    pub pod_annotations: Vec<String>,
    /// Container annotations that reach the OCI annotations.
    pub container_annotations: Vec<String>,
    /// An OCI spec in JSON to start from instead of berth's default.
    pub base_runtime_spec: Option<PathBuf>,
    /// A directory of CNI configurations of its own.
    pub cni_conf_dir: Option<PathBuf>,
    /// Containers with a memory limit below it, in bytes, are refused.
    pub container_min_memory: Option<i64>,
    /// Where the shim makes a directory for each sandbox, by the sandbox's id, which goes with the sandbox.
    pub sandbox_dirs: Vec<PathBuf>,
    /// Who makes the sandbox.
    pub sandboxer: Sandboxer,
    /// How many sandboxes are to wait for pods, booted; at most [`WARM_MAX`].
    pub warm: usize,
    /// Settings that can't be read, with the reason. A handler with any cannot run pods: what it leaves out may be what
    /// keeps them apart from the host.
    pub unreadable: Vec<String>,
    /// Where it was defined.
    pub origin: Origin,
}

/// The most sandboxes of a handler that wait for pods: each has memory, processes and an address.
pub const WARM_MAX: usize = 32;

/// What the configurations call the setting of [`Definition::all_devices_allowed`].
pub(super) const ALL_DEVICES: &str = "privileged_without_host_devices_all_devices_allowed";

impl Definition {
    /// Whether it is the same handler, wherever it stands.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let moved = Self {
            origin: self.origin.clone(),
            ..other.clone()
        };
        *self == moved
    }

    /// Takes the two settings about privileged containers and devices; what isn't given stays as it is by default.
    pub(super) fn set_devices(&mut self, without_host: Option<bool>, all_allowed: Option<bool>) {
        if let Some(without_host) = without_host {
            self.privileged_without_host_devices = without_host;
        }
        self.all_devices_allowed = all_allowed.unwrap_or(false);
        if self.all_devices_allowed && !self.privileged_without_host_devices {
            self.unreadable.push(format!(
                "{ALL_DEVICES} requires privileged_without_host_devices to be enabled"
            ));
        }
    }

    /// A handler with no options.
    #[must_use]
    pub fn new(name: impl Into<String>, runtime: RuntimeDef, origin: Origin) -> Self {
        Self {
            name: name.into(),
            // Devices of the host mean nothing to another kernel; most can't even be passed to it.
            privileged_without_host_devices: runtime.is_vm(),
            all_devices_allowed: false,
            annotation_match: AnnotationMatch::default(),
            pod_annotations: Vec::new(),
            container_annotations: Vec::new(),
            base_runtime_spec: None,
            cni_conf_dir: None,
            container_min_memory: None,
            sandboxer: Sandboxer::PodSandbox,
            sandbox_dirs: Vec::new(),
            warm: 0,
            unreadable: Vec::new(),
            runtime,
            origin,
        }
    }
}

/// Who makes a pod's sandbox, in containerd's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sandboxer {
    /// `podsandbox`: a sandbox container where the runtime needs one.
    PodSandbox,
    /// `shim`: the shim, by containerd's sandbox service.
    Shim,
}

impl Sandboxer {
    /// By containerd's name; an empty one is the default.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "" | "podsandbox" => Some(Self::PodSandbox),
            "shim" => Some(Self::Shim),
            _ => None,
        }
    }
}

/// The kinds of runtimes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeDef {
    /// A runtime with runc's command line, driven by berth's own shim.
    Oci {
        /// A path, or a name to look up in PATH.
        binary: PathBuf,
        /// The runtime's `--root`; berth chooses one below its state directory when absent.
        root: Option<PathBuf>,
        /// Cgroup paths are systemd's `slice:prefix:name`.
        systemd_cgroup: bool,
        /// A configuration of the runtime's own (gVisor's runsc.toml).
        config: Option<PathBuf>,
        /// Global options put before the subcommand.
        args: Vec<String>,
    },
    /// The runtime inside berth, driven like any with runc's command line.
    Embedded {
        /// Its `--root`; berth chooses one below its state directory when absent.
        root: Option<PathBuf>,
        /// Cgroup paths are systemd's `slice:prefix:name`.
        systemd_cgroup: bool,
        /// Global options put before the subcommand.
        args: Vec<String>,
    },
    /// Any containerd shim v2.
    Shim {
        /// A path, or a name to look up in PATH.
        binary: PathBuf,
        /// The configuration file passed in the Create options.
        config: Option<PathBuf>,
        /// And what type of content it is said to have.
        config_type: Option<String>,
        /// The OCI runtime that a runc-like shim should call.
        runtime_binary: Option<PathBuf>,
        /// For a runc-like shim: systemd's cgroups.
        systemd_cgroup: bool,
        /// Pods are virtual machines: reach their ports by the pod's IP.
        vm: bool,
    },
}

impl RuntimeDef {
    /// Whether its pods are virtual machines.
    #[must_use]
    pub fn is_vm(&self) -> bool {
        matches!(self, Self::Shim { vm: true, .. })
    }

    /// Whether systemd makes its pods' cgroups.
    #[must_use]
    pub fn systemd_cgroup(&self) -> bool {
        match self {
            Self::Oci { systemd_cgroup, .. }
            | Self::Embedded { systemd_cgroup, .. }
            | Self::Shim { systemd_cgroup, .. } => *systemd_cgroup,
        }
    }
}

/// Whether a shim is known to run virtual machines: Kata's, whose binaries have its name in theirs
/// (`containerd-shim-kata-v2`, `containerd-shim-kata-qemu-v2`).
#[must_use]
pub(super) fn is_kata(binary: &Path) -> bool {
    let name = binary.file_name().unwrap_or_default().to_string_lossy();
    name.strip_prefix("containerd-shim-")
        .is_some_and(|rest| rest.split('-').any(|word| word == "kata"))
}

/// The binary of containerd's `runtime_type`: `io.containerd.NAME.VERSION` becomes
/// `containerd-shim-NAME-VERSION`.
#[must_use]
pub(super) fn shim_binary(runtime_type: &str) -> Option<String> {
    let mut parts = runtime_type.rsplit('.');
    let version = parts.next()?;
    let name = parts.next()?;
    parts.next()?;
    if name.is_empty() || version.is_empty() {
        return None;
    }
    Some(format!("containerd-shim-{name}-{version}"))
}
