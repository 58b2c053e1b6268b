//! In-place resize (KEP-1287, for a pod as a whole KEP-5419): what the node grants of the resources that a pod's spec asks
//! for, and what has to be done to containers that run with others.
//!
//! ```text
//!   desired (spec) --admit--> allocated (recorded on the node) --CRI--> actuated (what the runtime was given)
//! ```

use std::borrow::Cow;
use std::collections::BTreeMap;

use berth_core::resource_list::{self, WireList};
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};

use super::admit::Room;
use super::is_sidecar;
use super::problem::Problem;

/// CPU and memory of containers by name; requests and limits as `spec.containers[].resources` has them. Under [`POD`] are
/// those of the pod as a whole.
pub type Resources = BTreeMap<String, ResourceRequirements>;

/// `spec.resources` among those of the containers; no container has such a name.
pub const POD: &str = "";

/// What the status says about a resize.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resize {
    /// Granted by the node: `status.containerStatuses[].allocatedResources`.
    pub allocated: Resources,
    /// Given to the runtime: `status.containerStatuses[].resources`.
    pub actuated: Resources,
    /// Why the desired resources are not granted: the condition `PodResizePending`.
    pub pending: Option<Problem>,
    /// The granted resources are not in effect yet: the condition `PodResizeInProgress`. Its reason is empty, or `Error`.
    pub in_progress: Option<Problem>,
}

/// The containers whose resources can change while they run: app containers and sidecars.
fn resizable(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.spec.iter().flat_map(|spec| {
        let sidecars = spec.init_containers.iter().flatten();
        sidecars.filter(|c| is_sidecar(c)).chain(&spec.containers)
    })
}

/// What a pod's spec asks for.
#[must_use]
pub fn desired(pod: &Pod) -> Resources {
    let containers = resizable(pod);
    let mut all: Resources = containers
        .map(|c| (c.name.clone(), c.resources.clone().unwrap_or_default()))
        .collect();
    all.insert(POD.to_owned(), of_pod(pod));
    all
}

fn of_pod(pod: &Pod) -> ResourceRequirements {
    let spec = pod.spec.as_ref();
    spec.and_then(|s| s.resources.clone()).unwrap_or_default()
}

/// A container's resources with the limits of the pod as a whole where it has none of its own: what its cgroup gets, as
/// under the stock kubelet, so that programs which look at their own limit see one.
#[must_use]
pub fn with_limits_of_pod(
    own: &ResourceRequirements,
    pod: Option<&ResourceRequirements>,
) -> ResourceRequirements {
    let mut all = own.clone();
    let limits = pod.and_then(|r| r.limits.as_ref()).into_iter().flatten();
    for (name, limit) in limits.filter(|(name, _)| matches!(name.as_str(), "cpu" | "memory")) {
        let limits = all.limits.get_or_insert_default();
        limits.entry(name.clone()).or_insert_with(|| limit.clone());
    }
    all
}

/// What a pod was granted as far as its status says so, else what its spec asks for: where no record is left, a resize
/// that was never granted must not be taken for one.
#[must_use]
pub fn granted_by_status(pod: &Pod) -> Resources {
    let status = pod.status.as_ref();
    let lists = status.map(|s| (&s.init_container_statuses, &s.container_statuses));
    let statuses = || {
        lists
            .iter()
            .flat_map(|(a, b)| a.iter().chain(b.iter()))
            .flatten()
    };
    let mut resources = desired(pod);
    for (name, granted) in &mut resources {
        let known = statuses().find(|s| &s.name == name);
        if let Some(known) = known.and_then(|s| s.resources.clone()) {
            *granted = known;
        }
    }
    if let Some(known) = status.and_then(|s| s.resources.clone()) {
        resources.insert(POD.to_owned(), known);
    }
    resources
}

/// The pod as if its spec asked for `resources`; containers that are not named stay as they are.
#[must_use]
pub fn with_resources<'a>(pod: &'a Pod, resources: &Resources) -> Cow<'a, Pod> {
    let none = ResourceRequirements::default();
    let other = |c: &Container| {
        let granted = resources.get(&c.name)?;
        (c.resources.as_ref().unwrap_or(&none) != granted).then(|| granted.clone())
    };
    let whole = resources
        .get(POD)
        .filter(|granted| of_pod(pod) != **granted);
    if whole.is_none() && resizable(pod).all(|c| other(c).is_none()) {
        return Cow::Borrowed(pod);
    }
    let mut pod = pod.clone();
    if let Some(spec) = &mut pod.spec {
        if let Some(granted) = whole {
            let any = granted != &ResourceRequirements::default();
            spec.resources = any.then(|| granted.clone());
        }
        let sidecars = spec.init_containers.iter_mut().flatten();
        for c in sidecars
            .filter(|c| is_sidecar(c))
            .chain(&mut spec.containers)
        {
            if let Some(granted) = other(c) {
                c.resources = Some(granted);
            }
        }
    }
    Cow::Owned(pod)
}

fn list<'a>(of: &'a Option<WireList>, empty: &'a WireList) -> &'a WireList {
    of.as_ref().unwrap_or(empty)
}

/// The same amounts, however they are written.
#[must_use]
pub fn same(a: &ResourceRequirements, b: &ResourceRequirements) -> bool {
    let empty = WireList::new();
    let equal = |a, b| resource_list::equal(list(a, &empty), list(b, &empty));
    equal(&a.requests, &b.requests) && equal(&a.limits, &b.limits)
}

/// The same amounts for each container.
#[must_use]
pub fn all_same(a: &Resources, b: &Resources) -> bool {
    a.len() == b.len()
        && a.iter()
            .all(|(name, r)| b.get(name).is_some_and(|other| same(r, other)))
}

/// Whether a resize is granted; `rooms` are those of the resources, with `granted` what the pod has of each now.
///
/// # Errors
/// `Infeasible` when the node could never grant it, `Deferred` when other pods hold what it needs. What does not grow is
/// always granted.
pub fn judge(rooms: &[(Room, i64)]) -> Result<(), Problem> {
    let growing = || {
        rooms
            .iter()
            .filter(|(room, granted)| room.requested > *granted)
    };
    for (room, _) in growing() {
        if room.requested > room.capacity {
            let message = format!(
                "Node didn't have enough capacity: {}, requested: {}, capacity: {}",
                room.name, room.requested, room.capacity
            );
            return Err(Problem::new("Infeasible", message));
        }
    }
    for (room, _) in growing() {
        let all = i128::from(room.used) + i128::from(room.requested);
        if all > i128::from(room.capacity) {
            let message = format!(
                "Node didn't have enough resource: {}, requested: {}, used: {}, capacity: {}",
                room.name, room.requested, room.used, room.capacity
            );
            return Err(Problem::new("Deferred", message));
        }
    }
    Ok(())
}

/// How a running container gets other resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It has them.
    Done,
    /// By `UpdateContainerResources`, while it runs.
    InPlace,
    /// By being started again: its `resizePolicy` says so for a resource that changes.
    Restart,
}

/// What is to be done with a running container. A container of which nobody knows what it was given is given it again.
#[must_use]
pub fn how(
    c: &Container,
    actuated: Option<&ResourceRequirements>,
    allocated: &ResourceRequirements,
) -> How {
    let Some(actuated) = actuated else {
        return How::InPlace;
    };
    if same(actuated, allocated) {
        return How::Done;
    }
    let empty = WireList::new();
    let changes = |name: &str| {
        let amount = |of: &Option<WireList>| -> WireList {
            let found = list(of, &empty).get_key_value(name);
            found
                .map(|(k, v)| (k.clone(), v.clone()))
                .into_iter()
                .collect()
        };
        !resource_list::equal(&amount(&actuated.requests), &amount(&allocated.requests))
            || !resource_list::equal(&amount(&actuated.limits), &amount(&allocated.limits))
    };
    let restart = c.resize_policy.iter().flatten().any(|policy| {
        policy.restart_policy == "RestartContainer" && changes(&policy.resource_name)
    });
    if restart { How::Restart } else { How::InPlace }
}
