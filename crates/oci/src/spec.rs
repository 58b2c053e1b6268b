//! Puts a spec together from its parts.

mod annotations;
mod capabilities;
pub(crate) mod devices;
mod linux;
mod mounts;
mod process;
mod resources;

use std::collections::HashMap;
use std::path::PathBuf;

use oci_spec::runtime::{Process, Root, Spec};

use self::annotations::Role;
use crate::container::{Container, Propagation};
use crate::runtime::RuntimeKind;
use crate::sandbox::{Namespace, Sandbox};
use crate::{Host, cdi, quirks, seccomp};

/// The spec version written; understood by every runtime that we know.
const OCI_VERSION: &str = "1.0.2";

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

/// The spec of a pod's container.
///
/// # Errors
/// When the input asks for something that does not exist here or that `kind` can't do.
pub fn container_spec(
    host: &Host,
    kind: RuntimeKind,
    sandbox: &Sandbox,
    container: &Container,
) -> Result<Spec, SpecError> {
    build(host, kind, sandbox, container, Role::Container)
}

/// The spec of a pod's sandbox container (a pause process), for runtimes that need one and for shared PID namespaces.
///
/// # Errors
/// As [`container_spec`].
pub fn sandbox_spec(
    host: &Host,
    kind: RuntimeKind,
    sandbox: &Sandbox,
    pause: &Container,
) -> Result<Spec, SpecError> {
    build(host, kind, sandbox, pause, Role::Sandbox)
}

/// The annotations of a pod's sandbox container, for a shim that makes sandboxes without one.
#[must_use]
pub fn sandbox_annotations(sandbox: &Sandbox) -> HashMap<String, String> {
    annotations::annotations(sandbox, &Container::default(), Role::Sandbox)
}

/// The process of an exec: the container's own, with other arguments.
#[must_use]
pub fn exec_process(container: &Spec, args: &[String], terminal: bool) -> Process {
    let mut process = container.process().clone().unwrap_or_default();
    process.set_args(Some(args.to_vec()));
    process.set_terminal(Some(terminal));
    process.set_console_size(None);
    if terminal {
        let mut env = process.env().clone().unwrap_or_default();
        if !env.iter().any(|e| e.starts_with("TERM=")) {
            env.push("TERM=xterm".to_owned());
        }
        process.set_env(Some(env));
    }
    process
}

/// The size of an exec's terminal, in columns and rows.
pub fn set_console_size(process: &mut Process, width: u16, height: u16) {
    let size = oci_spec::runtime::BoxBuilder::default()
        .width(width)
        .height(height)
        .build();
    process.set_console_size(size.ok());
}

fn build(
    host: &Host,
    kind: RuntimeKind,
    sandbox: &Sandbox,
    container: &Container,
    role: Role,
) -> Result<Spec, SpecError> {
    let mut root = Root::default();
    root.set_path(if container.rootfs.as_os_str().is_empty() {
        PathBuf::from("rootfs")
    } else {
        container.rootfs.clone()
    });
    root.set_readonly(Some(container.readonly_rootfs));

    let mut spec = Spec::default();
    spec.set_version(OCI_VERSION.to_owned());
    spec.set_root(Some(root));
    spec.set_process(Some(process::process(host, container)?));
    spec.set_mounts(Some(mounts::mounts(sandbox, container)?));
    spec.set_hostname(
        (sandbox.uts != Namespace::Host && !sandbox.hostname.is_empty())
            .then(|| sandbox.hostname.clone()),
    );
    spec.set_domainname(None);
    spec.set_linux(Some(linux::linux(host, sandbox, container)?));
    spec.set_annotations(Some(annotations::annotations(sandbox, container, role)));
    cdi::apply(&mut spec, &container.cdi_devices)?;
    quirks::adapt(&mut spec, kind)?;
    Ok(spec)
}

/// The widest propagation among the binds decides on the root's.
fn root_propagation(container: &Container) -> Option<String> {
    let has = |p| container.mounts.iter().any(|m| m.propagation == p);
    if has(Propagation::Bidirectional) {
        Some("rshared".to_owned())
    } else if has(Propagation::HostToContainer) {
        Some("rslave".to_owned())
    } else {
        None
    }
}
