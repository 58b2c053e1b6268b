//! A handler as some configuration describes it, before anyone looked whether it can run.

use std::path::PathBuf;

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
    /// Pod annotations (names, a trailing `*` matches any rest) that reach the OCI annotations.
    pub pod_annotations: Vec<String>,
    /// Container annotations that reach the OCI annotations.
    pub container_annotations: Vec<String>,
    /// An OCI spec in JSON to start from instead of berth's default.
    pub base_runtime_spec: Option<PathBuf>,
    /// A directory of CNI configurations of its own.
    pub cni_conf_dir: Option<PathBuf>,
    /// Containers with a memory limit below it, in bytes, are refused.
    pub container_min_memory: Option<i64>,
    /// Settings that can't be read, with the reason. A handler with any cannot run pods: what it leaves out may be what
    /// keeps them apart from the host.
    pub unreadable: Vec<String>,
    /// Where it was defined.
    pub origin: Origin,
}

impl Definition {
    /// A handler with no options.
    #[must_use]
    pub fn new(name: impl Into<String>, runtime: RuntimeDef, origin: Origin) -> Self {
        Self {
            name: name.into(),
            runtime,
            privileged_without_host_devices: false,
            pod_annotations: Vec::new(),
            container_annotations: Vec::new(),
            base_runtime_spec: None,
            cni_conf_dir: None,
            container_min_memory: None,
            unreadable: Vec::new(),
            origin,
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
        /// The OCI runtime that a runc-like shim should call.
        runtime_binary: Option<PathBuf>,
        /// For a runc-like shim: systemd's cgroups.
        systemd_cgroup: bool,
        /// Pods are virtual machines: reach their ports by the pod's IP.
        vm: bool,
    },
}

impl RuntimeDef {
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
