//! The OCI runtime inside berth: `berth oci`, so that a machine without any runtime still runs pods.
//!
//! Its command line is runc's, and berth drives it as it drives runc: by executing a binary, here its own.
//! youki's libcontainer makes namespaces, mounts and cgroups; this crate wraps it where runc's users
//! would miss something:
//!
//! - a process' identity, capabilities and seccomp filter are set by [`launch`], in runc's order, and
//!   execs get the container's filter (libcontainer leaves execs unfiltered);
//! - `start` returns when the program runs, with the error when it can't ([`report`]);
//! - a container's process is known by its start time too, so that a reused pid is not mistaken for it
//!   ([`record`]);
//! - cgroups are emptied and removed with all below them ([`cgroup`]);
//! - devices are restricted on version 2 of cgroups too ([`devices`]);
//! - the binary that enters a container can't be written to from inside ([`seal`]).
//!
//! There are no threads and no tokio here: libcontainer forks.

mod bundle;
mod cgroup;
mod cli;
mod devices;
mod error;
mod launch;
mod log;
mod record;
mod report;
mod seal;
mod seccomp;
mod verb;
mod words;

use std::ffi::OsString;
use std::process::ExitCode;

/// The runtime's name: in `--version`, as a handler, and as a kind.
pub const NAME: &str = "berth";

/// The subcommand of berth's binary that is the runtime.
pub const SUBCOMMAND: &str = "oci";

/// A seccomp profile as the kernel's program: `struct sock_filter`s one after the other.
///
/// # Errors
/// When the profile wants a listener, or libseccomp declines it.
pub fn seccomp_program(
    profile: &oci_spec::runtime::LinuxSeccomp,
) -> Result<Vec<u8>, impl std::error::Error + Send + Sync + use<>> {
    seccomp::Filter::compile(profile).map(seccomp::Filter::into_program)
}

/// Changes the limits of the cgroup of a container that another runtime made and can't change. `path` is the spec's
/// `linux.cgroupsPath`, `systemd` whether it is one of systemd's (`SLICE:PREFIX:NAME`). What `resources` leaves out
/// stays.
///
/// # Errors
/// When the kernel or systemd refuses, in words that name the container `id`.
pub fn limit(
    id: &str,
    path: &std::path::Path,
    systemd: bool,
    resources: &oci_spec::runtime::LinuxResources,
) -> Result<(), impl std::error::Error + Send + Sync + use<>> {
    cgroup::limit_path(id, path, systemd, resources)
}

/// Moves all processes of a container that another runtime made from its cgroup to another one, in each hierarchy that has
/// the first one. The other one is made where it is missing, and gets `limits` before they come. Both are paths as in the
/// OCI spec, of no systemd unit. Memory stays charged to where it was used.
///
/// # Errors
/// When the kernel refuses a process or a limit, in words that name the container `id`.
pub fn relocate(
    id: &str,
    from: &std::path::Path,
    to: &std::path::Path,
    limits: Option<&oci_spec::runtime::LinuxResources>,
) -> Result<(), impl std::error::Error + Send + Sync + use<>> {
    cgroup::relocate(id, from, to, limits)
}

/// Removes a container's cgroup in each hierarchy, with all below it, and kills what is left in it. One that isn't there is
/// fine.
///
/// # Errors
/// When it can't be removed, in words that name the container `id`.
pub fn remove_cgroup(
    id: &str,
    path: &std::path::Path,
) -> Result<(), impl std::error::Error + Send + Sync + use<>> {
    cgroup::remove_path(id, path)
}

/// Runs `berth oci ARGS`. Call it first thing in `main`, before any thread or tokio runtime exists: it forks.
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    cli::main(args)
}
