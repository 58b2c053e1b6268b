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
//! Decisions are pure functions in `berth_core::lifecycle`; this crate holds the I/O around them.
//!
//! | task | owns | talks by |
//! |---|---|---|
//! | `runtime::keep` | what the runtime is | `watch<Facts>` |
//! | `registration::keep`, `keep_lease` | the Node object, its Lease | `watch<Node>` |
//! | `classes.keep` | the RuntimeClass cache | shared map |
//! | `pods::keep` | which pods are bound here | `PodHandle` per pod |
//! | `Worker` (one a pod) | everything of one pod | `PodHandle::wake` in, status out |
//! | `StatusTask` (one a pod) | writing that status | `watch` |
//! | `pleg::keep` | what changed in the runtime | `PodHandle::wake` |
//! | `orphans::keep`, `logs::rotate::keep`, `garbage::keep`, `eviction::keep` | cleaning | - |
//! | `Server::serve` | port 10250 | - |

mod agent;
mod amount;
mod cgroups;
mod classes;
mod config;
mod container_config;
mod cri;
mod env;
mod events;
mod eviction;
mod garbage;
mod hooks;
mod hosts;
mod http_probe;
mod images;
mod logs;
mod machine;
mod objects;
mod orphans;
mod pleg;
mod pods;
mod probes;
mod registration;
mod runtime;
mod sandbox_config;
mod server;
mod tokens;
mod users;
mod volumes;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

pub use config::{Config, Error, Gates, ServingTls, UnsupportedHandler};

use agent::{Agent, Pressure};

/// How long workers may take to finish their current step at shutdown.
const DRAIN: Duration = Duration::from_secs(5);

/// Runs the node agent until `shutdown` is cancelled, leaving the pods running.
///
/// A boxed future: its code is compiled here, beside that of other crates, and not once more in each program.
pub fn run(config: Config, shutdown: CancellationToken) -> BoxFuture<'static, Result<(), Error>> {
    Box::pin(work(config, shutdown))
}

async fn work(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    for dir in [config.root_dir.join("pods"), config.pod_logs_dir.clone()] {
        std::fs::create_dir_all(&dir).map_err(|source| Error::RootDir { path: dir, source })?;
    }
    let machine = machine::Machine::read(&config.root_dir)?;
    let server = server::Server::bind(&config).await?;
    let ip = config.node_ip.unwrap_or_else(machine::node_ip);
    let cri = cri::Cri::lazy(&config.cri_socket);
    let (facts, runtime) = watch::channel(runtime::Facts::default());
    let objects = objects::Objects::new(config.client.clone());
    let agent = Arc::new(Agent {
        machine,
        host_ips: vec![ip.to_string()],
        port: server.port(),
        runtime,
        node: watch::Sender::new(None),
        node_poke: Notify::new(),
        pressure: watch::Sender::new(Pressure::default()),
        events: events::Recorder::start(config.client.clone(), config.node_name.clone()),
        classes: classes::Classes::new(config.client.clone()),
        images: images::Images::new(cri.clone(), objects.clone()),
        objects,
        tokens: tokens::Tokens::default(),
        cgroups: cgroups::PodCgroups::new(config.pod_cgroups, config.gates.pod_overhead),
        users: users::Users::new(config.root_dir.join("pods")),
        pods: Mutex::default(),
        cri: cri.clone(),
        config,
    });
    info!(node = %agent.config.node_name, %ip, port = agent.port, "node agent starts");
    let tasks = TaskTracker::new();
    let workers = TaskTracker::new();
    let listed = watch::Sender::new(false);
    tasks.spawn(runtime::keep(cri, facts, shutdown.clone()));
    tasks.spawn(registration::keep(Arc::clone(&agent), shutdown.clone()));
    tasks.spawn(registration::keep_lease(
        Arc::clone(&agent),
        shutdown.clone(),
    ));
    if agent.config.gates.runtime_class {
        tasks.spawn(agent.classes.clone().keep(shutdown.clone()));
    }
    tasks.spawn(pleg::keep(Arc::clone(&agent), shutdown.clone()));
    tasks.spawn(orphans::keep(
        Arc::clone(&agent),
        listed.subscribe(),
        shutdown.clone(),
    ));
    tasks.spawn(logs::rotate::keep(Arc::clone(&agent), shutdown.clone()));
    tasks.spawn(garbage::keep(Arc::clone(&agent), shutdown.clone()));
    tasks.spawn(eviction::keep(Arc::clone(&agent), shutdown.clone()));
    tasks.spawn(server.serve(Arc::clone(&agent), shutdown.clone()));
    tasks.spawn(ready_then_pods(
        Arc::clone(&agent),
        listed,
        workers.clone(),
        shutdown.clone(),
    ));
    tasks.close();
    shutdown.cancelled().await;
    let drained = tokio::time::timeout(DRAIN, async {
        tasks.wait().await;
        workers.close();
        workers.wait().await;
    });
    if drained.await.is_err() {
        warn!("the node agent's tasks did not end in time; pods keep running");
    }
    Ok(())
}

/// Pods are looked at once the runtime can be asked about them.
async fn ready_then_pods(
    agent: Arc<Agent>,
    listed: watch::Sender<bool>,
    workers: TaskTracker,
    shutdown: CancellationToken,
) {
    let mut runtime = agent.runtime.clone();
    tokio::select! {
        () = shutdown.cancelled() => return,
        ready = runtime.wait_for(runtime::Facts::is_ready) => if ready.is_err() { return },
    }
    drop(runtime);
    pods::keep(agent, listed, workers, shutdown).await;
}
