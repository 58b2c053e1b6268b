//! Container statuses: state, last state, readiness, restart count.

use berth_core::resource_list::WireList;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, ContainerUser, LinuxContainerUser,
    ResourceRequirements, VolumeMount, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::super::observed::{ObservedContainer, RunState};
use super::super::{init_containers, is_sidecar};
use super::Inputs;

pub(super) struct Lists {
    pub(super) init: Vec<ContainerStatus>,
    pub(super) app: Vec<ContainerStatus>,
    pub(super) ephemeral: Vec<ContainerStatus>,
}

impl Lists {
    /// Some container got as far as running.
    pub(super) fn anything_ran(&self) -> bool {
        self.init
            .iter()
            .chain(&self.app)
            .chain(&self.ephemeral)
            .any(|s| s.container_id.is_some())
    }

    pub(super) fn clear(&mut self) {
        self.init.clear();
        self.app.clear();
        self.ephemeral.clear();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Init,
    Sidecar,
    App,
    Ephemeral,
}

pub(super) fn statuses(i: &Inputs<'_>) -> Lists {
    let Some(spec) = &i.pod.spec else {
        return Lists {
            init: Vec::new(),
            app: Vec::new(),
            ephemeral: Vec::new(),
        };
    };
    let p = i.previous;
    let inits = init_containers(spec);
    let init = inits.iter().map(|c| {
        let sort = if is_sidecar(c) {
            Sort::Sidecar
        } else {
            Sort::Init
        };
        one(i, &Spec::of(c, sort), p.init_container_statuses.as_deref())
    });
    let app = spec.containers.iter().map(|c| {
        let spec = Spec::of(c, Sort::App);
        one(i, &spec, p.container_statuses.as_deref())
    });
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|c| {
        let spec = Spec {
            name: &c.name,
            image: c.image.as_deref().unwrap_or_default(),
            mounts: c.volume_mounts.as_deref().unwrap_or_default(),
            resources: None,
            sort: Sort::Ephemeral,
        };
        one(i, &spec, p.ephemeral_container_statuses.as_deref())
    });
    Lists {
        init: init.collect(),
        app: app.collect(),
        ephemeral: ephemeral.collect(),
    }
}

/// What a status takes from the spec of its container.
struct Spec<'a> {
    name: &'a str,
    image: &'a str,
    mounts: &'a [VolumeMount],
    resources: Option<&'a ResourceRequirements>,
    sort: Sort,
}

impl<'a> Spec<'a> {
    fn of(c: &'a Container, sort: Sort) -> Self {
        Self {
            name: &c.name,
            image: c.image.as_deref().unwrap_or_default(),
            mounts: c.volume_mounts.as_deref().unwrap_or_default(),
            resources: c.resources.as_ref(),
            sort,
        }
    }
}

fn one(i: &Inputs<'_>, spec: &Spec<'_>, previous: Option<&[ContainerStatus]>) -> ContainerStatus {
    let &Spec {
        name, image, sort, ..
    } = spec;
    let old = previous.unwrap_or_default().iter().find(|s| s.name == name);
    let problem = i.problems.get(name);
    let mut status = match i.observed.latest(name) {
        Some(o) => seen(i, o, old, spec),
        None => match old {
            // The runtime has forgotten it, but it had run: keep what is known.
            Some(s) if has_run(s) && (i.over || i.initialized) => lost(s, i),
            Some(_) | None => ContainerStatus {
                name: name.to_owned(),
                image: image.to_owned(),
                started: Some(false),
                state: Some(waiting(i, sort)),
                last_state: old.and_then(|s| s.last_state.clone()),
                restart_count: old.map_or(0, |s| s.restart_count),
                ..ContainerStatus::default()
            },
        },
    };
    let running = status.state.as_ref().is_some_and(|s| s.running.is_some());
    if let (Some(problem), false) = (problem, running) {
        let ended = status.state.take().filter(|s| s.terminated.is_some());
        if ended.is_some() {
            status.last_state = ended;
        }
        status.state = Some(ContainerState {
            waiting: Some(ContainerStateWaiting {
                reason: Some(problem.reason.clone()),
                message: (!problem.message.is_empty()).then(|| problem.message.clone()),
            }),
            ..ContainerState::default()
        });
    }
    if status.last_state.is_none() {
        status.last_state = Some(ContainerState::default());
    }
    status
}

fn has_run(status: &ContainerStatus) -> bool {
    status
        .state
        .as_ref()
        .is_some_and(|s| s.running.is_some() || s.terminated.is_some())
}

fn lost(old: &ContainerStatus, i: &Inputs<'_>) -> ContainerStatus {
    let mut status = old.clone();
    status.ready = status.ready
        && i.over
        && status
            .state
            .as_ref()
            .is_some_and(|s| s.terminated.is_some());
    let running = status.state.as_mut().and_then(|s| s.running.take());
    if let Some(running) = running {
        status.ready = false;
        status.started = Some(false);
        status.state = Some(ContainerState {
            terminated: Some(ContainerStateTerminated {
                exit_code: 137,
                reason: Some("ContainerStatusUnknown".to_owned()),
                message: Some(
                    "The container could not be located when the pod was terminated".to_owned(),
                ),
                started_at: running.started_at,
                container_id: status.container_id.clone(),
                ..ContainerStateTerminated::default()
            }),
            ..ContainerState::default()
        });
    }
    status
}

fn waiting(i: &Inputs<'_>, sort: Sort) -> ContainerState {
    let spec = i.pod.spec.as_ref();
    let has_init = spec.is_some_and(|s| !init_containers(s).is_empty());
    let reason = if has_init && !i.initialized && sort != Sort::Ephemeral {
        "PodInitializing"
    } else {
        "ContainerCreating"
    };
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message: None,
        }),
        ..ContainerState::default()
    }
}

fn terminated(i: &Inputs<'_>, o: &ObservedContainer) -> ContainerState {
    let reason = match (o.reason.as_str(), o.exit_code) {
        ("", 0) => "Completed",
        ("", _) => "Error",
        (given, _) => given,
    };
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: Some(format!("{}://{}", i.runtime_name, o.id)),
            exit_code: o.exit_code,
            reason: Some(reason.to_owned()),
            message: (!o.message.is_empty()).then(|| o.message.clone()),
            started_at: o.started_at.map(Time),
            finished_at: o.finished_at.map(Time),
            signal: None,
        }),
        ..ContainerState::default()
    }
}

fn seen(
    i: &Inputs<'_>,
    o: &ObservedContainer,
    old: Option<&ContainerStatus>,
    spec: &Spec<'_>,
) -> ContainerStatus {
    let sort = spec.sort;
    let state = match o.state {
        RunState::Running => ContainerState {
            running: Some(ContainerStateRunning {
                started_at: o.started_at.map(Time),
            }),
            ..ContainerState::default()
        },
        RunState::Exited => terminated(i, o),
        RunState::Created | RunState::Unknown => waiting(i, sort),
    };
    let running = o.state == RunState::Running;
    let starting = i.probes.starting.contains(&o.id);
    let last_state = match i.observed.previous(&o.name) {
        Some(p) if p.state == RunState::Exited => Some(terminated(i, p)),
        Some(_) | None => old.and_then(|s| earlier(s, o)),
    };
    let ready = match sort {
        Sort::App | Sort::Sidecar => running && !starting && !i.probes.unready.contains(&o.id),
        Sort::Init => o.state == RunState::Exited && o.exit_code == 0,
        Sort::Ephemeral => false,
    };
    let (allocated, resources) = resources(i, spec, running);
    ContainerStatus {
        allocated_resources: allocated,
        resources,
        user: o.user.as_ref().map(|user| ContainerUser {
            linux: Some(LinuxContainerUser {
                uid: user.uid,
                gid: user.gid,
                supplemental_groups: Some(user.supplemental_groups.clone()),
            }),
        }),
        volume_mounts: mounts(i, spec),
        stop_signal: o.stop_signal.clone(),
        allocated_resources_status: i
            .devices
            .get(spec.name)
            .filter(|_| sort != Sort::Init)
            .cloned(),
        name: o.name.clone(),
        container_id: Some(format!("{}://{}", i.runtime_name, o.id)),
        image: o.image.clone(),
        image_id: o.image_ref.clone(),
        ready,
        started: Some(running && !starting && sort != Sort::Ephemeral),
        restart_count: i32::try_from(o.attempt).unwrap_or(i32::MAX),
        state: Some(state),
        last_state,
    }
}

/// `allocatedResources` and `resources`: of a container that runs what the runtime was given, else what it will be given.
fn resources(
    i: &Inputs<'_>,
    spec: &Spec<'_>,
    running: bool,
) -> (Option<WireList>, Option<ResourceRequirements>) {
    let allocated = match spec.sort {
        Sort::App | Sort::Sidecar => i.resize.allocated.get(spec.name),
        Sort::Init => spec.resources,
        Sort::Ephemeral => None,
    };
    let actuated = i.resize.actuated.get(spec.name).filter(|_| running);
    let requests = allocated.and_then(|r| r.requests.clone());
    (requests, actuated.or(allocated).cloned())
}

fn mounts(i: &Inputs<'_>, spec: &Spec<'_>) -> Option<Vec<VolumeMountStatus>> {
    let recursive = |m: &VolumeMount| {
        let enabled = match m.recursive_read_only.as_deref() {
            Some("Enabled") => true,
            Some("IfPossible") => i.recursive_read_only,
            Some(_) | None => false,
        };
        if enabled { "Enabled" } else { "Disabled" }.to_owned()
    };
    let mounts = spec.mounts.iter().map(|m| VolumeMountStatus {
        name: m.name.clone(),
        mount_path: m.mount_path.clone(),
        read_only: m.read_only,
        recursive_read_only: (m.read_only == Some(true)).then(|| recursive(m)),
        volume_status: None,
    });
    (!spec.mounts.is_empty()).then(|| mounts.collect())
}

/// The last state when the runtime no longer has the instance before `o`.
fn earlier(old: &ContainerStatus, o: &ObservedContainer) -> Option<ContainerState> {
    let count = i32::try_from(o.attempt).unwrap_or(i32::MAX);
    if old.restart_count < count
        && let Some(state) = old.state.as_ref().filter(|s| s.terminated.is_some())
    {
        return Some(state.clone());
    }
    old.last_state.clone()
}
