//! Why a spec can't be put together.

use std::path::PathBuf;

use crate::seccomp;

/// Why a container can't be described to a runtime.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// Neither the image nor the config says what to run.
    #[error("no command specified: neither the container's config nor its image names one")]
    NoCommand,
    /// A capability that Linux does not have.
    #[error("unknown capability {0:?}")]
    UnknownCapability(String),
    /// A resource limit that Linux does not have.
    #[error("unknown resource limit {0:?}")]
    UnknownRlimit(String),
    /// The device isn't there or can't be looked at.
    #[error("device {path:?} can't be used")]
    Device {
        /// Path on the host.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// Neither a device nor a directory.
    #[error("{0:?} is not a device node")]
    NotADevice(PathBuf),
    /// A CDI file says another type of device than the host has.
    #[error("{path:?} is a device of type {found}, and its CDI file says {wanted}")]
    CdiDeviceType {
        /// The host's node.
        path: PathBuf,
        /// The file's type, by its letter.
        wanted: String,
        /// The node's, by its letter.
        found: String,
    },
    /// Propagation needs a shared parent mount.
    #[error("path {path:?} is mounted on {mount:?} but it is not a {wanted} mount")]
    Propagation {
        /// The source.
        path: PathBuf,
        /// The mount it lies on.
        mount: PathBuf,
        /// `shared` or `shared or slave`.
        wanted: &'static str,
    },
    /// rro together with writable or propagating.
    #[error("recursive read-only mount of {0:?} must also be readonly, with private propagation")]
    RecursiveReadOnly(PathBuf),
    /// gVisor's mounts stay inside.
    #[error("gVisor can't propagate mounts from the container to the host ({0:?})")]
    BidirectionalUnsupported(PathBuf),
    /// Not an option that a bind mount may have.
    #[error("mount option {option:?} of {path:?} is not allowed")]
    MountOption {
        /// The option.
        option: String,
        /// Where the mount appears.
        path: PathBuf,
    },
    /// No such CDI device.
    #[error("CDI device {device:?} is not known on this node{}{broken}", if broken.is_empty() { "" } else { "; files that can't be read: " })]
    UnknownCdiDevice {
        /// Its qualified name.
        device: String,
        /// Files that could not be read, and why.
        broken: String,
    },
    /// Two files of one directory describe the device.
    #[error("CDI device {device:?} is described twice, in {first:?} and {second:?}")]
    AmbiguousCdiDevice {
        /// Its qualified name.
        device: String,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// A hook of no kind that OCI has.
    #[error("CDI hook {0:?} is of no known kind")]
    UnknownCdiHook(String),
    /// The runtime can't do user namespaces.
    #[error("the runtime does not support user namespaces")]
    UserNamespaces,
    /// A path that must be absolute is not.
    #[error("{what} {path:?} must be an absolute path")]
    NotAbsolute {
        /// What the path is.
        what: &'static str,
        /// The path.
        path: PathBuf,
    },
    /// AppArmor asked for by name where the kernel has none.
    #[error("AppArmor profile {0:?} asked for, but AppArmor is not enabled on this node")]
    NoAppArmor(String),
    /// The seccomp profile is unusable.
    #[error(transparent)]
    Seccomp(#[from] seccomp::SeccompError),
    /// oci-spec refused a combination.
    #[error("the spec is inconsistent")]
    Oci(#[from] oci_spec::OciSpecError),
}
