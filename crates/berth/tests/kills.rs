//! What holds when single processes are killed: `berth cri`, `berth node`, shims, and the processes that hold the streams of
//! containers under a third-party shim. 200 times, at random points, while pods come and go; then a reboot.
//!
//! - No container runs twice: each writes a line into a file of its own when it begins.
//! - No exit code is lost: each ends with a code of its own, and 137 counts only where its pod's shim was killed.
//! - Nothing is left behind: no process, cgroup, mount, interface, address, record or directory.
//!
//! `BERTH_SEED=N` chooses the order of kills and pods; a run prints its own. On a busy machine the kills end after 90 seconds, or as
//! many as `BERTH_KILLS_SECONDS` says. Needs root, runc, runsc, busybox (static), containerd's shim and the CNI plugins of Debian.

#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "kills/bundles.rs"]
mod bundles;
#[path = "kills/inflict.rs"]
mod inflict;
#[path = "kills/judge.rs"]
mod judge;
#[path = "kills/left.rs"]
mod left;
#[path = "kills/load.rs"]
mod load;
#[path = "kills/machine.rs"]
mod machine;
#[path = "kills/pace.rs"]
mod pace;
#[path = "kills/plan.rs"]
mod plan;
#[path = "kills/reboot.rs"]
mod reboot;
#[path = "kills/seen.rs"]
mod seen;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::load::Load;
use crate::machine::Machine;

/// How long anything may take that should take seconds. The machine may be busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(90);
/// Clients that make pods.
const CLIENTS: u64 = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_pod_runs_twice_no_exit_code_is_lost_and_nothing_is_left() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let seed = std::env::var("BERTH_SEED").ok();
    let seed = seed.map_or_else(rand::random, |seed| seed.parse().expect("a number"));
    println!("BERTH_SEED={seed}");
    let begun = Instant::now();
    let told = |what: &str| println!("{:6.1} s  {what}", begun.elapsed().as_secs_f32());

    let mut machine = Machine::start().await;
    told("the machine is up");
    let load = Arc::new(Load::start(&machine, seed).await);
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(Arc::clone(&load).run(number));
    }
    inflict::kill_all(&mut machine, &load, seed).await;
    told("all kills are done");
    load.stop();
    while let Some(client) = clients.join_next().await {
        client.expect("a client's work");
    }
    told(&load.report());
    left::wait_for_nothing(&machine, &load).await;
    told("nothing is left");
    reboot::reboot(&mut machine, &load).await;
    told("the machine was rebooted");
    left::wait_for_nothing(&machine, &load).await;
    told("nothing is left after it");
    let faults = load.faults();
    assert!(faults.is_empty(), "seed {seed}: {faults:#?}");
    machine.stop();
}
