//! From a CRI container to an OCI runtime spec, and what each runtime's command line needs.
//!
//! The input structs ([`Sandbox`], [`Container`] and what hangs below them) mirror the fields of the
//! CRI's `PodSandboxConfig` and `ContainerConfig` without depending on the CRI's wire types, so that
//! everything here is a function of plain data plus the [`Host`] facts detected once at start.
//!
//! * [`container_spec`] and [`sandbox_spec`] build a whole [`Spec`];
//! * [`exec_process`] derives the process of an exec from a container's spec;
//! * [`runtime`] describes the runtimes driven by their command line (runc, crun, youki, runsc) and
//!   probes what a binary is and can do;
//! * [`cgroup`] tells which cgroup hierarchy the host has;
//! * [`seccomp`] holds the default profile and loads local ones;
//! * [`apparmor`] holds the default profile of AppArmor.

pub mod apparmor;
pub mod cdi;
pub mod cgroup;
pub mod container;
mod host;
mod mountinfo;
mod quirks;
pub mod runtime;
pub mod sandbox;
pub mod seccomp;
mod spec;

pub use container::{
    Container, Device, HugepageLimit, Mount, Process, Profile, Propagation, Resources, Rlimit,
    SeccompProfile, Security, SelinuxOptions, User,
};
pub use host::Host;
pub use oci_spec::runtime::{
    Capability, LinuxCapabilities, LinuxCpu, LinuxMemory, LinuxResources,
    Process as RuntimeProcess, Spec,
};
pub use quirks::gvisor;
pub use sandbox::{CgroupDriver, IdMapping, Namespace, PodSize, Sandbox, UserNamespace};
pub use spec::error::SpecError;
pub use spec::{container_spec, exec_process, sandbox_annotations, sandbox_spec, set_console_size};

/// Annotation that tells a runtime whether a container is its pod's sandbox (`sandbox`) or a later one (`container`).
pub const CONTAINER_TYPE: &str = "io.kubernetes.cri.container-type";
/// Annotation with the id of the pod sandbox that a container belongs to; also groups containers into one shim.
pub const SANDBOX_ID: &str = "io.kubernetes.cri.sandbox-id";
/// The pod's name.
pub const SANDBOX_NAME: &str = "io.kubernetes.cri.sandbox-name";
/// Its namespace.
pub const SANDBOX_NAMESPACE: &str = "io.kubernetes.cri.sandbox-namespace";
/// Its uid.
pub const SANDBOX_UID: &str = "io.kubernetes.cri.sandbox-uid";
/// Annotation with the container's name, as containerd sets it.
pub const CONTAINER_NAME: &str = "io.kubernetes.cri.container-name";
/// Annotation with the image's name, as containerd sets it.
pub const IMAGE_NAME: &str = "io.kubernetes.cri.image-name";
/// Where the pod's logs go, on its sandbox container.
pub const SANDBOX_LOG_DIRECTORY: &str = "io.kubernetes.cri.sandbox-log-directory";
/// The image of the sandbox container.
pub const SANDBOX_IMAGE_NAME: &str = "io.kubernetes.cri.podsandbox.image-name";
/// The pod's CFS period in microseconds; with the three below it is what a virtual machine is sized by.
pub const SANDBOX_CPU_PERIOD: &str = "io.kubernetes.cri.sandbox-cpu-period";
/// The pod's CFS quota in microseconds.
pub const SANDBOX_CPU_QUOTA: &str = "io.kubernetes.cri.sandbox-cpu-quota";
/// The pod's CPU shares.
pub const SANDBOX_CPU_SHARES: &str = "io.kubernetes.cri.sandbox-cpu-shares";
/// The pod's memory limit in bytes.
pub const SANDBOX_MEMORY: &str = "io.kubernetes.cri.sandbox-memory";
