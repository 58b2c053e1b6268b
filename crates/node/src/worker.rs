//! One worker per pod: looks at what is, asks `berth_lifecycle` what to do, does it, and says
//! how things stand.
//!
//! ```text
//!   wake (API, CRI event, probe, pull done, timer)
//!     -> observe -> resize -> plan -> kill | sandbox | start -> observe ... until nothing is left to do
//!     -> status -> StatusTask -> API
//!   deletion, eviction, deadline -> end.rs
//! ```

mod annotate;
mod end;
mod kill;
mod last_words;
mod network;
mod resize;
mod sandbox;
mod start;
mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use berth_lifecycle::{Backoffs, Observed, Plan, Problem, Resize};
use berth_trace::Stage;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::agent::Agent;
use crate::cgroups::Limits;
use crate::cri::{observe, rpc_message};
use crate::pod_network::asked::Asked;
use crate::pod_spec::containers;
use crate::pods::PodHandle;
use crate::probes::Prober;
use crate::volumes::{self, Mounted};

use start::Pulls;
use status::StatusTask;

/// A failed step is tried again after this long.
const RETRY: Duration = Duration::from_secs(5);
/// Written volumes are brought up to date this often.
const REFRESH: Duration = Duration::from_secs(20);
/// What they are then made of may be as old as this.
const AGE: Duration = Duration::from_secs(10);
/// Steps in a row without waiting for anything; more is a loop that makes no progress.
const MAX_STEPS: usize = 32;

/// Whether the pod is done with, or the agent only stops.
pub(crate) enum Outcome {
    /// Nothing of the pod is left.
    Finished,
    /// The agent stops and leaves the pod running.
    Detached,
}

impl Outcome {
    pub(crate) fn is_finished(&self) -> bool {
        matches!(self, Outcome::Finished)
    }
}

/// When to look again.
enum Next {
    At(Timestamp),
    Idle,
    Done,
}

/// How long it is until then.
fn until(at: Timestamp) -> Duration {
    at.duration_since(Timestamp::now())
        .try_into()
        .unwrap_or(Duration::ZERO)
}

/// A worker's own state; see the module for the flow.
pub(crate) struct Worker {
    agent: Arc<Agent>,
    handle: Arc<PodHandle>,
    pod: Arc<Pod>,
    observed: Observed,
    previous: PodStatus,
    status: StatusTask,
    prober: Prober,
    accepted: bool,
    initialized: bool,
    failed: Option<Problem>,
    problems: BTreeMap<String, Problem>,
    backoffs: Backoffs,
    pulls: Pulls,
    volumes: Option<Mounted>,
    handler: Option<String>,
    /// What was asked about the network of the current sandbox.
    network: Option<Asked>,
    /// The image that each container was last started with, to see it change in the spec.
    images: BTreeMap<String, String>,
    /// How the containers' resources stand to those that the spec asks for.
    resize: Resize,
    /// Containers that were created and that the runtime has refused to start.
    unstartable: BTreeSet<String>,
    /// Containers that are started again to get other resources, with the Killing event's message.
    restarts: BTreeMap<String, String>,
    /// The limits that the pod's cgroup has; none before this worker has set them.
    cgroup: Option<Limits>,
    refreshed: Timestamp,
    /// Whether volumes have to be brought up to date, as the last look found it.
    refreshes: bool,
    retry_at: Option<Timestamp>,
    /// The end of the pod was logged.
    told: bool,
}

impl Worker {
    pub(crate) fn new(agent: Arc<Agent>, handle: Arc<PodHandle>) -> Self {
        let pod = handle.pod.borrow().clone();
        let previous = pod.status.clone().unwrap_or_default();
        Self {
            status: StatusTask::start(&agent, &pod, &handle),
            prober: Prober::new(Arc::clone(&agent), Arc::clone(&handle)),
            images: containers(&pod)
                .map(|c| (c.name.clone(), c.image.clone().unwrap_or_default()))
                .collect(),
            agent,
            handle,
            pod,
            observed: Observed::default(),
            previous,
            accepted: false,
            initialized: false,
            failed: None,
            problems: BTreeMap::new(),
            backoffs: Backoffs::default(),
            pulls: Pulls::default(),
            volumes: None,
            handler: None,
            network: None,
            resize: Resize::default(),
            unstartable: BTreeSet::new(),
            restarts: BTreeMap::new(),
            cgroup: None,
            refreshed: Timestamp::UNIX_EPOCH,
            refreshes: false,
            retry_at: None,
            told: false,
        }
    }

    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> Outcome {
        let mut next = self.sync().await;
        loop {
            let pause = match next {
                Next::Done => return Outcome::Finished,
                Next::Idle => Duration::from_secs(3600),
                Next::At(at) => until(at),
            };
            tokio::select! {
                () = shutdown.cancelled() => {
                    self.status.flush().await;
                    return Outcome::Detached;
                }
                () = self.handle.wake.notified() => next = self.sync().await,
                () = tokio::time::sleep(pause) => next = self.sync().await,
                // Nothing of the pod itself has changed: there is nothing else to look at.
                () = tokio::time::sleep(until(self.refreshed_until())), if self.refreshes => {
                    self.refresh_volumes().await;
                }
            }
        }
    }

    /// Looks and acts until there is nothing to do right now.
    async fn sync(&mut self) -> Next {
        let mut is_over = false;
        // Of a pod that ends nothing is written any more.
        self.refreshes = false;
        for _ in 0..MAX_STEPS {
            self.pod = self.handle.granted();
            self.retry_at = None;
            if let Err(e) = self.observe().await {
                warn!(pod = %self.name(), error = %rpc_message(&e), "cannot see the pod's containers");
                return self.later(RETRY / 5);
            }
            if self.handle.is_gone() || self.pod.metadata.deletion_timestamp.is_some() {
                return self.terminate().await;
            }
            let evicted = self.handle.evicted.lock().clone();
            if self.failed.is_none() {
                self.failed = evicted.or_else(|| self.past_deadline());
            }
            if self.failed.is_some() || berth_lifecycle::is_terminal(&self.pod) || self.over() {
                return self.end().await;
            }
            if !self.accept().await {
                return self.end().await;
            }
            self.ask_network();
            self.resize().await;
            let plan = self.plan();
            is_over = plan.is_over;
            self.note(&plan);
            self.write_status(false);
            let acted = self.act(plan).await;
            if self.failed.is_some() {
                continue;
            }
            if !acted {
                break;
            }
        }
        self.prober.follow(&self.pod, &self.observed);
        self.write_status(is_over && !self.observed.anything_running());
        if self.over() {
            return self.end().await;
        }
        // An agent that was started again has mounted none of them itself.
        let mounted = self.volumes.is_some() || self.observed.anything_running();
        self.refreshes = mounted && self.has_written_volumes();
        self.refresh_volumes().await;
        self.next()
    }

    async fn observe(&mut self) -> Result<(), tonic::Status> {
        let mut observed = observe(&self.agent.cri, &self.handle.uid, &self.observed).await?;
        self.last_words(&mut observed).await;
        self.observed = observed;
        *self.handle.observed.write() = self.observed.clone();
        Ok(())
    }

    fn plan(&self) -> Plan {
        let probes = self.handle.probes.lock().clone();
        let mut changed: BTreeMap<String, String> = containers(&self.pod)
            .filter(|c| {
                self.images
                    .get(&c.name)
                    .is_some_and(|old| Some(old) != c.image.as_ref())
            })
            .map(|c| {
                let name = &c.name;
                let message = format!("Container {name} definition changed, will be restarted");
                (name.clone(), message)
            })
            .collect();
        changed.extend(self.restarts.clone());
        berth_lifecycle::plan(
            &self.pod,
            &self.observed,
            &probes,
            &self.backoffs,
            &changed,
            Timestamp::now(),
        )
    }

    /// Takes over what a plan says about waiting containers.
    fn note(&mut self, plan: &Plan) {
        self.initialized = plan.initialized;
        for name in containers(&self.pod).map(|c| c.name.clone()) {
            let starts = plan.start.iter().any(|s| s.name == name);
            if let Some(problem) = plan.waiting.get(&name) {
                let new = self.problems.get(&name).map(|p| &p.reason) != Some(&problem.reason);
                if new {
                    self.agent.events.container(
                        &self.pod,
                        &name,
                        berth_core::event::EventType::Warning,
                        "BackOff",
                        format!(
                            "Back-off restarting failed container {name} in pod {}_{}({})",
                            self.pod.metadata.name.as_deref().unwrap_or_default(),
                            self.pod.metadata.namespace.as_deref().unwrap_or_default(),
                            self.handle.uid
                        ),
                    );
                }
                self.problems.insert(name, problem.clone());
            } else if !starts {
                self.problems.remove(&name);
            }
        }
        self.look_at(plan.retry_at);
    }

    /// Carries a plan out; true when anything was done.
    async fn act(&mut self, plan: Plan) -> bool {
        let mut acted = false;
        for kill in &plan.kill {
            self.kill_for_restart(kill).await;
            acted = true;
        }
        if plan.kill_pod && self.observed.anything_running() {
            self.kill_all(None).await;
            acted = true;
        }
        if let Some(attempt) = plan.create_sandbox {
            if !self.run_sandbox(attempt, &plan.start).await {
                return acted;
            }
            acted = true;
            if let Err(e) = self.observe().await {
                warn!(pod = %self.name(), error = %rpc_message(&e), "cannot see the new sandbox");
                return acted;
            }
            self.ask_network();
        }
        if !plan.start.is_empty() {
            if !self.mount_volumes().await {
                return acted;
            }
            acted |= self.start_all(plan.start).await;
        }
        acted
    }

    fn past_deadline(&self) -> Option<Problem> {
        let deadline = self.deadline()?;
        (Timestamp::now() >= deadline).then(|| {
            let message = "Pod was active on the node longer than the specified deadline";
            self.agent
                .events
                .normal(&self.pod, "DeadlineExceeded", message);
            Problem::new("DeadlineExceeded", message)
        })
    }

    fn deadline(&self) -> Option<Timestamp> {
        let seconds = self.pod.spec.as_ref()?.active_deadline_seconds?;
        let start = self.previous.start_time.as_ref()?;
        start
            .0
            .saturating_add(jiff::SignedDuration::from_secs(seconds))
            .ok()
    }

    async fn refresh_volumes(&mut self) {
        let now = Timestamp::now();
        if !self.refreshes || now < self.refreshed_until() {
            return;
        }
        self.refreshed = now;
        let ips = self.pod_ips();
        if let Err(error) = volumes::refresh(&self.agent, &self.pod, &ips, AGE).await {
            self.agent
                .events
                .warn(&self.pod, "FailedMount", error.to_string());
        }
    }

    fn next(&mut self) -> Next {
        let deadline = self.deadline();
        self.look_at(deadline);
        match self.retry_at {
            Some(at) => Next::At(at),
            None => Next::Idle,
        }
    }

    fn refreshed_until(&self) -> Timestamp {
        self.refreshed
            .saturating_add(jiff::SignedDuration::try_from(REFRESH).unwrap_or_default())
            .unwrap_or(Timestamp::MAX)
    }

    fn has_written_volumes(&self) -> bool {
        self.pod
            .spec
            .iter()
            .flat_map(|s| s.volumes.iter().flatten())
            .any(|v| v.empty_dir.is_none() && v.host_path.is_none() && v.image.is_none())
    }

    fn look_at(&mut self, at: Option<Timestamp>) {
        if let Some(at) = at {
            self.retry_at = Some(self.retry_at.map_or(at, |t| t.min(at)));
        }
    }

    fn retry(&mut self) {
        let at = Timestamp::now()
            .saturating_add(jiff::SignedDuration::try_from(RETRY).unwrap_or_default())
            .ok();
        self.look_at(at);
    }

    fn later(&self, pause: Duration) -> Next {
        let pause = jiff::SignedDuration::try_from(pause).unwrap_or_default();
        Next::At(
            Timestamp::now()
                .saturating_add(pause)
                .unwrap_or(Timestamp::MAX),
        )
    }

    fn pod_ips(&self) -> Vec<String> {
        let host = self.pod.spec.as_ref().and_then(|s| s.host_network) == Some(true);
        if host {
            return self.agent.host_ips.clone();
        }
        self.observed
            .sandbox()
            .map(|s| s.ips.clone())
            .unwrap_or_default()
    }

    /// A stage of the pod's start, while it is starting.
    fn stage(&self, name: &'static str) -> Stage {
        self.stage_of(name, "")
    }

    fn stage_of(&self, name: &'static str, of: &str) -> Stage {
        let start = self.handle.start.as_ref();
        start.map_or_else(Stage::default, |start| start.stage_of(name, of))
    }

    fn name(&self) -> String {
        format!(
            "{}/{}",
            self.pod.metadata.namespace.as_deref().unwrap_or_default(),
            self.pod.metadata.name.as_deref().unwrap_or_default()
        )
    }
}
