//! The node agent (the kubelet's role on one machine).
//!
//! It registers the Node, keeps its Lease alive, watches the pods bound here and makes each of them
//! true through a CRI runtime: sandbox, images, containers, probes, hooks, volumes, cgroups, status,
//! events, and in the end a graceful death. Its HTTPS server answers the API server's log, exec,
//! attach and port-forward requests.
//!
//! The agent knows only two neighbours, and neither has to be ours: an API server over HTTPS
//! ([`Config::client`]) and a CRI v1 runtime over a unix socket ([`Config::cri_socket`]).
//!
//! Decisions are pure functions in `berth_lifecycle`; this crate holds the I/O around them.
//!
//! | task | owns | talks by |
//! |---|---|---|
//! | `runtime::keep` | what the runtime is | `watch<Facts>` |
//! | `registration::keep`, `keep_lease` | the Node object, its Lease | `watch<Node>` |
//! | `classes.keep` | the RuntimeClass cache | shared map |
//! | `services.keep` | the Service cache | shared map |
//! | `pods::keep` | which pods are bound here | `PodHandle` per pod |
//! | `Worker` (one a pod) | everything of one pod | `PodHandle::wake` in, status out |
//! | `StatusTask` (one a pod) | writing that status | `watch` |
//! | `pleg::keep` | what changed in the runtime | `PodHandle::wake` |
//! | `static_pods::keep`, `keep_mirrors` | the pods of files, and their mirrors in the API | `PodHandle` per pod |
//! | `devices::keep`, `pod_resources::keep` | the sockets of device plugins and of those who ask for devices | `Devices` |
//! | `orphans::keep`, `logs::rotate::keep`, `garbage::keep`, `eviction::keep` | cleaning | - |
//! | `pod_network::keep` | events of pods that are cut off from the network | - |
//! | `pod_network::tell_bridge` | on which bridge the runtime puts pods | `PolicyHandle` |
//! | `cost::keep` | what sandboxes cost beyond their containers | `Costs` |
//! | `Server::serve` | port 10250 | - |
//! | `certificates::keep_client`, `keep_serving` | the certificates that the cluster issues | - |
//!
//! All of them belong to one [`Tasks`]: one that panics or ends before its time ends the agent, with its name and
//! reason. A `Worker` that panics is started anew instead, later each time, so that one pod cannot take the node down.

mod agent;
mod allocation;
mod amount;
pub mod certificates;
mod cgroups;
mod classes;
mod config;
mod container_config;
mod cost;
mod cri;
mod devices;
mod env;
mod events;
mod eviction;
mod garbage;
mod hooks;
mod hosts;
mod http_probe;
mod huge_pages;
mod images;
mod isolation;
mod local_path;
mod logs;
mod machine;
mod objects;
mod orphans;
mod own_dirs;
mod pleg;
mod pod_files;
mod pod_network;
mod pod_resources;
mod pod_spec;
mod pods;
mod probes;
mod registration;
mod runtime;
mod sandbox_config;
mod server;
mod services;
mod sockets;
mod starts;
mod static_pods;
mod swap;
mod sysctls;
mod tokens;
mod usage;
mod users;
mod volumes;
mod worker;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use berth_supervise::{Outage, Tasks};
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::info;

pub use config::{Config, Error, Gates, ServingCertificate, ServingTls, UnsupportedHandler};
pub use swap::SwapBehavior;

use agent::{Agent, Pressure};

/// How long workers may take to finish their current step at shutdown.
const DRAIN: Duration = Duration::from_secs(3);

/// Runs the node agent until `shutdown` is cancelled, or a task that it needs ends, leaving the pods running.
///
/// # Errors
/// Why it cannot start, or which task ended and why.
///
/// A boxed future: its code is compiled here, beside that of other crates, and not once more in each program.
pub fn run(config: Config, shutdown: CancellationToken) -> BoxFuture<'static, Result<(), Error>> {
    Box::pin(work(config, shutdown))
}

async fn work(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    own_dirs::prepare(&config.root_dir, &config.pod_logs_dir)
        .map_err(|(path, source)| Error::RootDir { path, source })?;
    // One that somebody chose has to be there already; events of claims say where it is missing.
    if config.local_path_dir == config.root_dir.join(config::LOCAL_PATH) {
        local_path::prepare(&config.local_path_dir).map_err(|source| Error::RootDir {
            path: config.local_path_dir.clone(),
            source,
        })?;
    }
    let machine = machine::Machine::read(&config.root_dir)?;
    let swap = swap::Swap::new(config.swap_behavior, machine.capacity())?;
    let issued = matches!(config.tls.certificate, ServingCertificate::Issued);
    if issued && config.certificates.is_none() {
        return Err(Error::Tls {
            what: "certificate",
            reason: "nobody issues it".to_owned(),
        });
    }
    let server = server::Server::bind(&config).await?;
    let ip = config.node_ip.unwrap_or_else(machine::node_ip);
    let cri = cri::Cri::lazy(&config.cri_socket);
    let (facts, runtime) = watch::channel(runtime::Facts::default());
    let objects = objects::Objects::new(config.client.clone());
    let tasks = Tasks::new(&shutdown);
    let agent = Arc::new(Agent {
        tasks: tasks.clone(),
        machine,
        host_ips: vec![ip.to_string()],
        port: server.port(),
        runtime,
        node: watch::Sender::new(None),
        node_poke: Notify::new(),
        status_outage: Arc::new(Mutex::new(Outage::new("cannot write pods' statuses"))),
        garbage_poke: Notify::new(),
        pressure: watch::Sender::new(Pressure::default()),
        events: events::Recorder::start(config.client.clone(), config.node_name.clone(), &tasks),
        classes: classes::Classes::new(config.client.clone()),
        services: services::Services::new(config.client.clone()),
        images: images::Images::new(cri.clone(), objects.clone()),
        objects,
        tokens: tokens::Tokens::default(),
        devices: devices::Devices::load(&config.root_dir),
        cgroups: cgroups::PodCgroups::new(config.pod_cgroups, config.gates.pod_overhead, swap),
        swap,
        usage: usage::Usage::default(),
        probed: probes::Probed::default(),
        costs: cost::Costs::default(),
        starts: starts::Starts::new(config.tracer.clone()),
        users: users::Users::new(config.root_dir.join("pods")),
        granting: parking_lot::Mutex::default(),
        local_path: local_path::LocalPath::new(config.local_path_dir.clone()),
        claiming: parking_lot::Mutex::default(),
        reviews: server::Reviews::new(config.client.clone(), config.node_name.clone()),
        mirrors: static_pods::Mirrors::default(),
        pods: Mutex::default(),
        cri: cri.clone(),
        config,
    });
    info!(node = %agent.config.node_name, %ip, port = agent.port, "node agent starts");
    let (listed, certificate) = (watch::Sender::new(false), server.certificate());
    let stop = || tasks.stop_token();
    let shared = || Arc::clone(&agent);
    tasks.spawn_essential("runtime status", runtime::keep(cri, facts, stop()));
    tasks.spawn_essential("node status", registration::keep(shared(), stop()));
    tasks.spawn_essential("node lease", registration::keep_lease(shared(), stop()));
    if agent.config.gates.runtime_class {
        let classes = agent.classes.clone();
        tasks.spawn_essential("RuntimeClass watch", classes.keep(stop()));
    }
    let services = agent.services.clone();
    tasks.spawn_essential("Service watch", services.keep(stop()));
    tasks.spawn_essential("runtime events", pleg::keep(shared(), stop()));
    tasks.spawn_essential("device plugins", devices::registry::keep(shared(), stop()));
    tasks.spawn_essential("pod resources", pod_resources::keep(shared(), stop()));
    let read = watch::Sender::new(agent.config.static_pod_dir.is_none());
    let both = (listed.subscribe(), read.subscribe());
    let mirrors = static_pods::keep_mirrors(shared(), read.subscribe(), stop());
    if let Some(dir) = agent.config.static_pod_dir.clone() {
        let files = static_pods::keep(shared(), dir, read, stop());
        tasks.spawn_essential("static pods", files);
    }
    tasks.spawn_essential("mirror pods", mirrors);
    let orphans = orphans::keep(shared(), both, stop());
    tasks.spawn_essential("orphans", orphans);
    tasks.spawn_essential("log rotation", logs::rotate::keep(shared(), stop()));
    tasks.spawn_essential("garbage collection", garbage::keep(shared(), stop()));
    tasks.spawn_essential("eviction", eviction::keep(shared(), stop()));
    if !agent.config.overhead_period.is_zero() {
        tasks.spawn_essential("overhead", cost::keep(shared(), stop()));
    }
    if let Some(policies) = &agent.config.network_policies {
        policies.node_serves(agent.port);
        if !policies.is_bridge_known() {
            let told = pod_network::tell_bridge(policies.clone(), agent.runtime.clone(), stop());
            tasks.spawn_essential("pods' bridge", told);
        }
        let closed = pod_network::keep(shared(), policies.closed(), stop());
        tasks.spawn_essential("closed pods", closed);
    }
    tasks.spawn_essential("node server", server.serve(shared(), stop()));
    if let Some(own) = agent.config.certificates.clone() {
        let (node, dir) = (agent.config.node_name.clone(), own.dir.clone());
        let client = certificates::keep_client(own, node.clone(), stop());
        tasks.spawn_essential("client certificate", client);
        if issued {
            let serving = certificates::Serving {
                node,
                addresses: vec![ip],
                dir,
                client: agent.config.client.clone(),
                registered: agent.node.subscribe(),
                slot: certificate,
            };
            let serving = certificates::keep_serving(serving, stop());
            tasks.spawn_essential("serving certificate", serving);
        }
    }
    tasks.spawn_essential("pod watch", ready_then_pods(shared(), listed, stop()));
    let tracer = agent.config.tracer.clone();
    drop(agent);
    let ended = tasks.run(DRAIN).await;
    tracer.flush().await;
    Ok(ended?)
}

/// Pods are looked at once the runtime can be asked about them, and the Node is known that they are admitted to.
async fn ready_then_pods(
    agent: Arc<Agent>,
    listed: watch::Sender<bool>,
    shutdown: CancellationToken,
) {
    let (mut runtime, mut node) = (agent.runtime.clone(), agent.node.subscribe());
    let ready = async {
        runtime.wait_for(runtime::Facts::is_ready).await.is_ok()
            && node.wait_for(Option::is_some).await.is_ok()
    };
    tokio::select! {
        () = shutdown.cancelled() => return,
        ready = ready => if !ready { return },
    }
    drop((runtime, node));
    pods::keep(agent, listed, shutdown).await;
}
