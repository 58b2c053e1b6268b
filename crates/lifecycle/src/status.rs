//! The pod's status out of what the runtime and the probes say.

mod conditions;
mod containers;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    HostIP, Pod, PodIP, PodStatus, ResourceRequirements, ResourceStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub use conditions::is_ours;

use super::observed::Observed;
use super::plan::Probes;
use super::{phase, qos};
use crate::Resize;
use crate::problem::Problem;
use crate::resize::{POD, Resources};

/// Everything that a status is computed from.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// The pod as the API last showed it.
    pub pod: &'a Pod,
    /// The status written last (by this worker, else the API's).
    pub previous: &'a PodStatus,
    /// What the runtime says.
    pub observed: &'a Observed,
    /// What the probes say.
    pub probes: &'a Probes,
    /// Why containers wait, by name.
    pub problems: &'a BTreeMap<String, Problem>,
    /// Set when the pod as a whole has failed (rejected, evicted, past its deadline).
    pub failed: Option<&'a Problem>,
    /// All init containers are done.
    pub initialized: bool,
    /// How the resources of its containers stand to those that its spec asks for.
    pub resize: &'a Resize,
    /// The health of the containers' devices, by container.
    pub devices: &'a BTreeMap<String, Vec<ResourceStatus>>,
    /// The handler makes read-only mounts read-only all the way down.
    pub recursive_read_only: bool,
    /// Nothing of the pod will run again.
    pub over: bool,
    /// The node's addresses.
    pub host_ips: &'a [String],
    /// The CRI runtime's name, the scheme of container ids.
    pub runtime_name: &'a str,
    /// The time of this computation.
    pub now: Timestamp,
}

/// Computes the whole status.
pub fn status(i: Inputs<'_>) -> PodStatus {
    let mut status = PodStatus {
        qos_class: i
            .previous
            .qos_class
            .clone()
            .or_else(|| Some(qos::qos(i.pod).name().to_owned())),
        start_time: Some(i.previous.start_time.clone().unwrap_or(Time(i.now))),
        host_ip: i.host_ips.first().cloned(),
        host_ips: Some(
            i.host_ips
                .iter()
                .map(|ip| HostIP { ip: ip.clone() })
                .collect(),
        ),
        observed_generation: i.pod.metadata.generation,
        nominated_node_name: i.previous.nominated_node_name.clone(),
        resource_claim_statuses: i.previous.resource_claim_statuses.clone(),
        ..PodStatus::default()
    };
    addresses(&i, &mut status);
    resources_of_pod(&i, &mut status);
    let mut lists = containers::statuses(&i);
    let previous_phase = i.previous.phase.as_deref();
    let phase = match (previous_phase, i.failed) {
        (Some(p @ ("Succeeded" | "Failed")), _) => p.to_owned(),
        (_, Some(_)) => "Failed".to_owned(),
        (_, None) => phase::phase(i.pod, &lists.init, &lists.app, i.over).to_owned(),
    };
    if let Some(problem) = i.failed {
        status.reason = Some(problem.reason.clone());
        status.message = Some(problem.message.clone());
    } else if matches!(previous_phase, Some("Succeeded" | "Failed")) {
        status.reason = i.previous.reason.clone();
        status.message = i.previous.message.clone();
    }
    status.conditions = Some(conditions::conditions(&i, &phase, &lists));
    if phase == "Failed" && !lists.anything_ran() {
        // As for a pod that the node rejects: its own reason is what is to be seen.
        lists.clear();
    }
    status.phase = Some(phase);
    status.container_statuses = (!lists.app.is_empty()).then_some(lists.app);
    status.init_container_statuses = (!lists.init.is_empty()).then_some(lists.init);
    status.ephemeral_container_statuses = (!lists.ephemeral.is_empty()).then_some(lists.ephemeral);
    status
}

/// `allocatedResources` and `resources` of a pod that has some as a whole: while it has a sandbox what its cgroup was given,
/// else what it will be given.
fn resources_of_pod(i: &Inputs<'_>, status: &mut PodStatus) {
    let none = ResourceRequirements::default();
    let some = |all: &'_ Resources| all.get(POD).filter(|r| **r != none).cloned();
    let Some(allocated) = some(&i.resize.allocated) else {
        return;
    };
    let runs = i.observed.sandbox().is_some_and(|s| s.ready);
    let actuated = some(&i.resize.actuated).filter(|_| runs);
    status.allocated_resources.clone_from(&allocated.requests);
    status.resources = Some(actuated.unwrap_or(allocated));
}

fn addresses(i: &Inputs<'_>, status: &mut PodStatus) {
    let host_network = i
        .pod
        .spec
        .as_ref()
        .and_then(|s| s.host_network)
        .unwrap_or(false);
    let ips: Vec<String> = if host_network {
        i.host_ips.to_vec()
    } else {
        match i.observed.sandbox() {
            Some(s) if !s.ips.is_empty() => s.ips.clone(),
            Some(_) | None => i
                .previous
                .pod_ips
                .iter()
                .flatten()
                .map(|p| p.ip.clone())
                .collect(),
        }
    };
    status.pod_ip = ips.first().cloned();
    status.pod_ips = (!ips.is_empty()).then(|| ips.into_iter().map(|ip| PodIP { ip }).collect());
}
