//! Network, processes and IPC of the host may not be shared.

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Violation, text};

pub(super) fn check(_: &ObjectMeta, spec: &PodSpec) -> Option<Violation> {
    let shared: Vec<&str> = [
        ("hostNetwork=true", spec.host_network),
        ("hostPID=true", spec.host_pid),
        ("hostIPC=true", spec.host_ipc),
    ]
    .into_iter()
    .filter(|(_, set)| *set == Some(true))
    .map(|(name, _)| name)
    .collect();
    (!shared.is_empty()).then(|| Violation {
        reason: "host namespaces",
        detail: text::plain(shared),
    })
}
