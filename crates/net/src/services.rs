//! Leads what is sent to a Service to its endpoints: kube-proxy's part.
//!
//! | file | what it holds |
//! |---|---|
//! | `model.rs`, `model/near.rs` | Services and EndpointSlices, as far as rules are made of them; which endpoints count |
//! | `facts.rs`, `zone.rs` | what is known of the node |
//! | `rules.rs` | from both to the rules (pure) |
//! | `kept.rs` | the rules in the kernel: what was written, and whether it still stands |
//! | `conntrack.rs` | connections to endpoints that are gone |
//! | `listeners.rs`, `bridge.rs` | what the kernel says of ports in use, and of the pods' bridge |
//! | `balancer.rs`, `health.rs` | the status of Services of type LoadBalancer, and their health check ports |
//!
//! One task: three watches, a wake-up when somebody changes nftables, and a look from time to time. Changes that come
//! together are written together. The rules stay when it ends, as pods do. Where a kube-proxy runs it isn't started. It
//! needs that one's rights (`system:node-proxier`) and nothing of the node agent.

mod balancer;
pub(crate) mod bridge;
pub(crate) mod conntrack;
pub(crate) mod facts;
mod health;
pub(crate) mod kept;
mod listeners;
pub(crate) mod model;
mod rules;
mod zone;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use berth_supervise::{Brief, Outage, unblock};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use ipnet::IpNet;
use k8s_openapi::api::core::v1;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::{Api, ObjectMeta};
use kube::runtime::{WatchStreamExt as _, watcher};
use thiserror::Error;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::changes::Changes;
use crate::nft::{NftError, Table};
use balancer::Balancer;
use facts::{Facts, Protocol};
use health::Health;
use kept::Kept;
use model::{Key, Service, Slice};
use rules::{Front, Plan};

/// What a Service of another proxy has, and what has no address to lead from.
const NOT_OURS: &str = "!service.kubernetes.io/service-proxy-name,!service.kubernetes.io/headless";
/// Shortest time between two transactions.
pub(crate) const PAUSE: Duration = Duration::from_millis(100);
/// Changes that come together are waited for so long.
pub(crate) const TOGETHER: Duration = Duration::from_millis(15);
/// How often everything is looked at in any case: interfaces and listening programs change without a word.
pub(crate) const TICK: Duration = Duration::from_secs(15);
/// The soonest look after somebody has changed nftables.
pub(crate) const LOOK: Duration = Duration::from_millis(500);

/// Settings of the proxy.
#[derive(Clone)]
pub struct ServiceProxyConfig {
    /// Client for the API server; it must be allowed what `system:kube-proxy` is.
    pub client: Client,
    /// The pods' network, as the table is named after it: the interface of its bridge.
    pub network: String,
    /// Addresses of the pods of this network, in CIDR notation; none when nobody knows them: then it doesn't matter who
    /// sends.
    pub pod_cidrs: Vec<String>,
    /// The node's name, by which endpoints are its own.
    pub node: String,
    /// The addresses that the node reports.
    pub addresses: Vec<IpAddr>,
    /// Ports of the node's own servers: no Service gets them.
    pub reserved: Vec<u16>,
    /// Which `externalIPs` are led, in CIDR notation.
    pub external_ips: Vec<String>,
    /// Client that may write the status of Services; without it those of type LoadBalancer have no address.
    pub balancer: Option<Client>,
}

/// Why it can't begin.
#[derive(Debug, Error)]
pub enum ServiceProxyError {
    /// Something is no range of addresses.
    #[error("{text:?} is not a range of addresses in CIDR notation (such as 192.0.2.0/24)")]
    Cidr {
        /// What was given.
        text: String,
    },
    /// The network has no name for a table.
    #[error(transparent)]
    Table(#[from] NftError),
}

/// Keeps the rules until `shutdown`; they stay, as pods do.
///
/// # Errors
/// When the settings make no sense.
///
/// A boxed future: its code is compiled here, beside that of other crates, and not once more in each program.
pub fn run(
    config: ServiceProxyConfig,
    shutdown: CancellationToken,
) -> Result<BoxFuture<'static, ()>, ServiceProxyError> {
    let proxy = Proxy::new(&config)?;
    Ok(Box::pin(proxy.work(config.client, shutdown)))
}

pub(crate) fn cidrs(list: &[String]) -> Result<Vec<IpNet>, ServiceProxyError> {
    let parts = list.iter().flat_map(|text| text.split(','));
    parts
        .map(str::trim)
        .filter(|text| !text.is_empty())
        .map(|text| {
            let parsed = text.parse::<IpNet>();
            parsed
                .map(|cidr| cidr.trunc())
                .map_err(|_| ServiceProxyError::Cidr {
                    text: text.to_owned(),
                })
        })
        .collect()
}

struct Proxy {
    network: String,
    facts: Facts,
    services: Seen<Service>,
    slices: Seen<Slice>,
    kept: Kept<1>,
    balancer: Option<Balancer>,
    health: Health,
    /// What was led by the last plan; nothing before the first.
    fronts: Option<BTreeMap<Front, Vec<SocketAddr>>>,
    /// Services that cost too much, as last said.
    left_out: BTreeMap<Key, String>,
    outage: Outage,
    telling: Outage,
}

impl Proxy {
    fn new(config: &ServiceProxyConfig) -> Result<Self, ServiceProxyError> {
        Ok(Self {
            network: config.network.clone(),
            facts: Facts {
                node: config.node.clone(),
                addresses: config.addresses.clone(),
                pod_cidrs: cidrs(&config.pod_cidrs)?,
                external_ips: cidrs(&config.external_ips)?,
                reserved: config.reserved.iter().copied().collect(),
                ..Facts::default()
            },
            services: Seen::default(),
            slices: Seen::default(),
            kept: Kept::new("of Services", [Table::new("services", &config.network)?]),
            balancer: config.balancer.clone().map(Balancer::new),
            health: Health::new(config.addresses.clone()),
            fronts: None,
            left_out: BTreeMap::new(),
            outage: Outage::new("cannot keep the rules that lead to Services"),
            telling: Outage::new("cannot write the status of a Service of type LoadBalancer"),
        })
    }

    async fn work(mut self, client: Client, shutdown: CancellationToken) {
        unblock(bridge::prepare).await;
        let services: Api<v1::Service> = Api::all(client.clone());
        let slices: Api<EndpointSlice> = Api::all(client.clone());
        let ours = watcher::Config::default().labels(NOT_OURS);
        let mut services = Box::pin(watcher(services, ours.clone()).default_backoff());
        let mut slices = Box::pin(watcher(slices, ours).default_backoff());
        let mut zone = zone::watch(client.clone(), &self.facts.node);
        let mut watching = Outage::new("cannot watch Services");
        let mut watching_slices = Outage::new("cannot watch EndpointSlices");
        let mut learning = Outage::new("cannot learn of changes of nftables by others");
        let changes = Changes::new()
            .inspect_err(|error| {
                warn!(%error, "changes of nftables by others are seen later: the kernel tells nothing of them");
            })
            .ok();
        let mut last = Instant::now();
        let mut due = last + TICK;
        loop {
            let changed = async {
                match &changes {
                    Some(changes) => changes.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(event) = services.next() => {
                    watching.watched(&event);
                    if self.services.see(event, |service| &service.metadata, Service::parse) {
                        due = due.min(soonest(last, TOGETHER));
                    }
                }
                Some(event) = slices.next() => {
                    watching_slices.watched(&event);
                    if self.slices.see(event, |slice| &slice.metadata, Slice::parse) {
                        due = due.min(soonest(last, TOGETHER));
                    }
                }
                Some(zone) = zone.next() => {
                    if self.facts.zone != zone {
                        self.facts.zone = zone;
                        due = due.min(soonest(last, TOGETHER));
                    }
                }
                result = changed => {
                    match result {
                        Ok(()) => learning.works(),
                        Err(error) => {
                            learning.failed(error);
                            tokio::time::sleep(PAUSE).await;
                        }
                    }
                    self.kept.doubt();
                    due = due.min(soonest(last, LOOK));
                }
                () = tokio::time::sleep_until(due) => {
                    let began = Instant::now();
                    let again = self.look().await;
                    last = Instant::now();
                    // Many Services cost time: others get as much of it.
                    due = last + again.unwrap_or(TICK);
                    last += began.elapsed();
                }
            }
        }
    }

    /// Brings everything about; gives when to try again if something failed.
    async fn look(&mut self) -> Option<Duration> {
        // Nothing is taken away for what is not known yet.
        if !self.services.is_listed || !self.slices.is_listed {
            return None;
        }
        if let Err(error) = self.learn().await {
            return Some(self.outage.failed(error));
        }
        let plan = rules::plan(
            self.services.all.values(),
            self.slices.all.values(),
            &self.facts,
        );
        for (key, reason) in &plan.left_out {
            if !self.left_out.contains_key(key) {
                let Key { namespace, name } = key;
                warn!(namespace, name, reason, "a Service is refused");
            }
        }
        self.left_out.clone_from(&plan.left_out);
        match self.kept.keep([&plan.ruleset]).await {
            Ok(changed) => {
                self.outage.works();
                if changed {
                    debug!(
                        services = self.services.all.len(),
                        chains = plan.ruleset.chains.len(),
                        "Services are led to their endpoints"
                    );
                }
                if self.fronts.is_none() {
                    info!(
                        table = self.kept.table().map(Table::to_string),
                        services = self.services.all.len(),
                        "Services are led to their endpoints"
                    );
                }
            }
            Err(error) => return Some(self.outage.failed(error)),
        }
        self.cut(&plan).await;
        self.health.keep(&plan.health).await;
        let mut again = None;
        if let Some(balancer) = &mut self.balancer {
            match balancer.tell(&self.services.all, &plan.balanced).await {
                Ok(()) => self.telling.works(),
                Err(error) => again = Some(self.telling.failed(Brief(&error))),
            }
        }
        self.fronts = Some(plan.fronts);
        again
    }

    /// Learns what the kernel knows.
    async fn learn(&mut self) -> std::io::Result<()> {
        let balanced = self.services.all.values().any(|service| service.balanced);
        let (addresses, network) = (self.facts.addresses.clone(), self.network.clone());
        let learned = unblock(move || {
            let own = facts::own_addresses()?;
            let taken = match balanced {
                true => listeners::taken(&addresses)?,
                false => BTreeSet::new(),
            };
            std::io::Result::Ok((own, taken, bridge::passes_rules(&network)))
        });
        let (own, taken, passes) = learned.await?;
        self.facts.own = own;
        self.facts.taken = taken;
        self.facts.bridge_passes_rules = passes;
        Ok(())
    }

    /// Cuts connections whose endpoint is gone, when one has gone.
    async fn cut(&mut self, plan: &Plan) {
        let gone: BTreeSet<Front> = match &self.fronts {
            Some(before) if !has_lost(before, &plan.fronts) => return,
            Some(before) => {
                let gone = before.keys().filter(|f| !plan.fronts.contains_key(*f));
                gone.copied().collect()
            }
            None => BTreeSet::new(),
        };
        let fronts = plan.fronts.clone();
        let cut = unblock(move || conntrack::cut(|flow| is_stale(flow, &fronts, &gone))).await;
        match cut {
            Ok(0) => {}
            Ok(connections) => {
                debug!(
                    connections,
                    "connections to endpoints that are gone are cut"
                )
            }
            Err(error) => {
                warn!(%error, "connections to endpoints that are gone may hang: the kernel's list of connections cannot be read");
            }
        }
    }
}

/// What was seen of a kind's objects.
pub(crate) struct Seen<T> {
    pub(crate) all: BTreeMap<Key, T>,
    /// Whether they have been listed.
    pub(crate) is_listed: bool,
}

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Self {
            all: BTreeMap::new(),
            is_listed: false,
        }
    }
}

impl<T: PartialEq> Seen<T> {
    /// Takes an event over; whether it changes anything.
    pub(crate) fn see<K>(
        &mut self,
        event: Result<watcher::Event<K>, watcher::Error>,
        meta: impl Fn(&K) -> &ObjectMeta,
        parse: impl Fn(&K) -> Option<T>,
    ) -> bool {
        match event {
            Err(_) => false,
            Ok(watcher::Event::Init) => {
                self.all.clear();
                self.is_listed = false;
                false
            }
            Ok(watcher::Event::InitApply(object) | watcher::Event::Apply(object)) => {
                self.put(Key::of(meta(&object)), parse(&object))
            }
            Ok(watcher::Event::InitDone) => {
                self.is_listed = true;
                true
            }
            Ok(watcher::Event::Delete(object)) => {
                self.all.remove(&Key::of(meta(&object))).is_some()
            }
        }
    }

    /// Puts what was seen; false when it is the same as before.
    fn put(&mut self, key: Key, seen: Option<T>) -> bool {
        match seen {
            Some(seen) if self.all.get(&key) == Some(&seen) => false,
            Some(seen) => {
                self.all.insert(key, seen);
                true
            }
            None => self.all.remove(&key).is_some(),
        }
    }
}

/// Not at once, as changes come together, and not right after the last look.
pub(crate) fn soonest(last: Instant, pause: Duration) -> Instant {
    (Instant::now() + pause).max(last + PAUSE)
}

/// Whether something is led no more, or not to all it was; and whether datagrams may have gone into nothing before.
fn has_lost(
    before: &BTreeMap<Front, Vec<SocketAddr>>,
    after: &BTreeMap<Front, Vec<SocketAddr>>,
) -> bool {
    let lost = before.iter().any(|(front, endpoints)| {
        let now = after.get(front);
        now.is_none_or(|now| endpoints.iter().any(|e| now.binary_search(e).is_err()))
    });
    let found = after
        .iter()
        .any(|((_, protocol, _), endpoints)| *protocol == Protocol::Udp && !endpoints.is_empty());
    lost || (found && before != after)
}

fn is_stale(
    flow: &conntrack::Flow,
    fronts: &BTreeMap<Front, Vec<SocketAddr>>,
    gone: &BTreeSet<Front>,
) -> bool {
    let Some(protocol) = Protocol::of_number(flow.protocol) else {
        return false;
    };
    let front = (flow.asked.ip(), protocol, flow.asked.port());
    // A program of this machine that has the port by itself keeps its connections.
    let is_led = flow.answers != flow.asked;
    match fronts.get(&front) {
        Some(endpoints) if is_led => endpoints.binary_search(&flow.answers).is_err(),
        // Sent on before there was anybody to lead it to.
        Some(endpoints) => protocol == Protocol::Udp && !endpoints.is_empty(),
        None => is_led && gone.contains(&front),
    }
}
