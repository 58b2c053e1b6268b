//! The scheduling loop: one task owns queue and cache and decides; writes run beside it.
//!
//! Tasks: this loop, which also reads the watches; one short task a write, in two sets (bindings and statuses, and events) that are drained at the end.

mod ask;
mod claims;
mod objects;
mod place;
mod preempt;
mod record;
mod watches;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_core::event::EventType;
use berth_core::resources::Overhead;
use berth_supervise::{Brief, TaskError, panic_reason};
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::Config;
use crate::cache::Cache;
use crate::class::ClassHandler;
use crate::known::Known;
use crate::nominations::Nominations;
use crate::queue::{PodKey, Queue};
use crate::selectors::Selectors;
use crate::trace::Waiting;
use crate::write::{Nominated, Occurrence, Writer};

use self::claims::Claiming;
use self::record::Recorder;

/// How long writes may go on after a shutdown began.
const DRAIN: Duration = Duration::from_secs(2);
/// Writes that go on at once: more would only wait at the server.
const WRITES_AT_ONCE: usize = 128;

/// What a write has come to.
enum Done {
    /// A bind.
    Bound {
        key: PodKey,
        failed: bool,
        event: Option<Occurrence>,
    },
    /// The deletion of a pod that makes room for another, with what is told of it.
    Evicted {
        victim: PodKey,
        for_pod: PodKey,
        event: kube::Result<Option<Occurrence>>,
    },
    /// What a pod's claims get.
    Claimed {
        key: PodKey,
        result: kube::Result<()>,
    },
    /// A status.
    StatusWritten,
}

/// Everything the loop owns.
pub(crate) struct SchedulerTask {
    config: Config,
    writer: Arc<Writer>,
    queue: Queue,
    cache: Cache,
    pending: HashMap<PodKey, Arc<Pod>>,
    nominations: Nominations,
    /// Pods whose deletion has been asked for and not been seen yet.
    leaving: HashSet<PodKey>,
    /// Handlers of RuntimeClasses.
    handlers: Known<ClassHandler>,
    namespaces: Known<BTreeMap<String, String>>,
    budgets: Known<PodDisruptionBudget>,
    claims: Known<PersistentVolumeClaim>,
    volumes: Known<PersistentVolume>,
    storage_classes: Known<StorageClass>,
    selectors: Selectors,
    /// Pods whose claims are being bound.
    claiming: HashMap<PodKey, Claiming>,
    /// The volumes that these get.
    reserved: BTreeSet<String>,
    listing_pods: HashSet<PodKey>,
    listing_nodes: HashSet<String>,
    complete: Complete,
    writes: JoinSet<Done>,
    events: Recorder,
    waiting: Waiting,
    /// The node at which the next search begins, where not all are looked at.
    next_node: usize,
}

/// Which first lists are there, beside those of what is [`Known`]. Nothing is decided on half a picture.
#[derive(Default)]
struct Complete {
    pods: bool,
    nodes: bool,
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
            nominations: Nominations::default(),
            leaving: HashSet::new(),
            handlers: Known::default(),
            namespaces: Known::default(),
            budgets: Known::default(),
            claims: Known::default(),
            volumes: Known::default(),
            storage_classes: Known::default(),
            selectors: Selectors::default(),
            claiming: HashMap::new(),
            reserved: BTreeSet::new(),
            listing_pods: HashSet::new(),
            listing_nodes: HashSet::new(),
            complete: Complete::default(),
            writes: JoinSet::new(),
            events: Recorder::default(),
            next_node: 0,
        }
    }

    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> Result<(), TaskError> {
        let mut news = watches::all(&self.config.client);
        let result = loop {
            let now = Instant::now();
            let may_place = self.is_complete() && self.writes.len() < WRITES_AT_ONCE;
            let is_ready = may_place && self.queue.is_ready(now);
            let due = self.queue.next_due(now).filter(|_| may_place);
            let due = due.into_iter().chain(self.claims_due()).min();
            let pause = due.map(|at| at.saturating_duration_since(now));
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break Ok(()),
                Some(one) = news.next() => if let Err(error) = self.hear(one) {
                    break Err(error);
                },
                Some(done) = self.writes.join_next() => if let Err(error) = self.written(done) {
                    break Err(error);
                },
                () = self.events.written() => {}
                () = std::future::ready(()), if is_ready => {}
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
            self.claims_overdue(Instant::now());
            self.place_some();
            self.events.write(&self.writer, self.writes.len());
        };
        let drained = tokio::time::timeout(DRAIN, async {
            while let Some(done) = self.writes.join_next().await {
                if let Ok(
                    Done::Bound {
                        event: Some(event), ..
                    }
                    | Done::Evicted {
                        event: Ok(Some(event)),
                        ..
                    },
                ) = done
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

    fn is_complete(&self) -> bool {
        self.complete.pods
            && self.complete.nodes
            && self.handlers.is_complete()
            && self.namespaces.is_complete()
            && self.budgets.is_complete()
            && self.claims.is_complete()
            && self.volumes.is_complete()
            && self.storage_classes.is_complete()
            && self.selectors.is_complete()
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
                    debug!(pod = key, "the pod is gone; it is not bound");
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
            Done::Bound { key, failed, event }
        });
    }

    fn tell_unschedulable(&mut self, pod: Arc<Pod>, message: String, nominated: Nominated) {
        self.events.add(Occurrence {
            pod: Arc::clone(&pod),
            type_: EventType::Warning,
            reason: "FailedScheduling",
            message: message.clone(),
            at: Timestamp::now(),
        });
        let writer = Arc::clone(&self.writer);
        self.writes.spawn(async move {
            let result = writer.mark_unschedulable(&pod, &message, &nominated).await;
            writer.status_written(&pod, &result);
            Done::StatusWritten
        });
    }

    /// Takes a write's result over. Without it a pod would count as placed for ever: a write that broke ends the role.
    fn written(&mut self, done: Result<Done, tokio::task::JoinError>) -> Result<(), TaskError> {
        match done {
            Ok(Done::Bound { key, failed, event }) => {
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
            Ok(Done::Evicted {
                victim,
                for_pod,
                event,
            }) => match event {
                Ok(event) => event.into_iter().for_each(|event| self.events.add(event)),
                Err(error) => {
                    warn!(pod = victim, error = %Brief(&error), "cannot delete a pod that makes room for another");
                    self.leaving.remove(&victim);
                    self.queue.retry(&for_pod, Instant::now());
                }
            },
            Ok(Done::Claimed { key, result }) => {
                if let Err(error) = result {
                    self.claims_failed(&key, &Brief(&error).to_string());
                }
            }
            Ok(Done::StatusWritten) => {}
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
