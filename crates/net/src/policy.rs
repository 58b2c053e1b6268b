//! Enforces NetworkPolicies, and the floors that RuntimeClasses give their pods: a network plugin's part.
//!
//! | file | what it holds |
//! |---|---|
//! | `model.rs` | policies, pods and namespaces, as far as rules are made of them |
//! | `links.rs` | the ports of the pods' bridge, and which pod is behind each |
//! | `floors.rs` | what RuntimeClasses deny, also those that are gone |
//! | `ranges.rs` | ranges of addresses and ports |
//! | `resolve.rs`, `decisions.rs` | from all of these to what each pod of this node may do (pure) |
//! | `budget.rs` | what a namespace's policies may cost |
//! | `rules.rs`, `rules/bridge.rs` | from that to the rules (pure) |
//! | `judge.rs` | the same answers for connections that there are already (pure) |
//! | `learned.rs`, `cut.rs` | what the kernel says, and connections that are forbidden |
//! | `handle.rs` | how a pod's start waits until its rules are written |
//! | `network.rs` | which bridge pods are on |
//! | `port.rs` | marks a pod's port, where its runtime has not |
//!
//! One task: four watches, pods that are about to start, a wake-up when somebody changes nftables, and a look from time to time. The
//! rules stay when it ends, as pods do. A pod that they don't know reaches nobody, and nobody but this machine reaches it.

mod budget;
mod cut;
mod decisions;
mod floors;
mod handle;
mod judge;
mod learned;
mod links;
mod model;
mod network;
mod port;
mod ranges;
mod resolve;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use berth_supervise::{Outage, unblock};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::Client;
use kube::api::Api;
use kube::runtime::{WatchStreamExt as _, watcher};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::changes::Changes;
use crate::nft::{NftError, Table};
use crate::services::model::Key;
use crate::services::{
    LOOK, PAUSE, Seen, ServiceProxyError, TICK, TOGETHER, bridge, cidrs, soonest,
};
use cut::Owners;
use decisions::{Decisions, Facts};
use floors::{Annotations, Remembered};
use handle::Start;
pub use handle::{Closed, NotInForce, PolicyHandle};
use ipnet::IpNet;
use learned::Learned;
use links::Link;
pub use links::is_pod_uid;
use model::{Labels, Pod, Policy};
use network::{Network, NetworkError, Told};
pub use network::{RemoveError, remove, remove_remembered};
pub use port::PortError;
use resolve::Inputs;

/// Rules are listed so long after they were written: many pods' rules at once.
const LIST_AFTER: Duration = Duration::from_secs(1);
/// Pods that may wait for their rules without anybody looking.
const QUEUE: usize = 256;
/// What has to be known before rules are written.
const EVERYTHING: [&str; 6] = [
    "pods",
    "namespaces",
    "NetworkPolicies",
    "RuntimeClasses",
    "the bridge of the runtime's network",
    "the port of the node's own API",
];

/// Settings of what enforces NetworkPolicies.
#[derive(Clone)]
pub struct PolicyConfig {
    /// Client for the API server; it must be allowed what `system:network-policy` is.
    pub client: Client,
    /// The pods' bridge, after which the tables are named; nothing where the node agent says it later ([`PolicyHandle::pods_are_on`]).
    pub bridge: Option<String>,
    /// Addresses of the pods of this network, in CIDR notation; none where the bridge's own addresses say it.
    pub pod_cidrs: Vec<String>,
    /// Whether the node agent marks pods' ports ([`PolicyHandle::mark_port`]), since its runtime may not.
    pub marks_ports: bool,
    /// Where it is remembered which bridges have rules, for [`remove_remembered`]; nothing where that is known otherwise.
    pub bridges: Option<PathBuf>,
    /// The node's name, by which pods are its own.
    pub node: String,
    /// Addresses of the cluster's DNS server, where it is berth's own.
    pub dns: Vec<IpAddr>,
    /// Whether pods' RuntimeClasses count.
    pub runtime_classes: bool,
    /// Where it is remembered what RuntimeClasses deny.
    pub remembered: PathBuf,
}

/// What keeps the rules, and the handle by which others ask it.
///
/// # Errors
/// When the settings make no sense.
pub fn prepare(config: PolicyConfig) -> Result<(PolicyHandle, Enforcer), ServiceProxyError> {
    let (starts, queue) = mpsc::channel(QUEUE);
    let (closed, known) = watch::channel(Closed::default());
    let (lacks, lacking) = watch::channel(EVERYTHING.to_vec());
    if let Some(bridge) = &config.bridge {
        network::tables(bridge)?;
    }
    let told = Arc::new(watch::Sender::new(Told {
        bridge: config.bridge.map(Ok),
        ..Told::default()
    }));
    let handle = PolicyHandle {
        client: config.client.clone(),
        starts,
        closed: known,
        lacking,
        told: Arc::clone(&told),
        marks_ports: config.marks_ports,
    };
    let enforcer = Enforcer {
        client: config.client,
        queue,
        news: told.subscribe(),
        _told: told,
        configured: cidrs(&config.pod_cidrs)?,
        facts: Facts {
            node: config.node,
            dns: config.dns,
            bridge_passes_rules: true,
            ..Facts::default()
        },
        runtime_classes: config.runtime_classes,
        pods: Seen::default(),
        namespaces: Seen::default(),
        policies: Seen::default(),
        classes: Seen::default(),
        attached: BTreeMap::new(),
        waiting: Vec::new(),
        links: Vec::new(),
        network: Network::new(config.bridges),
        remembered: Remembered::read(&config.remembered),
        decided: None,
        is_told: false,
        settles: None,
        owners: None,
        closed,
        lacks,
        outage: Outage::new("cannot keep the rules of pods' networks"),
    };
    Ok((handle, enforcer))
}

/// Keeps the rules.
pub struct Enforcer {
    client: Client,
    queue: mpsc::Receiver<Start>,
    /// What the node agent says.
    news: watch::Receiver<Told>,
    /// So that there is always somebody who could say more.
    _told: Arc<watch::Sender<Told>>,
    /// Where pods are, as it was configured.
    configured: Vec<IpNet>,
    facts: Facts,
    runtime_classes: bool,
    pods: Seen<Pod>,
    namespaces: Seen<Labels>,
    policies: Seen<Policy>,
    classes: Seen<Annotations>,
    /// Pods that were started here, by UID.
    attached: BTreeMap<String, Pod>,
    /// Pods whose start waits.
    waiting: Vec<Start>,
    links: Vec<Link>,
    network: Network,
    remembered: Remembered,
    /// What the rules say; nothing before they were written, and what they forbid was cut.
    decided: Option<Decisions>,
    /// Whether the log has that they are written.
    is_told: bool,
    /// When to look how nft lists what was written.
    settles: Option<Instant>,
    /// Whose each address was at the last look; nothing before the first.
    owners: Option<Owners>,
    closed: watch::Sender<Closed>,
    /// What is not known yet.
    lacks: watch::Sender<Vec<&'static str>>,
    outage: Outage,
}

impl Enforcer {
    /// Keeps them until `shutdown`; they stay, as pods do.
    ///
    /// A boxed future: its code is compiled here, beside that of other crates, and not once more in each program.
    pub fn run(self, shutdown: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(self.work(shutdown))
    }

    async fn work(mut self, shutdown: CancellationToken) {
        let client = self.client.clone();
        unblock(bridge::prepare).await;
        let config = watcher::Config::default;
        let pods: Api<v1::Pod> = Api::all(client.clone());
        let namespaces: Api<v1::Namespace> = Api::all(client.clone());
        let policies: Api<NetworkPolicy> = Api::all(client.clone());
        let classes: Api<RuntimeClass> = Api::all(client);
        let mut pods = Box::pin(watcher(pods, config()).default_backoff());
        let mut namespaces = Box::pin(watcher(namespaces, config()).default_backoff());
        let mut policies = Box::pin(watcher(policies, config()).default_backoff());
        let mut classes = Box::pin(watcher(classes, config()).default_backoff());
        let outage = |what: &str| Outage::new(format!("cannot watch {what} for NetworkPolicies"));
        let mut outages = [EVERYTHING[0], EVERYTHING[1], EVERYTHING[2], EVERYTHING[3]].map(outage);
        let [of_pods, of_namespaces, of_policies, of_classes] = &mut outages;
        self.classes.is_listed = !self.runtime_classes;
        let changes = Changes::new()
            .inspect_err(|error| {
                warn!(%error, "changes of nftables by others are seen later: the kernel tells nothing of them");
            })
            .ok();
        let mut learning = Outage::new("cannot learn of changes of nftables by others");
        let mut last = Instant::now();
        let mut due = last + TICK;
        loop {
            let changed = async {
                match &changes {
                    Some(changes) => changes.next().await,
                    None => std::future::pending().await,
                }
            };
            let settles = self.settles;
            let seen = tokio::select! {
                () = shutdown.cancelled() => return,
                Some(event) = policies.next() => {
                    of_policies.watched(&event);
                    !self.is_late(&event) && self.policies.see(event, |policy| &policy.metadata, Policy::parse)
                }
                Some(event) = pods.next() => {
                    of_pods.watched(&event);
                    self.pods.see(event, |pod| &pod.metadata, Pod::parse)
                }
                Some(event) = namespaces.next() => {
                    of_namespaces.watched(&event);
                    self.namespaces.see(event, |namespace| &namespace.metadata, model::namespace_labels)
                }
                Some(event) = classes.next(), if self.runtime_classes => {
                    of_classes.watched(&event);
                    self.classes.see(event, |class| &class.metadata, floors::parse)
                }
                Some(start) = self.queue.recv() => {
                    self.take(start);
                    while let Ok(start) = self.queue.try_recv() {
                        self.take(start);
                    }
                    // Its pod waits for it.
                    due = Instant::now();
                    false
                }
                Ok(()) = self.news.changed() => {
                    due = Instant::now();
                    false
                }
                result = changed => {
                    match result {
                        Ok(()) => learning.works(),
                        Err(error) => {
                            learning.failed(error);
                            tokio::time::sleep(PAUSE).await;
                        }
                    }
                    if let Some(kept) = self.network.kept() {
                        kept.doubt();
                    }
                    due = due.min(soonest(last, LOOK));
                    false
                }
                () = tokio::time::sleep_until(settles.unwrap_or(due)), if settles.is_some() => {
                    if !self.settle().await {
                        due = Instant::now();
                    }
                    false
                }
                () = tokio::time::sleep_until(due) => {
                    let began = Instant::now();
                    let again = self.look().await;
                    last = Instant::now();
                    // Many policies cost time: others get as much of it.
                    due = last + again.unwrap_or(TICK);
                    last += began.elapsed();
                    false
                }
            };
            if seen {
                due = due.min(soonest(last, TOGETHER));
            }
        }
    }

    /// Whether the watch says what a pod's start has learned to be over: an older state of a policy, or the end of one whose name another
    /// one has.
    fn is_late(&self, event: &Result<watcher::Event<NetworkPolicy>, watcher::Error>) -> bool {
        let (object, is_end) = match event {
            Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                (object, false)
            }
            Ok(watcher::Event::Delete(object)) => (object, true),
            Ok(watcher::Event::Init | watcher::Event::InitDone) | Err(_) => return false,
        };
        let Some(known) = self.policies.all.get(&Key::of(&object.metadata)) else {
            return false;
        };
        if is_end {
            return object.metadata.uid.as_ref() != Some(&known.uid);
        }
        let version = model::version(&object.metadata);
        matches!((version, known.version), (Some(new), Some(known)) if new < known)
    }

    /// A pod is about to start.
    fn take(&mut self, start: Start) {
        for policy in &start.policies {
            let known = self.policies.all.get(&policy.key);
            if known.is_none_or(|known| known.version < policy.version) {
                let key = policy.key.clone();
                self.policies.all.insert(key, policy.clone());
            }
        }
        self.attached
            .insert(start.pod.uid.clone(), start.pod.clone());
        self.waiting.push(start);
    }

    /// Brings everything about; gives when to try again if something failed.
    async fn look(&mut self) -> Option<Duration> {
        // Nothing is opened or closed for what is not known yet. Pods that start wait.
        let told = self.news.borrow().clone();
        let known = [
            self.pods.is_listed,
            self.namespaces.is_listed,
            self.policies.is_listed,
            self.classes.is_listed,
            told.bridge.is_some() || self.network.is_remembered(),
            told.node_port != 0,
        ];
        let lacks = EVERYTHING.into_iter().zip(known);
        let lacks: Vec<&str> = lacks
            .filter(|(_, known)| !known)
            .map(|(what, _)| what)
            .collect();
        let is_ready = lacks.is_empty();
        self.lacks.send_replace(lacks);
        if !is_ready {
            return None;
        }
        match self.enforce(told).await {
            Ok(()) => {
                self.outage.works();
                None
            }
            Err(error) => {
                self.answer(|_| Err(format!("the rules of its network are not written: {error}")));
                Some(self.outage.failed(error))
            }
        }
    }

    async fn enforce(&mut self, told: Told) -> Result<(), Failed> {
        self.learn(told).await?;
        let decisions = self.decide()?;
        let rules = rules::rules(&decisions, &self.links, &self.facts);
        let Some(kept) = self.network.kept() else {
            return Ok(());
        };
        let changed = kept.write([&rules.inet, &rules.bridge]).await?;
        let table = kept.table().map(Table::to_string);
        self.forget_connections_of_the_gone().await?;
        // Before those are told that wait: what they may have heard of must be true.
        self.tell(&decisions);
        let bridge = self.facts.bridge.clone();
        self.answer(|uid| match decisions.closed.get(uid) {
            _ if decisions.subjects.contains_key(uid) => Ok(()),
            Some(reason) => Err(reason.clone()),
            None => Err(format!(
                "the bridge {bridge} has no port that is marked as the pod's"
            )),
        });
        let is_tighter = match &self.decided {
            Some(before) => judge::is_tighter(before, &decisions),
            None => true,
        };
        let is_cut = !is_tighter || cut::cut(&decisions, &self.facts, &self.links).await;
        if !std::mem::replace(&mut self.is_told, true) {
            info!(table, "NetworkPolicies are enforced");
        }
        // What could not be cut is tried again at the next look.
        self.decided = is_cut.then_some(decisions);
        if changed {
            self.settles.get_or_insert(Instant::now() + LIST_AFTER);
        }
        Ok(())
    }

    /// Cuts the connections of pods that have gone since the last look.
    async fn forget_connections_of_the_gone(&mut self) -> io::Result<()> {
        let owned = self.links.iter().flat_map(|link| {
            let addresses = link.addresses.iter();
            addresses.map(|address| (*address, link.uid.clone()))
        });
        let owners: Owners = owned.collect();
        cut::cut_gone(self.owners.as_ref(), &owners, &self.facts).await?;
        self.owners = Some(owners);
        Ok(())
    }

    /// Learns what the kernel knows.
    async fn learn(&mut self, told: Told) -> Result<(), Failed> {
        self.network.learn(told.bridge.as_ref())?;
        let bridge = self.network.bridge().unwrap_or_default();
        bridge.clone_into(&mut self.facts.bridge);
        let Learned {
            own,
            passes,
            links,
            networks,
        } = learned::learn(&self.facts.bridge).await?;
        if !passes && !links.is_empty() && self.facts.bridge_passes_rules {
            warn!(
                bridge = self.facts.bridge,
                "the kernel has no br_netfilter: pods that a NetworkPolicy isolates cannot be reached by other pods of this node directly"
            );
        }
        (self.facts.own, self.facts.bridge_passes_rules) = (own, passes);
        self.facts.node_port = told.node_port;
        self.facts.pod_cidrs = match self.configured.is_empty() {
            true => learned::pod_cidrs(&networks, &links),
            false => self.configured.clone(),
        };
        self.links = links;
        let links: BTreeSet<&str> = self.links.iter().map(|link| link.uid.as_str()).collect();
        self.attached.retain(|uid, _| links.contains(uid.as_str()));
        Ok(())
    }

    fn decide(&mut self) -> io::Result<Decisions> {
        let here = self.pods.all.values();
        let here = here.filter(|pod| pod.node == self.facts.node);
        let named = here.chain(self.attached.values());
        let named: BTreeSet<&str> = match self.runtime_classes {
            true => named.filter_map(|pod| pod.class.as_deref()).collect(),
            false => BTreeSet::new(),
        };
        let seen = |class: &str| {
            let key = Key {
                namespace: String::new(),
                name: class.to_owned(),
            };
            self.classes.all.get(&key)
        };
        let floors = self.remembered.floors(&named, seen)?;
        Ok(resolve::resolve(&Inputs {
            pods: &self.pods.all,
            attached: &self.attached,
            namespaces: &self.namespaces.all,
            policies: &self.policies.all,
            links: &self.links,
            floors: self.runtime_classes.then_some(&floors),
            facts: &self.facts,
        }))
    }

    /// Looks how nft lists the rules, to know them again; false when they have to be written anew.
    async fn settle(&mut self) -> bool {
        self.settles = None;
        let Some(kept) = self.network.kept() else {
            return true;
        };
        let settled = kept.settle().await;
        settled.unwrap_or_else(|error| {
            warn!(%error, "cannot list the rules of pods' networks; they are written anew");
            false
        })
    }

    /// Answers those that wait.
    fn answer(&mut self, answer: impl Fn(&str) -> Result<(), String>) {
        for start in self.waiting.drain(..) {
            let answer = match start.pod.host_network {
                true => Ok(()),
                false => answer(&start.pod.uid),
            };
            // Who waited may have given up.
            let _unheard = start.done.send(answer);
        }
    }

    /// Says which pods are closed.
    fn tell(&self, decisions: &Decisions) {
        self.closed.send_if_modified(|told| {
            let differs = **told != decisions.closed;
            if differs {
                *told = Arc::new(decisions.closed.clone());
            }
            differs
        });
    }
}

/// Why the rules are not what they should be.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Nft(#[from] NftError),
}
