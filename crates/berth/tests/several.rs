//! Three servers on an etcd of three members, which are killed, stopped and cut off from each other under load.
//!
//! The method is that of etcd's own robustness tests: clients write down what they asked and were answered and when,
//! watchers what they were told, and afterwards it is checked that all of it can have happened (`history`). Needs root,
//! for network namespaces.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "several/cluster.rs"]
mod cluster;
#[path = "several/faults.rs"]
mod faults;
#[path = "several/history.rs"]
mod history;
#[path = "several/load.rs"]
mod load;
#[path = "several/network.rs"]
mod network;
#[path = "several/watchers.rs"]
mod watchers;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use self::cluster::Cluster;
use self::history::History;

/// Objects that are written.
const OBJECTS: usize = 4;
/// Clients that write and read.
const CLIENTS: usize = 6;

#[test]
fn nothing_is_lost_told_twice_or_contradicted() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let network = network::Network::make();
    // All clients are in the middle, from where every server can be reached.
    let hub = network.enter_hub();
    std::thread::scope(|scope| {
        let network = &network;
        let testing = scope.spawn(move || {
            hub.enter();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(run(network));
        });
        if let Err(panic) = testing.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

async fn run(network: &network::Network) {
    let mut cluster = Cluster::start(network).await;
    let servers = cluster.servers();
    let history = Arc::new(History::default());
    let start = load::create_objects(&servers, &history, OBJECTS).await;
    let watching = watchers::start(&servers, &history, start);
    let stop = CancellationToken::new();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let client = load::run(n, servers.clone(), Arc::clone(&history), stop.clone());
            tokio::spawn(client)
        })
        .collect();
    let seed = std::env::var("BERTH_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    faults::inflict(&mut cluster, seed.unwrap_or(20_261_129)).await;
    // A while without faults, for whoever has to catch up.
    tokio::time::sleep(Duration::from_secs(3)).await;
    stop.cancel();
    for client in clients {
        client.await.unwrap();
    }
    cluster.all_ready().await;
    let last = load::write_last(&servers, &history, OBJECTS).await;
    watchers::all_reach(&watching, last).await;
    for watcher in watching {
        watcher.task.abort();
    }
    load::read_everywhere(&servers, &history, OBJECTS).await;
    cluster.leads().await;
    let report = history.check();
    println!("{report}");
}
