//! Puts a spec together from its parts.

mod annotations;
mod capabilities;
pub(crate) mod devices;
pub(crate) mod error;
mod linux;
mod mounts;
mod process;
mod resources;

use std::collections::HashMap;
use std::path::PathBuf;

use oci_spec::runtime::{Process, Root, Spec};

use self::annotations::Role;
use self::error::SpecError;
use crate::container::{Container, Propagation};
use crate::runtime::RuntimeKind;
use crate::sandbox::{Namespace, Sandbox};
use crate::{Host, cdi, quirks};

/// The spec version written; understood by every runtime that we know.
const OCI_VERSION: &str = "1.0.2";

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
