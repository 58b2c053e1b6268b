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

mod config;

pub use config::{Config, Error, Gates, ServingTls, UnsupportedHandler};

use tokio_util::sync::CancellationToken;

/// Runs the node agent until `shutdown` is cancelled, leaving the pods running.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    let _ = config;
    shutdown.cancelled().await;
    Ok(())
}
