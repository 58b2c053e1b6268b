//! From what should be and what is to what to do next.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::observed::{Observed, ObservedContainer, RunState};
use super::problem::Problem;
use super::{Backoffs, RestartPolicy, init_containers, is_sidecar, restart_policy};

/// Which list of the spec a container stands in, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `spec.initContainers[i]`.
    Init(usize),
    /// `spec.containers[i]`.
    App(usize),
    /// `spec.ephemeralContainers[i]`.
    Ephemeral(usize),
}

/// A container to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Where it is in the spec.
    pub role: Role,
    /// Its name.
    pub name: String,
    /// Its restart count.
    pub attempt: u32,
    /// When the instance before it ended, for the back-off.
    pub failed_at: Option<Timestamp>,
}

/// A running container to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kill {
    /// The runtime's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What the Killing event says.
    pub message: String,
}

/// What to do, in this order: end the pod's old remains, end containers, make a sandbox, start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Stop every container and sandbox that exists (before a new sandbox, or for good).
    pub kill_pod: bool,
    /// Make a sandbox with this attempt number.
    pub create_sandbox: Option<u32>,
    /// Containers to end.
    pub kill: Vec<Kill>,
    /// Containers to start, in order.
    pub start: Vec<Start>,
    /// Containers that wait, and why (`CrashLoopBackOff`).
    pub waiting: BTreeMap<String, Problem>,
    /// When to look again even if nothing happens.
    pub retry_at: Option<Timestamp>,
    /// All init containers are done (sidecars: started).
    pub initialized: bool,
    /// Nothing of the pod runs again, though some of its containers may never have run: what they needed is gone.
    pub is_over: bool,
}

/// What the probes know, by container id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probes {
    /// Containers whose startup or liveness probe has failed, with the Killing event's message.
    pub failed: BTreeMap<String, String>,
    /// Containers with a startup probe that has not succeeded yet.
    pub starting: BTreeSet<String>,
    /// Containers with a readiness probe that does not hold.
    pub unready: BTreeSet<String>,
}

/// Decides. `changed` holds the containers whose definition is another than the one they were started with, with the
/// Killing event's message.
pub fn plan(
    pod: &Pod,
    observed: &Observed,
    probes: &Probes,
    backoffs: &Backoffs,
    changed: &BTreeMap<String, String>,
    now: Timestamp,
) -> Plan {
    let Some(spec) = &pod.spec else {
        return Plan::default();
    };
    let mut planner = Planner {
        pod,
        spec,
        observed,
        probes,
        backoffs,
        changed,
        now,
        policy: restart_policy(pod),
        plan: Plan::default(),
    };
    planner.run();
    planner.plan
}

struct Planner<'a> {
    pod: &'a Pod,
    spec: &'a PodSpec,
    observed: &'a Observed,
    probes: &'a Probes,
    backoffs: &'a Backoffs,
    changed: &'a BTreeMap<String, String>,
    now: Timestamp,
    policy: RestartPolicy,
    plan: Plan,
}

impl Planner<'_> {
    fn run(&mut self) {
        let host_network = self.spec.host_network.unwrap_or(false);
        let usable = self
            .observed
            .sandbox()
            .filter(|s| s.ready && (host_network || !s.ips.is_empty()));
        let extra_ready = self.observed.sandboxes.iter().skip(1).any(|s| s.ready);
        match usable {
            Some(sandbox) if !extra_ready => {
                let id = sandbox.id.clone();
                self.in_sandbox(&id);
            }
            Some(_) | None => self.new_sandbox(),
        }
    }

    fn new_sandbox(&mut self) {
        let attempt = self.observed.sandbox().map_or(0, |s| s.attempt + 1);
        self.plan.kill_pod = !self.observed.sandboxes.is_empty();
        let ran = !self.observed.containers.is_empty();
        // A container that was only created has done nothing yet, so it is not done twice.
        let started = |o: &ObservedContainer| o.state != RunState::Created;
        let started = self.observed.containers.iter().any(started);
        if self.policy == RestartPolicy::Never && attempt != 0 && started {
            self.plan.kill_pod = true;
            self.plan.is_over = true;
            return;
        }
        let to_start: Vec<usize> = (0..self.spec.containers.len())
            .filter(|&i| {
                let last = self.observed.latest(&self.spec.containers[i].name);
                !(self.policy == RestartPolicy::OnFailure && last.is_some_and(succeeded))
            })
            .collect();
        if to_start.is_empty() && ran {
            self.plan.kill_pod = true;
            self.plan.initialized = true;
            return;
        }
        self.plan.create_sandbox = Some(attempt);
        let inits = init_containers(self.spec);
        if inits.is_empty() {
            self.plan.initialized = true;
            for i in to_start {
                self.start(Role::App(i));
            }
        } else {
            self.start(Role::Init(0));
        }
    }

    fn in_sandbox(&mut self, sandbox: &str) {
        self.ephemeral(sandbox);
        let begun = self.spec.containers.iter().any(|c| {
            self.observed
                .latest_in(&c.name, sandbox)
                .is_some_and(|o| o.state != RunState::Created)
        });
        if !self.inits(sandbox, begun) {
            return;
        }
        self.plan.initialized = true;
        let mut keep = 0;
        for i in 0..self.spec.containers.len() {
            if self.app(i, sandbox) {
                keep += 1;
            }
        }
        if keep == 0 && self.plan.start.is_empty() && self.plan.waiting.is_empty() {
            // Nothing runs, starts or waits to start: the pod is over.
            self.plan.kill_pod = true;
        }
    }

    fn ephemeral(&mut self, sandbox: &str) {
        let list = self
            .spec
            .ephemeral_containers
            .as_deref()
            .unwrap_or_default();
        for (i, c) in list.iter().enumerate() {
            if self.observed.latest_in(&c.name, sandbox).is_none() {
                self.plan.start.push(Start {
                    role: Role::Ephemeral(i),
                    name: c.name.clone(),
                    attempt: 0,
                    failed_at: None,
                });
            }
        }
    }

    /// Walks the init containers in order; true when the app containers may run.
    fn inits(&mut self, sandbox: &str, begun: bool) -> bool {
        for (i, c) in init_containers(self.spec).iter().enumerate() {
            let now_there = self.observed.latest_in(&c.name, sandbox);
            if is_sidecar(c) {
                if !self.sidecar(i, now_there) && !begun {
                    return false;
                }
                continue;
            }
            if begun {
                continue;
            }
            match now_there.map(|o| (o.state, o.exit_code)) {
                Some((RunState::Running, _)) => return false,
                Some((RunState::Exited, 0)) => {}
                Some((RunState::Exited, _)) if self.policy == RestartPolicy::Never => {
                    self.plan.kill_pod = true;
                    return false;
                }
                Some((RunState::Exited | RunState::Created | RunState::Unknown, _)) | None => {
                    self.start(Role::Init(i));
                    return false;
                }
            }
        }
        true
    }

    /// True when the sidecar has started, so that what comes after it may start.
    fn sidecar(&mut self, i: usize, there: Option<&ObservedContainer>) -> bool {
        match there {
            Some(o) if o.state == RunState::Running => {
                if let Some(message) = self.reason_to_end(o) {
                    self.kill(o, message);
                    self.start_after(Role::Init(i), Some(self.now));
                    return false;
                }
                !self.probes.starting.contains(&o.id)
            }
            Some(_) | None => {
                self.start(Role::Init(i));
                false
            }
        }
    }

    /// True when the container keeps running.
    fn app(&mut self, i: usize, sandbox: &str) -> bool {
        let c = &self.spec.containers[i];
        let Some(o) = self.observed.latest_in(&c.name, sandbox) else {
            let done = self.policy == RestartPolicy::OnFailure
                && self.observed.latest(&c.name).is_some_and(succeeded);
            if !done {
                self.start(Role::App(i));
            }
            return false;
        };
        match o.state {
            RunState::Running => {
                let Some(message) = self.reason_to_end(o) else {
                    return true;
                };
                let changed = self.changed.contains_key(&c.name);
                self.kill(o, message);
                if changed || self.policy != RestartPolicy::Never {
                    self.start_after(Role::App(i), Some(self.now));
                }
                false
            }
            RunState::Exited => {
                let again = match self.policy {
                    RestartPolicy::Always => true,
                    RestartPolicy::OnFailure => o.exit_code != 0,
                    RestartPolicy::Never => false,
                };
                if again {
                    self.start(Role::App(i));
                }
                false
            }
            RunState::Created | RunState::Unknown => {
                if o.state == RunState::Unknown {
                    self.kill(
                        o,
                        format!(
                            "Container {} is in unknown state, try killing it before restart",
                            c.name
                        ),
                    );
                }
                self.start(Role::App(i));
                false
            }
        }
    }

    fn reason_to_end(&self, o: &ObservedContainer) -> Option<String> {
        let changed = self.changed.get(&o.name);
        changed.or_else(|| self.probes.failed.get(&o.id)).cloned()
    }

    fn kill(&mut self, o: &ObservedContainer, message: String) {
        self.plan.kill.push(Kill {
            id: o.id.clone(),
            name: o.name.clone(),
            message,
        });
    }

    fn start(&mut self, role: Role) {
        self.start_after(role, None);
    }

    fn start_after(&mut self, role: Role, failed_at: Option<Timestamp>) {
        let name = match role {
            Role::Init(i) => init_containers(self.spec)[i].name.clone(),
            Role::App(i) => self.spec.containers[i].name.clone(),
            Role::Ephemeral(_) => return,
        };
        let last = self.observed.latest(&name);
        let failed_at = failed_at.or_else(|| {
            let last = last?;
            match last.state {
                RunState::Exited => Some(last.finished_at.unwrap_or(self.now)),
                // Its start failed.
                RunState::Created => Some(last.created_at.unwrap_or(self.now)),
                RunState::Running | RunState::Unknown => None,
            }
        });
        if let Some(failed) = failed_at
            && let Some(until) = self.backoffs.until(&name, failed, self.now)
        {
            let delay = self
                .backoffs
                .delay(&name)
                .unwrap_or(super::backoff::INITIAL);
            let meta = &self.pod.metadata;
            self.plan.waiting.insert(
                name.clone(),
                Problem::new(
                    "CrashLoopBackOff",
                    format!(
                        "back-off {} restarting failed container={name} pod={}_{}({})",
                        super::backoff::go_duration(delay),
                        meta.name.as_deref().unwrap_or_default(),
                        meta.namespace.as_deref().unwrap_or_default(),
                        meta.uid.as_deref().unwrap_or_default(),
                    ),
                ),
            );
            self.plan.retry_at = Some(self.plan.retry_at.map_or(until, |t| t.min(until)));
            return;
        }
        let attempt = last.map_or(0, |o| o.attempt + 1);
        self.plan.start.push(Start {
            role,
            name,
            attempt,
            failed_at,
        });
    }
}

fn succeeded(o: &ObservedContainer) -> bool {
    o.state == RunState::Exited && o.exit_code == 0
}
