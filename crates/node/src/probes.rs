//! Probes: one task for each probe of each running container; results go to the pod's handle.

mod check;
mod probed;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_core::event::EventType::Warning;
use berth_lifecycle::{Observed, RunState, is_sidecar};
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use tokio::task::JoinHandle;

use crate::agent::Agent;
use crate::pods::PodHandle;

pub(crate) use probed::{BUCKETS_MS, ProbeCounts, ProbeKey, Probed};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Sort {
    Startup,
    Liveness,
    Readiness,
}

impl Sort {
    fn name(self) -> &'static str {
        match self {
            Sort::Startup => "Startup",
            Sort::Liveness => "Liveness",
            Sort::Readiness => "Readiness",
        }
    }
}

struct Task {
    sort: Sort,
    join: JoinHandle<()>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.join.abort();
    }
}

/// The probe tasks of one pod; they end when this is dropped.
pub(crate) struct Prober {
    agent: Arc<Agent>,
    handle: Arc<PodHandle>,
    tasks: HashMap<String, Vec<Task>>,
}

impl Prober {
    pub(crate) fn new(agent: Arc<Agent>, handle: Arc<PodHandle>) -> Self {
        Self {
            agent,
            handle,
            tasks: HashMap::new(),
        }
    }

    /// Begins probing what runs now and forgets what does not.
    pub(crate) fn follow(&mut self, pod: &Pod, observed: &Observed) {
        let running: Vec<(&str, &str)> = observed
            .containers
            .iter()
            .filter(|c| c.state == RunState::Running)
            .map(|c| (c.id.as_str(), c.name.as_str()))
            .collect();
        self.tasks
            .retain(|id, _| running.iter().any(|(r, _)| r == id));
        let ip = observed
            .sandbox()
            .and_then(|s| s.ips.first().cloned())
            .or_else(|| self.agent.host_ips.first().cloned());
        for (id, name) in running {
            if self.tasks.contains_key(id) {
                continue;
            }
            let Some(c) = probed(pod, name) else {
                continue;
            };
            self.adopt(pod, c, id);
            let tasks = self.begin(c, id, ip.as_deref());
            self.tasks.insert(id.to_owned(), tasks);
        }
    }

    /// A container that ran before this agent did keeps the readiness that its status shows.
    fn adopt(&self, pod: &Pod, c: &Container, id: &str) {
        let status = pod.status.iter().flat_map(|s| {
            s.container_statuses
                .iter()
                .flatten()
                .chain(s.init_container_statuses.iter().flatten())
        });
        let suffix = format!("://{id}");
        let mut same = status.filter(|s| {
            s.container_id
                .as_deref()
                .is_some_and(|full| full.ends_with(&suffix))
        });
        if let Some(status) = same.next() {
            let mut probes = self.handle.probes.lock();
            if c.startup_probe.is_some() && status.started == Some(false) {
                probes.starting.insert(id.to_owned());
            }
            if c.readiness_probe.is_some() && !status.ready {
                probes.unready.insert(id.to_owned());
            }
        }
    }

    fn begin(&self, c: &Container, id: &str, ip: Option<&str>) -> Vec<Task> {
        let list = [
            (Sort::Startup, &c.startup_probe),
            (Sort::Liveness, &c.liveness_probe),
            (Sort::Readiness, &c.readiness_probe),
        ];
        let mut tasks = Vec::new();
        for (sort, probe) in list {
            let Some(probe) = probe else { continue };
            let run = Run {
                agent: Arc::clone(&self.agent),
                handle: Arc::clone(&self.handle),
                container: c.clone(),
                id: id.to_owned(),
                ip: ip.map(str::to_owned),
                probe: probe.clone(),
                sort,
            };
            tasks.push(Task {
                sort,
                join: self.agent.tasks.spawn("probe", run.run()),
            });
        }
        tasks
    }

    /// While a pod ends it may become unready, but is no longer restarted.
    pub(crate) fn stop_ending(&mut self) {
        for tasks in self.tasks.values_mut() {
            tasks.retain(|t| t.sort == Sort::Readiness);
        }
    }

    pub(crate) fn stop(&mut self) {
        self.tasks.clear();
    }
}

/// Marks a container that has just started as not (yet) ready where a probe has to say so first.
pub(crate) fn expect(handle: &PodHandle, c: &Container, id: &str) {
    let mut probes = handle.probes.lock();
    if c.startup_probe.is_some() {
        probes.starting.insert(id.to_owned());
    }
    if c.readiness_probe.is_some() {
        probes.unready.insert(id.to_owned());
    }
}

fn probed<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.containers
        .iter()
        .chain(
            spec.init_containers
                .iter()
                .flatten()
                .filter(|c| is_sidecar(c)),
        )
        .find(|c| c.name == name)
}

struct Run {
    agent: Arc<Agent>,
    handle: Arc<PodHandle>,
    container: Container,
    id: String,
    ip: Option<String>,
    probe: Probe,
    sort: Sort,
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    let n = value.and_then(|n| u64::try_from(n).ok()).unwrap_or(default);
    Duration::from_secs(n)
}

impl Run {
    async fn run(self) {
        let p = &self.probe;
        let period = seconds(p.period_seconds, 10).max(Duration::from_secs(1));
        let limit = seconds(p.timeout_seconds, 1).max(Duration::from_secs(1));
        let failures = p.failure_threshold.unwrap_or(3).max(1);
        let successes = p.success_threshold.unwrap_or(1).max(1);
        tokio::time::sleep(seconds(p.initial_delay_seconds, 0)).await;
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut good, mut bad) = (0, 0);
        loop {
            ticks.tick().await;
            // Liveness and readiness wait for the startup probe.
            if self.sort != Sort::Startup {
                while self.handle.probes.lock().starting.contains(&self.id) {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
            let begin = Instant::now();
            let result = check::check(
                &self.agent,
                &self.container,
                p,
                &self.id,
                self.ip.as_deref(),
                limit,
            )
            .await;
            let (kind, passed) = (self.sort.name(), begin.elapsed());
            let (uid, name) = (&self.handle.uid, &self.container.name);
            self.agent
                .probed
                .count(uid, name, kind, result.is_ok(), passed);
            match result {
                Ok(()) => {
                    (good, bad) = (good + 1, 0);
                    if good >= successes && self.succeeded() {
                        return;
                    }
                }
                Err(message) => {
                    (good, bad) = (0, bad + 1);
                    self.unhealthy(&message);
                    if bad >= failures && self.failed() {
                        return;
                    }
                }
            }
        }
    }

    fn unhealthy(&self, message: &str) {
        let pod = self.handle.pod.borrow().clone();
        self.agent.events.container(
            &pod,
            &self.container.name,
            Warning,
            "Unhealthy",
            format!("{} probe failed: {message}", self.sort.name()),
        );
    }

    /// True when the task is done.
    fn succeeded(&self) -> bool {
        let changed = {
            let mut probes = self.handle.probes.lock();
            match self.sort {
                Sort::Startup => probes.starting.remove(&self.id),
                Sort::Readiness => probes.unready.remove(&self.id),
                Sort::Liveness => false,
            }
        };
        if changed {
            self.handle.wake.notify_one();
        }
        self.sort == Sort::Startup
    }

    fn failed(&self) -> bool {
        let name = &self.container.name;
        let changed = {
            let mut probes = self.handle.probes.lock();
            match self.sort {
                Sort::Readiness => probes.unready.insert(self.id.clone()),
                Sort::Startup | Sort::Liveness => probes
                    .failed
                    .insert(
                        self.id.clone(),
                        format!(
                            "Container {name} failed {} probe, will be restarted",
                            self.sort.name().to_lowercase()
                        ),
                    )
                    .is_none(),
            }
        };
        if changed {
            self.handle.wake.notify_one();
        }
        self.sort != Sort::Readiness
    }
}
