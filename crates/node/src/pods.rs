//! The pods bound to this node: watched, each handed to a worker of its own.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use berth_lifecycle::plan::Probes;
use berth_lifecycle::resize::with_resources;
use berth_lifecycle::{Observed, Problem};
use berth_supervise::{Outage, restart_on_panic};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use crate::agent::Agent;
use crate::allocation::Allocation;
use crate::starts::{Outcome, PodStart};
use crate::static_pods::is_mirror;
use crate::worker::Worker;

/// What the rest of the agent sees of a pod and its worker.
pub(crate) struct PodHandle {
    pub(crate) uid: String,
    /// The pod as the API last showed it.
    pub(crate) pod: watch::Sender<Arc<Pod>>,
    /// Asks the worker to look again.
    pub(crate) wake: Notify,
    /// The API no longer has the pod.
    pub(crate) gone: AtomicBool,
    /// Set by eviction: the pod has to fail.
    pub(crate) evicted: Mutex<Option<Problem>>,
    /// What the probes found; written by their tasks.
    pub(crate) probes: Mutex<Probes>,
    /// What the worker last saw of the runtime.
    pub(crate) observed: RwLock<Observed>,
    /// What this node has granted the pod; none until its worker has looked.
    pub(crate) allocation: Mutex<Option<Allocation>>,
    /// A resize waits until other pods leave room.
    pub(crate) deferred: AtomicBool,
    /// What the worker last computed.
    pub(crate) status: RwLock<Option<PodStatus>>,
    /// For a static pod: the pod that stands for it in the API, while there is one.
    pub(crate) mirror: Option<watch::Sender<Option<Arc<Pod>>>>,
    /// The pod's start, where this agent sees to it.
    pub(crate) start: Option<Arc<PodStart>>,
}

impl PodHandle {
    fn new(uid: String, pod: Arc<Pod>, of_file: bool, start: Option<Arc<PodStart>>) -> Self {
        Self {
            start,
            mirror: of_file.then(|| watch::Sender::new(None)),
            uid,
            pod: watch::Sender::new(pod),
            wake: Notify::new(),
            gone: AtomicBool::new(false),
            evicted: Mutex::default(),
            probes: Mutex::default(),
            observed: RwLock::default(),
            allocation: Mutex::default(),
            deferred: AtomicBool::new(false),
            status: RwLock::default(),
        }
    }

    /// It comes from a file, and not from the API.
    pub(crate) fn is_static(&self) -> bool {
        self.mirror.is_some()
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }

    /// The pod as the API last showed it, with the resources that this node has granted.
    pub(crate) fn granted(&self) -> Arc<Pod> {
        let pod = self.pod.borrow().clone();
        let Some(record) = &*self.allocation.lock() else {
            return pod;
        };
        match with_resources(&pod, &record.allocated) {
            Cow::Owned(pod) => Arc::new(pod),
            Cow::Borrowed(_) => pod,
        }
    }

    /// The pod as it was granted, with the status that this node last computed.
    pub(crate) fn current(&self) -> Pod {
        let mut pod = (*self.granted()).clone();
        if let Some(status) = &*self.status.read() {
            pod.status = Some(status.clone());
        }
        pod
    }
}

/// Watches until `shutdown`. `listed` is set once the first whole list was seen.
pub(crate) async fn keep(
    agent: Arc<Agent>,
    listed: watch::Sender<bool>,
    shutdown: CancellationToken,
) {
    let api: Api<Pod> = Api::all(agent.config.client.clone());
    let selector = format!("spec.nodeName={}", agent.config.node_name);
    let config = watcher::Config::default().fields(&selector);
    let stream = watcher(api, config).default_backoff();
    let mut stream = std::pin::pin!(stream);
    let mut seen = HashSet::new();
    let mut outage = Outage::new("cannot watch the node's pods");
    loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => return,
            event = stream.next() => event,
        };
        if let Some(event) = &event {
            outage.watched(event);
        }
        match event {
            None => return,
            Some(Err(_)) => {}
            Some(Ok(watcher::Event::Init)) => {
                seen.clear();
                agent.mirrors.begin();
            }
            Some(Ok(watcher::Event::InitApply(pod))) if is_mirror(&pod) => {
                agent.mirrors.listed(pod)
            }
            Some(Ok(watcher::Event::InitApply(pod))) => {
                seen.extend(pod.metadata.uid.clone());
                apply(&agent, pod, &shutdown);
            }
            Some(Ok(watcher::Event::InitDone)) => {
                for handle in agent.handles() {
                    if !seen.contains(&handle.uid) && !handle.is_static() {
                        gone(&handle);
                    }
                }
                agent.mirrors.done();
                listed.send_replace(true);
            }
            Some(Ok(watcher::Event::Apply(pod))) if is_mirror(&pod) => agent.mirrors.seen(pod),
            Some(Ok(watcher::Event::Delete(pod))) if is_mirror(&pod) => agent.mirrors.gone(&pod),
            Some(Ok(watcher::Event::Apply(pod))) => apply(&agent, pod, &shutdown),
            Some(Ok(watcher::Event::Delete(pod))) => {
                let uid = pod.metadata.uid.clone().unwrap_or_default();
                let handle = agent.pods.lock().get(&uid).cloned();
                if let Some(handle) = handle {
                    handle.pod.send_replace(Arc::new(pod));
                    gone(&handle);
                }
            }
        }
    }
}

/// The pod is no longer wanted: its worker ends it.
pub(crate) fn gone(handle: &PodHandle) {
    handle.gone.store(true, Ordering::SeqCst);
    handle.wake.notify_one();
}

fn apply(agent: &Arc<Agent>, pod: Pod, shutdown: &CancellationToken) {
    let Some(uid) = pod.metadata.uid.clone() else {
        return;
    };
    let pod = Arc::new(pod);
    let known = agent.pods.lock().get(&uid).cloned();
    if let Some(handle) = known {
        // Whoever makes a pod chooses no uid; one that a static pod has is that pod's.
        if handle.is_static() {
            return;
        }
        let old = handle.pod.send_replace(Arc::clone(&pod));
        if differs(&old, &pod) {
            handle.wake.notify_one();
        }
        return;
    }
    begin(agent, uid, pod, false, shutdown);
}

/// Starts the worker of a pod that is new here.
pub(crate) fn begin(
    agent: &Arc<Agent>,
    uid: String,
    pod: Arc<Pod>,
    of_file: bool,
    shutdown: &CancellationToken,
) {
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    let (namespace, name) = (text(&pod.metadata.namespace), text(&pod.metadata.name));
    debug!(pod = %format!("{namespace}/{name}"), %uid, of_file, "pod bound here");
    let start = agent.starts.begin(&pod);
    let handle = Arc::new(PodHandle::new(uid.clone(), pod, of_file, start));
    agent.pods.lock().insert(uid, Arc::clone(&handle));
    let work = work(Arc::clone(agent), handle, shutdown.clone());
    agent.tasks.spawn("pod worker", work);
}

/// Runs the pod's worker to its end. A worker that panics is a defect, which its pod alone has to bear: another one
/// takes over what it finds, as after a restart of the agent.
async fn work(agent: Arc<Agent>, handle: Arc<PodHandle>, shutdown: CancellationToken) {
    let run = || Worker::new(Arc::clone(&agent), Arc::clone(&handle)).run(shutdown.clone());
    let panicked = |reason: &str| {
        let pod = handle.pod.borrow().clone();
        error!(uid = %handle.uid, reason, "the pod's worker panicked; another one takes over");
        let message =
            format!("The node's worker for this pod broke and is started again: {reason}");
        agent.events.warn(&pod, "PodWorkerFailed", message);
    };
    let outcome = tokio::select! {
        outcome = restart_on_panic(run, panicked) => outcome,
        // While none runs: between a panic and the next try.
        () = stopped(&shutdown) => return,
    };
    if outcome.is_finished() {
        if let Some(start) = &handle.start {
            start.finish(Outcome::Deleted);
        }
        agent.pods.lock().remove(&handle.uid);
        agent.tokens.forget(&handle.uid);
        agent.wake_deferred();
        // Another pod of the same name, or the mirror, may wait for the end of this one.
        agent.mirrors.poke();
    }
}

/// Some time after the shutdown: a worker that runs ends by itself, and writes its last status before.
async fn stopped(shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
}

/// Conditions that this node does not write itself.
fn foreign(pod: &Pod) -> Vec<&PodCondition> {
    pod.status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten())
        .filter(|c| !berth_lifecycle::is_ours(&c.type_))
        .collect()
}

/// More than our own status writes has changed.
fn differs(old: &Pod, new: &Pod) -> bool {
    old.spec != new.spec
        || old.metadata.deletion_timestamp != new.metadata.deletion_timestamp
        || old.metadata.deletion_grace_period_seconds != new.metadata.deletion_grace_period_seconds
        || old.metadata.labels != new.metadata.labels
        || old.metadata.annotations != new.metadata.annotations
        || foreign(old) != foreign(new)
}
