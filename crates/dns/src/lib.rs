//! The cluster's DNS server.
//!
//! | file | what it does |
//! |---|---|
//! | `zone.rs` | names of the cluster, from Services and EndpointSlices: pure |
//! | `watch.rs` | keeps the zone as the API server says |
//! | `query.rs` | reads questions, writes answers |
//! | `handler.rs` | the way of a question |
//! | `limit.rs` | what one client may ask for |
//! | `forward.rs`, `cache.rs` | names that are somebody else's |
//! | `listen.rs`, `netlink.rs` | addresses and sockets |
//! | `object.rs` | the Service `kube-system/kube-dns` |
//!
//! Tasks of [`run`]: two watches (Services, EndpointSlices), the keeper of the sockets, and two a socket pair (UDP, TCP).

mod cache;
mod forward;
mod handler;
mod limit;
mod listen;
mod netlink;
mod object;
mod query;
mod question;
#[cfg(test)]
mod tests;
mod watch;
mod zone;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use berth_supervise::{TaskError, Tasks};
use futures::future::BoxFuture;
use ipnet::IpNet;
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

pub use object::{ObjectError, ensure as ensure_service};
pub use zone::DomainError;

use forward::Forwarder;
use handler::Handler;
use limit::{Allowance, Clients};
use listen::Listening;
use zone::Zone;

/// The port of DNS.
const PORT: u16 = 53;
/// How long tasks may take to end.
const DRAIN: Duration = Duration::from_secs(1);

/// Settings of the server.
#[derive(Clone)]
pub struct Config {
    /// Client for the API server; it must be allowed to list and watch Services and EndpointSlices.
    pub client: kube::Client,
    /// The cluster's domain, stock `cluster.local`.
    pub domain: String,
    /// Where pods ask: the tenth address of each range of Services.
    pub addresses: Vec<IpAddr>,
    /// The bridge of berth's own pod network; none on somebody else's network.
    pub bridge: Option<String>,
    /// Networks of pods, in CIDR notation; empty when nobody knows.
    pub pod_cidrs: Vec<String>,
    /// Networks of Services, in CIDR notation.
    pub service_cidrs: Vec<String>,
    /// The file that names the node's resolvers.
    pub resolv_conf: PathBuf,
}

/// Why the server can't run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The domain is no name.
    #[error(transparent)]
    Domain(#[from] DomainError),
    /// A network is none.
    #[error("{0:?} is no network in CIDR notation, such as 10.88.0.0/16")]
    Network(String),
    /// A task failed.
    #[error(transparent)]
    Task(#[from] TaskError),
}

/// The name of the interface that has the server's addresses, beside the pods' bridge.
#[must_use]
pub fn interface(bridge: &str) -> String {
    listen::interface(Some(bridge))
}

/// Answers questions until `shutdown`.
///
/// A boxed future: its code is compiled here and not once more in each program.
///
/// # Errors
/// When the settings are wrong, or a task fails.
pub fn run(config: Config, shutdown: CancellationToken) -> BoxFuture<'static, Result<(), Error>> {
    Box::pin(work(config, shutdown))
}

async fn work(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let pods = networks(&config.pod_cidrs)?;
    let services = networks(&config.service_cidrs)?;
    let zone = Zone::new(
        &config.domain,
        config.addresses.clone(),
        pods.clone(),
        &services,
    )?;
    let zone = Arc::new(RwLock::new(zone));
    let handler = Handler {
        zone: Arc::clone(&zone),
        forwarder: Forwarder::new(config.resolv_conf, PORT, config.addresses.clone()),
        clients: Clients::new(Allowance::POD),
    };
    let tasks = Tasks::new(&shutdown);
    let stop = tasks.stop_token();
    let client = config.client;
    let watched = watch::services(client.clone(), Arc::clone(&zone), stop.clone());
    tasks.spawn_essential("watch of Services", watched);
    let watched = watch::slices(client, zone, stop.clone());
    tasks.spawn_essential("watch of EndpointSlices", watched);
    let listening = Listening {
        addresses: config.addresses,
        port: PORT,
        bridge: config.bridge,
        pods,
    };
    let forwarder = handler.forwarder.clone();
    let kept = listening.keep(handler, tasks.clone(), stop);
    tasks.spawn_essential("DNS sockets", kept);
    tasks.spawn("resolvers of the node", async move {
        forwarder.prepare().await;
    });
    Ok(tasks.run(DRAIN).await?)
}

fn networks(cidrs: &[String]) -> Result<Vec<IpNet>, Error> {
    cidrs
        .iter()
        .flat_map(|list| list.split(','))
        .map(|cidr| {
            let network = cidr.trim().parse();
            network.map_err(|_| Error::Network(cidr.to_owned()))
        })
        .collect()
}
