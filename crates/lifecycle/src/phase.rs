//! The pod's phase out of its containers' states.
//!
//! ```text
//!   Pending --> Running --> Succeeded   every container ended with 0 and none starts again
//!      |           `------> Failed      one ended otherwise and none starts again
//!      `--------------------^           rejected, deadline, a failed init container
//! ```
//! Succeeded and Failed are never left.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use super::{RestartPolicy, init_containers, is_sidecar, restart_policy};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Running,
    /// Ended, and not (yet) waiting to start again for the first time.
    Stopped {
        ok: bool,
    },
    Waiting,
}

fn kind(status: Option<&ContainerStatus>) -> Kind {
    let Some(state) = status.and_then(|s| s.state.as_ref()) else {
        return Kind::Waiting;
    };
    if state.running.is_some() {
        return Kind::Running;
    }
    if let Some(t) = &state.terminated {
        return Kind::Stopped {
            ok: t.exit_code == 0,
        };
    }
    match status
        .and_then(|s| s.last_state.as_ref())
        .and_then(|s| s.terminated.as_ref())
    {
        Some(t) => Kind::Stopped {
            ok: t.exit_code == 0,
        },
        None => Kind::Waiting,
    }
}

fn find<'a>(list: &'a [ContainerStatus], name: &str) -> Option<&'a ContainerStatus> {
    list.iter().find(|s| s.name == name)
}

/// Computes the phase. `over` says that nothing of the pod will run again (all is stopped and the
/// worker has ended it).
pub fn phase(
    pod: &Pod,
    inits: &[ContainerStatus],
    apps: &[ContainerStatus],
    over: bool,
) -> &'static str {
    let Some(spec) = &pod.spec else {
        return "Pending";
    };
    let policy = restart_policy(pod);
    let app_kinds: Vec<Kind> = spec
        .containers
        .iter()
        .map(|c| kind(find(apps, &c.name)))
        .collect();
    let begun = app_kinds.iter().any(|k| *k != Kind::Waiting);
    let mut pending_init = false;
    let mut failed_init = false;
    for c in init_containers(spec) {
        let status = find(inits, &c.name);
        if is_sidecar(c) {
            let started = status.and_then(|s| s.started).unwrap_or(false);
            pending_init |= !started && !begun && !over;
            continue;
        }
        match kind(status) {
            Kind::Stopped { ok: true } => {}
            Kind::Stopped { ok: false } => {
                failed_init |= policy == RestartPolicy::Never;
                pending_init |= !begun;
            }
            Kind::Running | Kind::Waiting => pending_init |= !begun,
        }
    }
    if failed_init {
        return "Failed";
    }
    if over && !begun {
        return "Failed";
    }
    if pending_init {
        return "Pending";
    }
    let waiting = app_kinds.contains(&Kind::Waiting);
    let running = app_kinds.contains(&Kind::Running);
    let all_ok = app_kinds.iter().all(|k| *k == Kind::Stopped { ok: true });
    if over && !running {
        return if all_ok { "Succeeded" } else { "Failed" };
    }
    if waiting {
        return "Pending";
    }
    if running {
        return "Running";
    }
    match policy {
        RestartPolicy::Always => "Running",
        RestartPolicy::OnFailure if all_ok => "Succeeded",
        RestartPolicy::OnFailure => "Running",
        RestartPolicy::Never if all_ok => "Succeeded",
        RestartPolicy::Never => "Failed",
    }
}
