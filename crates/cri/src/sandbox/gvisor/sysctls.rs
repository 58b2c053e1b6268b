//! Sysctls of gVisor pods: those of the network count in the pod's namespace when gVisor uses the
//! host's network stack; all others only inside, where gVisor has some of them.

use std::collections::BTreeMap;
use std::time::Duration;

use berth_oci::runtime::{GvisorNetwork, RuntimeCommand};
use berth_oci::{Spec, exec_process};
use berth_shim::client::Shim;

use crate::error::CriError;

/// gVisor starts a process in tens of milliseconds.
const LIMIT: Duration = Duration::from_secs(20);

fn counts_outside(command: &RuntimeCommand, name: &str) -> bool {
    command.network == GvisorNetwork::Host && name.starts_with("net.")
}

/// Those to be set in the pod's namespaces.
pub(in crate::sandbox) fn outside(
    command: &RuntimeCommand,
    all: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    all.into_iter()
        .filter(|(name, _)| counts_outside(command, name))
        .collect()
}

/// Those to be set by gVisor.
pub(crate) fn inside(
    command: &RuntimeCommand,
    all: BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    all.into_iter()
        .filter(|(name, _)| !counts_outside(command, name))
        .collect()
}

/// Sets them with the sandbox container's program.
pub(crate) async fn set(
    shim: &Shim,
    id: &str,
    spec: &Spec,
    sysctls: &BTreeMap<String, String>,
) -> Result<(), CriError> {
    for (name, value) in sysctls {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        let command = ["/pause".to_owned(), path, value.clone()];
        let process = exec_process(spec, &command, false);
        let output = shim
            .exec_sync(id, &process, LIMIT)
            .await
            .map_err(CriError::shim("set sysctls in pod sandbox", id))?;
        if output.code != 0 {
            return Err(refusal(name, value, output.code));
        }
    }
    Ok(())
}

/// The program's exit code is the errno.
fn refusal(name: &str, value: &str, code: u32) -> CriError {
    let errno = i32::try_from(code).unwrap_or(0);
    if errno == libc::ENOENT {
        CriError::Unsupported(format!("sysctl {name:?}: gVisor does not have it"))
    } else {
        CriError::Invalid(format!(
            "sysctl {name:?}: gVisor refuses {value:?}: {}",
            std::io::Error::from_raw_os_error(errno)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_oci::runtime::RuntimeKind;

    #[test]
    fn only_the_hosts_network_stack_takes_them_outside() {
        let all: BTreeMap<String, String> = [("net.ipv4.ip_forward", "1"), ("kernel.msgmax", "9")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let mut command = RuntimeCommand::new(RuntimeKind::Runsc, "runsc", "/r");
        assert!(outside(&command, all.clone()).is_empty());
        assert_eq!(inside(&command, all.clone()), all);
        command.network = GvisorNetwork::Host;
        assert_eq!(
            outside(&command, all.clone())
                .into_keys()
                .collect::<Vec<_>>(),
            ["net.ipv4.ip_forward"]
        );
        assert_eq!(
            inside(&command, all).into_keys().collect::<Vec<_>>(),
            ["kernel.msgmax"]
        );
    }
}
