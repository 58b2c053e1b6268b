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

use crate::work::Work;

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
    let mut pending = Pending {
        work: Work::new(MEASURES),
        unknown: BTreeSet::new(),
    };
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
            && let Some(uid) = pending
                .work
                .take(|uid| collector.graph.lock().get(uid)?.namespace.clone())
        {
            running.push(collector.look_at(uid, complete));
        }
        let due = match begun {
            true => pending.work.next().filter(|_| running.len() < WORKERS),
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
                            let unknown = std::mem::take(&mut pending.unknown);
                            pending.add(unknown);
                        }
                        for resource in gone {
                            forget(&collector, &mut pending, &resource, &BTreeSet::new());
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
                    pending.add(collector.graph.lock().apply(*item));
                }
                Told::Deleted(uid) => {
                    pending.add(collector.graph.lock().remove(&uid));
                    pending.forget(&uid);
                }
                Told::Listed(resource, seen) => {
                    forget(&collector, &mut pending, &resource, &seen);
                    if let Some(one) = watched.get_mut(&resource.key()) {
                        one.listed = true;
                    }
                }
            },
            Some((uid, outcome)) = running.next(), if !running.is_empty() => {
                pending.finish(uid, outcome);
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

/// What is to be looked at.
struct Pending {
    work: Work,
    /// Owned by a kind that the server does not have.
    unknown: BTreeSet<String>,
}

impl Pending {
    fn add(&mut self, uids: impl IntoIterator<Item = String>) {
        uids.into_iter().for_each(|uid| self.work.add(uid));
    }

    fn finish(&mut self, uid: String, outcome: kube::Result<Outcome>) {
        match outcome {
            Ok(Outcome::Again(reason)) => {
                debug!(uid, reason, "an object is looked at again");
                return self.work.failed(uid);
            }
            Err(error) => {
                warn!(uid, error = %Brief(&error), "cannot collect an object yet");
                return self.work.failed(uid);
            }
            Ok(Outcome::UnknownKind) => {
                self.unknown.insert(uid.clone());
            }
            Ok(Outcome::Look(others)) => self.add(others),
            Ok(Outcome::Done) => {}
        }
        self.work.done(uid);
    }

    fn forget(&mut self, uid: &str) {
        self.work.forget(uid);
        self.unknown.remove(uid);
    }
}

/// Removes what was not seen of a resource, and queues those for which that may mean work.
fn forget(
    collector: &Collector,
    pending: &mut Pending,
    resource: &Resource,
    seen: &BTreeSet<String>,
) {
    let mut graph = collector.graph.lock();
    for uid in graph.unseen(resource, seen) {
        pending.add(graph.remove(&uid));
        pending.forget(&uid);
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
