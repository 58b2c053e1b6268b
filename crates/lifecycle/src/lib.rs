//! What a node does with a pod, as functions without I/O and without a clock.
//!
//! ```text
//!   Pod (spec, status)  +  Observed (what CRI says)  +  Probes, Backoffs, Problems  +  now
//!        |                                                        |
//!        +--> plan::plan ----> Plan: sandbox? kill what, start what, wait until when
//!        +--> status::status -> PodStatus: phase, conditions, container statuses
//! ```
//!
//! The worker in `berth-node` carries plans out and writes statuses; it never decides by itself.
//! The rules follow the stock kubelet's `computePodActions`, `getPhase` and `generateAPIPodStatus`.

pub mod admit;
pub mod backoff;
pub mod evict;
pub mod observed;
pub mod phase;
pub mod plan;
pub mod ports;
pub mod problem;
pub mod qos;
pub mod resize;
pub mod status;
pub mod swap;

pub use backoff::Backoffs;
pub use berth_core::pod::is_finished as is_terminal;
pub use observed::{Observed, ObservedContainer, ObservedSandbox, ObservedUser, RunState};
pub use plan::{Kill, Plan, Role, Start, plan};
pub use problem::Problem;
pub use qos::{Qos, qos};
pub use resize::{Resize, Resources};
pub use status::{Inputs, is_ours, status};

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

/// `spec.restartPolicy`, with the API's default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Start again after every exit.
    Always,
    /// Start again after an exit other than 0.
    OnFailure,
    /// Never start again.
    Never,
}

/// The pod's restart policy.
pub fn restart_policy(pod: &Pod) -> RestartPolicy {
    match pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref()) {
        Some("Never") => RestartPolicy::Never,
        Some("OnFailure") => RestartPolicy::OnFailure,
        _ => RestartPolicy::Always,
    }
}

/// An init container that keeps running beside the others (KEP-753).
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

pub(crate) fn init_containers(spec: &PodSpec) -> &[Container] {
    spec.init_containers.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests;
