//! What a gVisor pod needs beside the others: its kernel is not the host's, so that what others set
//! in the pod's namespaces has to be set, shown or limited in another way.

mod limits;
mod sysctls;

use std::path::{Path, PathBuf};

use berth_oci::runtime::{GvisorNetwork, RuntimeCommand};
use nix::mount::{MsFlags, mount};

use crate::error::CriError;

pub(super) use limits::apply as apply_limits;
pub(crate) use limits::{limit, memory_used, try_limit};
pub(super) use sysctls::outside as sysctls_outside;
pub(crate) use sysctls::{inside as sysctls_inside, set as set_sysctls};

/// Where the network files of the pod's namespace are, in the pod's directory.
pub(crate) fn proc_net(pod: &Path) -> PathBuf {
    pod.join("proc-net")
}

/// An empty file in the pod's directory, to lay over masked files.
pub(crate) fn empty(pod: &Path) -> PathBuf {
    pod.join("empty")
}

/// Makes the files that containers of a gVisor pod mount.
pub(super) fn prepare(pod: &Path) -> Result<(), CriError> {
    let path = empty(pod);
    std::fs::write(&path, "").map_err(CriError::io("write", &path))
}

/// With the host's network stack gVisor lists only sockets of its own. Its containers get the
/// `/proc/net` of the sandbox's process, which is in the pod's network namespace as long as it lasts.
pub(super) fn show_network(pod: &Path, command: &RuntimeCommand, pid: u32) -> Result<(), CriError> {
    if command.network != GvisorNetwork::Host {
        return Ok(());
    }
    let path = proc_net(pod);
    std::fs::create_dir_all(&path).map_err(CriError::io("make", &path))?;
    let source = format!("/proc/{pid}/net");
    mount(
        Some(source.as_str()),
        &path,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .map_err(|errno| CriError::io("mount the network's files on", &path)(errno.into()))
}
