//! The scheduling loop: one task owns queue and cache and decides; writes run beside it.
//!
//! Tasks: this loop; two watches (nodes and classes through a channel, pods); one short task a write, in
//! two sets (bindings and statuses, and events) that are drained at the end.

mod place;
mod record;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_core::event::EventType;
use berth_core::resources::Overhead;
use berth_placement::PodInfo;
use berth_supervise::{Brief, Outage, TaskError, panic_reason};
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::ResourceExt as _;
use kube::api::Api;
use kube::runtime::{WatchStreamExt as _, watcher};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::Config;
use crate::cache::Cache;
use crate::queue::{PodKey, Queue};
use crate::trace::Waiting;
use crate::write::{Occurrence, Writer};

use self::record::Recorder;

/// How long writes may go on after a shutdown began.
const DRAIN: Duration = Duration::from_secs(2);
/// Writes that go on at once: more would only wait at the server.
const WRITES_AT_ONCE: usize = 128;

/// How a bind ended.
struct Bound {
    key: PodKey,
    failed: bool,
    event: Option<Occurrence>,
}

/// Everything the loop owns.
pub(crate) struct SchedulerTask {
    config: Config,
    writer: Arc<Writer>,
    queue: Queue,
    cache: Cache,
    pending: HashMap<PodKey, Arc<Pod>>,
    handlers: HashMap<String, String>,
    listing_pods: HashSet<PodKey>,
    listing_nodes: HashSet<String>,
    complete: Complete,
    writes: JoinSet<Option<Bound>>,
    events: Recorder,
    outages: Outages,
    waiting: Waiting,
    /// The node at which the next search begins, where not all are looked at.
    next_node: usize,
}

/// What is wrong with each watch.
struct Outages {
    pods: Outage,
    nodes: Outage,
    classes: Outage,
}

impl Default for Outages {
    fn default() -> Self {
        Self {
            pods: Outage::new("the scheduler cannot watch pods"),
            nodes: Outage::new("the scheduler cannot watch nodes"),
            classes: Outage::new("the scheduler cannot watch RuntimeClasses"),
        }
    }
}

/// Which first lists are there. Nothing is decided on half a picture.
#[derive(Default)]
struct Complete {
    pods: bool,
    nodes: bool,
    classes: bool,
}

impl Complete {
    fn all(&self) -> bool {
        self.pods && self.nodes && self.classes
    }
}

impl SchedulerTask {
    pub(crate) fn new(config: Config) -> Self {
        let writer = Arc::new(Writer::new(config.client.clone(), &config.scheduler_name));
        Self {
            waiting: Waiting::new(config.tracer.clone()),
            config,
            writer,
            queue: Queue::default(),
            cache: Cache::default(),
            pending: HashMap::new(),
            handlers: HashMap::new(),
            listing_pods: HashSet::new(),
            listing_nodes: HashSet::new(),
            complete: Complete::default(),
            writes: JoinSet::new(),
            events: Recorder::default(),
            outages: Outages::default(),
            next_node: 0,
        }
    }

    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> Result<(), TaskError> {
        let client = self.config.client.clone();
        let open =
            watcher::Config::default().fields("status.phase!=Succeeded,status.phase!=Failed");
        let mut pods = watcher(Api::<Pod>::all(client.clone()), open)
            .default_backoff()
            .boxed();
        let mut nodes = watcher(Api::<Node>::all(client.clone()), watcher::Config::default())
            .default_backoff()
            .boxed();
        let mut classes = watcher(Api::<RuntimeClass>::all(client), watcher::Config::default())
            .default_backoff()
            .boxed();
        let result = loop {
            let now = Instant::now();
            let may_place = self.complete.all() && self.writes.len() < WRITES_AT_ONCE;
            let is_ready = may_place && self.queue.is_ready(now);
            let due = self.queue.next_due(now).filter(|_| may_place);
            let pause = due.map(|at| at.saturating_duration_since(now));
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break Ok(()),
                event = nodes.next() => match event {
                    Some(event) => {
                        self.outages.nodes.watched(&event);
                        self.watched(event, Self::node_event);
                    }
                    None => break Err(TaskError::Ended { task: "node watch" }),
                },
                event = classes.next() => match event {
                    Some(event) => {
                        self.outages.classes.watched(&event);
                        self.watched(event, Self::class_event);
                    }
                    None => break Err(TaskError::Ended { task: "RuntimeClass watch" }),
                },
                event = pods.next() => match event {
                    Some(event) => {
                        self.outages.pods.watched(&event);
                        self.watched(event, Self::pod_event);
                    }
                    None => break Err(TaskError::Ended { task: "pod watch" }),
                },
                Some(done) = self.writes.join_next() => if let Err(error) = self.written(done) {
                    break Err(error);
                },
                () = self.events.written() => {}
                () = std::future::ready(()), if is_ready => {}
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
            self.place_some();
            self.events.write(&self.writer, self.writes.len());
        };
        let drained = tokio::time::timeout(DRAIN, async {
            while let Some(done) = self.writes.join_next().await {
                if let Ok(Some(Bound {
                    event: Some(event), ..
                })) = done
                {
                    self.events.add(event);
                }
            }
            self.events.drain(&self.writer).await;
        });
        if drained.await.is_err() {
            debug!("writes were cut off");
        }
        result
    }

    fn watched<K>(
        &mut self,
        event: Result<watcher::Event<K>, watcher::Error>,
        handle: fn(&mut Self, watcher::Event<K>),
    ) {
        if let Ok(event) = event {
            handle(self, event);
        }
    }

    fn pod_event(&mut self, event: watcher::Event<Pod>) {
        match event {
            watcher::Event::Init => self.listing_pods.clear(),
            watcher::Event::InitApply(pod) => {
                self.listing_pods.insert(key(&pod));
                self.seen(pod);
            }
            watcher::Event::InitDone => {
                let listed = std::mem::take(&mut self.listing_pods);
                self.cache.retain_pods(|key| listed.contains(key));
                let gone: Vec<PodKey> = self
                    .pending
                    .keys()
                    .filter(|key| !listed.contains(*key))
                    .cloned()
                    .collect();
                for key in gone {
                    self.waiting.end(&key);
                    self.pending.remove(&key);
                    self.queue.remove(&key);
                }
                self.complete.pods = true;
                self.queue.cluster_changed(Instant::now());
            }
            watcher::Event::Apply(pod) => self.seen(pod),
            watcher::Event::Delete(pod) => self.gone(&key(&pod)),
        }
    }

    fn seen(&mut self, mut pod: Pod) {
        pod.metadata.managed_fields = None;
        let key = key(&pod);
        let phase = pod
            .status
            .as_ref()
            .and_then(|status| status.phase.as_deref());
        if matches!(phase, Some("Succeeded" | "Failed")) {
            return self.gone(&key);
        }
        let spec = pod.spec.as_ref();
        let node = spec
            .and_then(|spec| spec.node_name.clone())
            .filter(|name| !name.is_empty());
        if let Some(node) = node {
            self.waiting.end(&key);
            self.pending.remove(&key);
            self.queue.remove(&key);
            let info = PodInfo::new(Arc::new(pod), self.overhead());
            return self.cache.confirm(&key, &node, info);
        }
        let ours = spec
            .and_then(|spec| spec.scheduler_name.as_deref())
            .unwrap_or("default-scheduler")
            == self.config.scheduler_name;
        let gated = spec
            .and_then(|spec| spec.scheduling_gates.as_ref())
            .is_some_and(|gates| !gates.is_empty());
        if !ours || gated || pod.metadata.deletion_timestamp.is_some() {
            return self.gone(&key);
        }
        if self.cache.is_placed(&key) {
            // Being bound; this is news from before.
            return;
        }
        self.waiting.begin(&key);
        let priority = spec.and_then(|spec| spec.priority).unwrap_or(0);
        let pod = Arc::new(pod);
        let same = self
            .pending
            .get(&key)
            .is_some_and(|old| old.spec == pod.spec);
        self.pending.insert(key.clone(), pod);
        // Our own words in its status are no reason to try again.
        if !same {
            self.queue.add(&key, priority, Instant::now());
        }
    }

    fn gone(&mut self, key: &str) {
        self.waiting.end(key);
        self.pending.remove(key);
        self.queue.remove(key);
        if self.cache.remove_pod(key) {
            self.queue.cluster_changed(Instant::now());
        }
    }

    fn node_event(&mut self, event: watcher::Event<Node>) {
        match event {
            watcher::Event::Init => self.listing_nodes.clear(),
            watcher::Event::InitApply(node) => {
                self.listing_nodes.insert(node.name_any());
                self.set_node(node);
            }
            watcher::Event::InitDone => {
                let listed = std::mem::take(&mut self.listing_nodes);
                self.cache.retain_nodes(|name| listed.contains(name));
                self.complete.nodes = true;
                self.queue.cluster_changed(Instant::now());
            }
            watcher::Event::Apply(node) => self.set_node(node),
            watcher::Event::Delete(node) => {
                self.cache.remove_node(&node.name_any());
                // A handler may have gone with it, and with that the rule that kept pods away.
                self.queue.cluster_changed(Instant::now());
            }
        }
    }

    fn set_node(&mut self, mut node: Node) {
        node.metadata.managed_fields = None;
        let known = self.cache.node(&node.name_any());
        let matters = known.is_none_or(|info| differs(info.node(), &node));
        self.cache.set_node(Arc::new(node));
        if matters && self.complete.nodes {
            self.queue.cluster_changed(Instant::now());
        }
    }

    fn class_event(&mut self, event: watcher::Event<RuntimeClass>) {
        match event {
            watcher::Event::Init => self.handlers.clear(),
            watcher::Event::InitApply(class) | watcher::Event::Apply(class) => {
                self.handlers.insert(class.name_any(), class.handler);
            }
            watcher::Event::Delete(class) => {
                self.handlers.remove(&class.name_any());
            }
            watcher::Event::InitDone => {
                self.complete.classes = true;
                self.queue.cluster_changed(Instant::now());
            }
        }
    }

    fn overhead(&self) -> Overhead {
        let gates = &self.config.gates;
        if gates.runtime_class && gates.pod_overhead {
            Overhead::Counted
        } else {
            Overhead::Ignored
        }
    }

    fn bind(&mut self, key: PodKey, pod: Arc<Pod>, node: String) {
        let writer = Arc::clone(&self.writer);
        let binding = self.waiting.bind(&key);
        self.writes.spawn(async move {
            let (failed, event) = match writer.bind(&pod, &node).await {
                Ok(()) => {
                    let message = format!("Successfully assigned {key} to {node}");
                    (false, Some((EventType::Normal, "Scheduled", message)))
                }
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    debug!(pod = key, "it is gone");
                    (true, None)
                }
                Err(error) => {
                    warn!(pod = key, node, error = %Brief(&error), "cannot bind; trying again");
                    let message = format!("binding rejected: {}", Brief(&error));
                    let event = (EventType::Warning, "FailedScheduling", message);
                    (true, Some(event))
                }
            };
            binding.done(&pod, &node, failed);
            let event = event.map(|(type_, reason, message)| Occurrence {
                pod,
                type_,
                reason,
                message,
                at: Timestamp::now(),
            });
            Some(Bound { key, failed, event })
        });
    }

    fn tell_unschedulable(&mut self, pod: Arc<Pod>, message: String) {
        self.events.add(Occurrence {
            pod: Arc::clone(&pod),
            type_: EventType::Warning,
            reason: "FailedScheduling",
            message: message.clone(),
            at: Timestamp::now(),
        });
        let writer = Arc::clone(&self.writer);
        self.writes.spawn(async move {
            let result = writer.mark_unschedulable(&pod, &message).await;
            writer.status_written(&pod, &result);
            None
        });
    }

    /// Takes a write's result over. Without it a pod would count as placed for ever: a write that broke ends the role.
    fn written(
        &mut self,
        done: Result<Option<Bound>, tokio::task::JoinError>,
    ) -> Result<(), TaskError> {
        match done {
            Ok(Some(Bound { key, failed, event })) => {
                if failed {
                    self.cache.forget(&key);
                    self.queue.retry(&key, Instant::now());
                } else {
                    self.pending.remove(&key);
                    self.queue.remove(&key);
                }
                if let Some(event) = event {
                    self.events.add(event);
                }
            }
            Ok(None) => {}
            Err(error) => {
                let task = "write";
                return Err(match error.try_into_panic() {
                    Ok(panic) => TaskError::Panicked {
                        task,
                        reason: panic_reason(&*panic),
                    },
                    Err(_) => TaskError::Ended { task },
                });
            }
        }
        Ok(())
    }
}

fn key(pod: &Pod) -> PodKey {
    format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any())
}

/// Whether a change of a node can let a pod fit: not its heartbeats.
fn differs(old: &Node, new: &Node) -> bool {
    let status = |node: &Node| {
        let status = node.status.clone().unwrap_or_default();
        (status.allocatable, status.capacity, status.runtime_handlers)
    };
    old.spec != new.spec || old.metadata.labels != new.metadata.labels || status(old) != status(new)
}

#[cfg(test)]
mod tests {
    use berth_testkit::NodeBuilder;

    use super::*;

    #[test]
    fn a_heartbeat_is_no_reason_to_try_again() {
        let old = NodeBuilder::new("n").build();
        let mut new = old.clone();
        let status = new.status.get_or_insert_default();
        status.conditions.get_or_insert_default()[0].message = Some("still here".into());
        assert!(!differs(&old, &new));
        let labelled = NodeBuilder::new("n").label("disk", "ssd").build();
        assert!(differs(&old, &labelled));
        assert!(differs(
            &old,
            &NodeBuilder::new("n").handlers(&["runsc"]).build()
        ));
    }
}
