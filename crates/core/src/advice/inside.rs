//! What a pod asks of the host, under a handler whose pods have a kernel of their own.

use std::fmt;

use crate::isolation::Isolation;

/// Something that does not do there what it does under runc.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// A privileged container.
    Privileged,
    /// The host's process namespace.
    HostPid,
    /// The host's IPC namespace.
    HostIpc,
    /// The host's network.
    HostNetwork,
    /// A socket of the host's.
    Socket,
    /// A device of the host's.
    Device,
    /// An AppArmor profile.
    AppArmor,
}

impl Effect {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Privileged,
        Self::HostPid,
        Self::HostIpc,
        Self::HostNetwork,
        Self::Socket,
        Self::Device,
        Self::AppArmor,
    ];

    /// Whether the runtime refuses such a pod.
    #[must_use]
    pub fn is_refused(self, isolation: Isolation) -> bool {
        matches!((self, isolation), (Self::HostNetwork, Isolation::Vm))
    }

    /// What happens, in words that follow the field.
    fn words(self, isolation: Isolation) -> &'static str {
        let is_vm = isolation == Isolation::Vm;
        match (self, is_vm) {
            (Self::Privileged, false) => {
                "gives every right inside the sandbox's own kernel, and neither the node's devices nor rights on the node"
            }
            (Self::Privileged, true) => {
                "gives every right inside the guest, and neither the node's devices nor rights on the node"
            }
            (Self::HostPid, false) => "shows the sandbox's own processes, not the node's",
            (Self::HostPid, true) => "shows the guest's processes, not the node's",
            (Self::HostIpc, false) => "shares IPC inside the sandbox, not with the node",
            (Self::HostIpc, true) => "shares IPC inside the guest, not with the node",
            (Self::HostNetwork, false) => {
                "sends the pod's traffic through the node's network stack; the sandbox's own, which keeps it apart, is not used"
            }
            (Self::HostNetwork, true) => {
                "is refused by the runtime: a guest has a network of its own"
            }
            (Self::Socket, false) => {
                "is a socket of the node, to which nobody inside the sandbox can connect"
            }
            (Self::Socket, true) => {
                "is a socket of the node, to which nobody inside the guest can connect"
            }
            (Self::Device, false) => "is a device of the node, which the sandbox does not pass on",
            (Self::Device, true) => "is a device of the node, which the guest does not get",
            (Self::AppArmor, false) => "confines nothing that runs inside the sandbox",
            (Self::AppArmor, true) => "confines nothing that runs inside the guest",
        }
    }

    pub(super) fn write(
        self,
        f: &mut fmt::Formatter<'_>,
        field: &str,
        handler: &str,
        isolation: Isolation,
    ) -> fmt::Result {
        let kind = match isolation {
            Isolation::Vm => "virtual machines",
            Isolation::Sandbox | Isolation::Process => "sandboxes",
        };
        write!(
            f,
            "{field} {} (handler {handler:?} runs {kind})",
            self.words(isolation)
        )
    }
}
