//! What a pod's spec lists.

use k8s_openapi::api::core::v1::{Container, Pod};

/// Init and app containers of a pod.
pub(crate) fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.spec
        .iter()
        .flat_map(|s| s.init_containers.iter().flatten().chain(&s.containers))
}
