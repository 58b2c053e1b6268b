//! Garbage collection: objects whose owners are gone go, too, and an owner that is deleted in the foreground goes after
//! its dependents (`metadata.ownerReferences`, `propagationPolicy`), as the stock collector does it.
//!
//! | file | what it holds |
//! |---|---|
//! | `resources.rs` | what can be collected, by the discovery |
//! | `graph.rs` | who owns whom |
//! | `collect.rs` | what is done about one object |
//!
//! Every collectable resource is watched by its metadata. What is removed is judged by the object and its owners as they
//! are at that moment, read from the server, never by what the watches told.
//!
//! Tasks: one a watched resource, and the look at objects, a few at a time.

mod collect;
mod graph;
mod resources;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use berth_supervise::measures::WorkQueue;
use berth_supervise::{Brief, Outage, Tasks};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use kube::Client;
use kube::runtime::{WatchStreamExt as _, watcher};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use collect::{Collector, Outcome};
use graph::Item;
use resources::{Resource, Resources};

use crate::queue::Queue;

/// How often the server is asked which resources it has; at once after a CustomResourceDefinition changed.
const DISCOVERY: Duration = Duration::from_secs(30);
/// Definitions come in groups: this long after the first the discovery is asked.
const SETTLE: Duration = Duration::from_millis(300);
/// How many objects are looked at together.
const WORKERS: usize = 8;
/// Nothing is judged before every resource is listed, or this long after the start.
const PATIENCE: Duration = Duration::from_secs(30);
/// Objects that are listed at a time. Metadata has as many owners and managed fields as a request has room for.
const PAGE: u32 = 100;
/// Events that wait to be taken in.
const BACKLOG: usize = 1024;

/// What a watch tells.
enum Told {
    Applied(Box<Item>),
    Deleted(String),
    /// All objects of a resource were listed: these.
    Listed(Arc<Resource>, BTreeSet<String>),
}

/// A watched resource.
struct Watched {
    listed: bool,
    stop: CancellationToken,
    resource: Arc<Resource>,
}

/// Runs until the tasks are to stop.
pub async fn run(client: Client, tasks: Tasks) {
    let (sender, mut told) = mpsc::channel(BACKLOG);
    let collector = Collector {
        client: client.clone(),
        graph: Mutex::default(),
        resources: Mutex::default(),
    };
    let mut watched: HashMap<(String, String), Watched> = HashMap::new();
    let mut work = Work::default();
    let mut running = FuturesUnordered::new();
    let mut outage = Outage::new("cannot ask which resources there are");
    let mut discover_at = Instant::now();
    let patience = Instant::now() + PATIENCE;
    let shutdown = tasks.stop_token();
    loop {
        let complete = !watched.is_empty() && watched.values().all(|one| one.listed);
        let begun = complete || Instant::now() >= patience;
        while begun
            && running.len() < WORKERS
            && let Some(uid) = work.take(|uid| collector.graph.lock().get(uid)?.namespace.clone())
        {
            running.push(collector.look_at(uid, complete));
        }
        let due = match begun {
            true => work.queue.next().filter(|_| running.len() < WORKERS),
            false => Some(patience),
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep_until(discover_at) => {
                match Resources::discover(&client).await {
                    Ok(resources) => {
                        outage.works();
                        discover_at = Instant::now() + DISCOVERY;
                        let gone = follow(&tasks, &client, &resources, &mut watched, &sender);
                        let before = std::mem::replace(
                            &mut *collector.resources.lock(),
                            Arc::new(resources),
                        );
                        if !collector.resources.lock().has_kinds_of(&before) {
                            let unknown = std::mem::take(&mut work.unknown);
                            work.add(unknown);
                        }
                        for resource in gone {
                            forget(&collector, &mut work, &resource, &BTreeSet::new());
                        }
                    }
                    Err(error) => discover_at = Instant::now() + outage.failed(Brief(&error)),
                }
            }
            Some(event) = told.recv() => match event {
                Told::Applied(item) => {
                    if item.resource.api.kind == "CustomResourceDefinition" {
                        discover_at = discover_at.min(Instant::now() + SETTLE);
                    }
                    work.add(collector.graph.lock().apply(*item));
                }
                Told::Deleted(uid) => {
                    work.add(collector.graph.lock().remove(&uid));
                    work.forget(&uid);
                }
                Told::Listed(resource, seen) => {
                    forget(&collector, &mut work, &resource, &seen);
                    if let Some(one) = watched.get_mut(&resource.key()) {
                        one.listed = true;
                    }
                }
            },
            Some((uid, outcome)) = running.next(), if !running.is_empty() => {
                work.finish(uid, outcome);
            }
            () = async {
                match due {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            } => {}
        }
    }
}

impl Collector {
    async fn look_at(&self, uid: String, complete: bool) -> (String, kube::Result<Outcome>) {
        let outcome = self.look(&uid, complete).await;
        (uid, outcome)
    }
}

const MEASURES: WorkQueue = WorkQueue::new("garbage_collector_attempt_to_delete");

/// An object that is being looked at.
struct Busy {
    /// Something has changed meanwhile.
    again: bool,
    since: Instant,
}

/// What is to be looked at.
#[derive(Default)]
struct Work {
    queue: Queue,
    /// Since when each of those in the queue waits.
    waiting: HashMap<String, Instant>,
    /// Being looked at.
    busy: HashMap<String, Busy>,
    /// Owned by a kind that the server does not have.
    unknown: BTreeSet<String>,
}

impl Work {
    fn add(&mut self, uids: impl IntoIterator<Item = String>) {
        for uid in uids {
            MEASURES.added();
            self.enqueue(uid);
        }
    }

    fn enqueue(&mut self, uid: String) {
        let now = Instant::now();
        self.waiting.entry(uid.clone()).or_insert(now);
        self.queue.add(uid, now);
        MEASURES.depth(self.waiting.len());
    }

    fn enqueue_failed(&mut self, uid: String) {
        MEASURES.retried();
        let now = Instant::now();
        self.waiting.entry(uid.clone()).or_insert(now);
        self.queue.add_failed(uid, now);
        MEASURES.depth(self.waiting.len());
    }

    /// What is due; an object that is being looked at is looked at once more after that.
    fn take(&mut self, namespace_of: impl Fn(&str) -> Option<String>) -> Option<String> {
        while let Some(uid) = self.queue.take(Instant::now(), &namespace_of) {
            let now = Instant::now();
            if let Some(since) = self.waiting.remove(&uid) {
                MEASURES.taken(now - since);
                MEASURES.depth(self.waiting.len());
            }
            match self.busy.get_mut(&uid) {
                Some(busy) => busy.again = true,
                None => {
                    let busy = Busy {
                        again: false,
                        since: now,
                    };
                    self.busy.insert(uid.clone(), busy);
                    return Some(uid);
                }
            }
        }
        None
    }

    fn finish(&mut self, uid: String, outcome: kube::Result<Outcome>) {
        let busy = self.busy.remove(&uid);
        if let Some(busy) = &busy {
            MEASURES.done(busy.since.elapsed());
        }
        let again = busy.is_some_and(|busy| busy.again);
        match outcome {
            Ok(Outcome::Again(reason)) => {
                debug!(uid, reason, "an object is looked at again");
                self.enqueue_failed(uid);
                return;
            }
            Err(error) => {
                warn!(uid, error = %Brief(&error), "cannot collect an object yet");
                self.enqueue_failed(uid);
                return;
            }
            Ok(Outcome::UnknownKind) => {
                self.unknown.insert(uid.clone());
            }
            Ok(Outcome::Look(others)) => self.add(others),
            Ok(Outcome::Done) => {}
        }
        self.queue.forget(&uid);
        if again {
            self.add([uid]);
        }
    }

    fn forget(&mut self, uid: &str) {
        self.queue.forget(uid);
        self.unknown.remove(uid);
    }
}

/// Removes what was not seen of a resource, and queues those for which that may mean work.
fn forget(collector: &Collector, work: &mut Work, resource: &Resource, seen: &BTreeSet<String>) {
    let mut graph = collector.graph.lock();
    for uid in graph.unseen(resource, seen) {
        work.add(graph.remove(&uid));
        work.forget(&uid);
    }
}

/// Watches what is new, and ends the watches of what is gone, which are returned.
fn follow(
    tasks: &Tasks,
    client: &Client,
    resources: &Resources,
    watched: &mut HashMap<(String, String), Watched>,
    sender: &mpsc::Sender<Told>,
) -> Vec<Arc<Resource>> {
    let present: HashMap<_, _> = resources
        .collected
        .iter()
        .map(|resource| (resource.key(), resource))
        .collect();
    let mut gone = Vec::new();
    watched.retain(|key, one| {
        let same = |now: &&Arc<Resource>| now.api == one.resource.api;
        let stays = present.get(key).is_some_and(same);
        if !stays {
            one.stop.cancel();
            gone.push(Arc::clone(&one.resource));
        }
        stays
    });
    for (key, resource) in present {
        watched.entry(key).or_insert_with(|| {
            let stop = tasks.stop_token().child_token();
            let task = watch(
                client.clone(),
                Arc::clone(resource),
                sender.clone(),
                stop.clone(),
            );
            tasks.spawn("watch of a collected resource", task);
            Watched {
                listed: false,
                stop,
                resource: Arc::clone(resource),
            }
        });
    }
    gone
}

/// Tells of all objects of a resource until `stop`.
async fn watch(
    client: Client,
    resource: Arc<Resource>,
    told: mpsc::Sender<Told>,
    stop: CancellationToken,
) {
    let mut outage = Outage::new(format!("cannot watch {}", resource.api.plural));
    let api = resource.objects(&client, None);
    let config = watcher::Config::default().page_size(PAGE);
    let events = watcher(api, config).default_backoff();
    let mut events = std::pin::pin!(events.take_until(stop.cancelled()));
    let mut seen = BTreeSet::new();
    while let Some(event) = events.next().await {
        outage.watched(&event);
        let Ok(event) = event else {
            continue;
        };
        let tell = match event {
            watcher::Event::Init => {
                seen.clear();
                continue;
            }
            watcher::Event::InitApply(object) => match Item::new(&resource, object.metadata) {
                Some(item) => {
                    seen.insert(item.uid.clone());
                    Told::Applied(Box::new(item))
                }
                None => continue,
            },
            watcher::Event::InitDone => {
                Told::Listed(Arc::clone(&resource), std::mem::take(&mut seen))
            }
            watcher::Event::Apply(object) => match Item::new(&resource, object.metadata) {
                Some(item) => Told::Applied(Box::new(item)),
                None => continue,
            },
            watcher::Event::Delete(object) => match object.metadata.uid {
                Some(uid) => Told::Deleted(uid),
                None => continue,
            },
        };
        if told.send(tell).await.is_err() {
            return;
        }
    }
}
