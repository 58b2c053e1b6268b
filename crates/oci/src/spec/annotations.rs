//! The annotations that shims and runtimes read, as containerd's CRI plugin sets them.
//!
//! They decide what a container is to its runtime: `container-type` and `sandbox-id` which virtual machine it joins,
//! `sandbox-cpu-*` and `sandbox-memory` how large that machine is. So none of them, nor those that CRI-O and dockershim
//! used for the same, ever comes from the annotations of a pod or a container, whatever a handler lets through.

use std::collections::HashMap;

use crate::container::Container;
use crate::sandbox::Sandbox;
use crate::{
    CONTAINER_NAME, CONTAINER_TYPE, IMAGE_NAME, SANDBOX_CPU_PERIOD, SANDBOX_CPU_QUOTA,
    SANDBOX_CPU_SHARES, SANDBOX_ID, SANDBOX_IMAGE_NAME, SANDBOX_LOG_DIRECTORY, SANDBOX_MEMORY,
    SANDBOX_NAME, SANDBOX_NAMESPACE, SANDBOX_UID,
};

/// What a container is in its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The pod's first container, which stands for the pod.
    Sandbox,
    /// One of those that the pod asks for.
    Container,
}

/// The CRI plugin's own names.
const RESERVED_PREFIX: &str = "io.kubernetes.cri.";
/// Kata reads CRI-O's and dockershim's names too, and CRI-O's before all others.
const RESERVED: [&str; 8] = [
    "io.kubernetes.cri-o.ContainerType",
    "io.kubernetes.cri-o.ContainerName",
    "io.kubernetes.cri-o.SandboxID",
    "io.kubernetes.cri-o.SandboxName",
    "io.kubernetes.cri-o.KubeName",
    "io.kubernetes.cri-o.Namespace",
    "io.kubernetes.docker.type",
    "io.kubernetes.sandbox.id",
];

fn is_reserved(name: &str) -> bool {
    name.starts_with(RESERVED_PREFIX) || RESERVED.contains(&name)
}

pub(super) fn annotations(
    sandbox: &Sandbox,
    container: &Container,
    role: Role,
) -> HashMap<String, String> {
    let given = sandbox.annotations.iter().chain(&container.annotations);
    let mut out: HashMap<String, String> = given
        .filter(|(name, _)| !is_reserved(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut set = |name: &str, value: &str| out.insert(name.to_owned(), value.to_owned());
    // These are set even where they are empty.
    set(SANDBOX_ID, &sandbox.id);
    set(SANDBOX_NAME, &sandbox.name);
    set(SANDBOX_NAMESPACE, &sandbox.namespace);
    set(SANDBOX_UID, &sandbox.uid);
    match role {
        Role::Sandbox => {
            set(CONTAINER_TYPE, "sandbox");
            set(SANDBOX_LOG_DIRECTORY, &sandbox.log_directory);
            set(SANDBOX_IMAGE_NAME, &sandbox.image);
            // A client that announces limits gets all four, the ones that are not set as zero.
            if let Some(size) = sandbox.size {
                set(SANDBOX_CPU_PERIOD, &size.cpu_period.to_string());
                set(SANDBOX_CPU_QUOTA, &size.cpu_quota.to_string());
                set(SANDBOX_CPU_SHARES, &size.cpu_shares.to_string());
                set(SANDBOX_MEMORY, &size.memory_limit.to_string());
            }
        }
        Role::Container => {
            set(CONTAINER_TYPE, "container");
            set(CONTAINER_NAME, &container.name);
            set(IMAGE_NAME, &container.image);
        }
    }
    out
}
