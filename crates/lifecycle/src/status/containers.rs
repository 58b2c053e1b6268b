//! Container statuses: state, last state, readiness, restart count.

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus,
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
        let image = c.image.as_deref().unwrap_or_default();
        one(
            i,
            &c.name,
            image,
            p.init_container_statuses.as_deref(),
            sort,
        )
    });
    let app = spec.containers.iter().map(|c| {
        let image = c.image.as_deref().unwrap_or_default();
        one(
            i,
            &c.name,
            image,
            p.container_statuses.as_deref(),
            Sort::App,
        )
    });
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|c| {
        let image = c.image.as_deref().unwrap_or_default();
        let previous = p.ephemeral_container_statuses.as_deref();
        one(i, &c.name, image, previous, Sort::Ephemeral)
    });
    Lists {
        init: init.collect(),
        app: app.collect(),
        ephemeral: ephemeral.collect(),
    }
}

fn one(
    i: &Inputs<'_>,
    name: &str,
    image: &str,
    previous: Option<&[ContainerStatus]>,
    sort: Sort,
) -> ContainerStatus {
    let old = previous.unwrap_or_default().iter().find(|s| s.name == name);
    let problem = i.problems.get(name);
    let mut status = match i.observed.latest(name) {
        Some(o) => seen(i, o, old, sort),
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
    sort: Sort,
) -> ContainerStatus {
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
    ContainerStatus {
        name: o.name.clone(),
        container_id: Some(format!("{}://{}", i.runtime_name, o.id)),
        image: o.image.clone(),
        image_id: o.image_ref.clone(),
        ready,
        started: Some(running && !starting && sort != Sort::Ephemeral),
        restart_count: i32::try_from(o.attempt).unwrap_or(i32::MAX),
        state: Some(state),
        last_state,
        ..ContainerStatus::default()
    }
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
