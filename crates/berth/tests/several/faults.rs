//! What is done to the machines, in an order that a seed decides.

use std::time::Duration;

use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::cluster::{Cluster, Process};
use crate::network::NODES;

/// Faults of a run; each kind comes at least once.
const ROUNDS: usize = 9;
/// Between faults.
const CALM: Duration = Duration::from_millis(1500);

#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill(Process),
    /// It does nothing for a while, and then goes on as if nothing had been.
    Stop(Process),
    /// A machine is cut off.
    Cut,
    /// Two machines are cut off: no member has a majority.
    CutTwo,
}

const KINDS: [Fault; 6] = [
    Fault::Kill(Process::Server),
    Fault::Kill(Process::Etcd),
    Fault::Stop(Process::Server),
    Fault::Stop(Process::Etcd),
    Fault::Cut,
    Fault::CutTwo,
];

pub(crate) async fn inflict(cluster: &mut Cluster<'_>, seed: u64) {
    println!("faults of seed {seed}; logs in {}", cluster.dir().display());
    let mut random = StdRng::seed_from_u64(seed);
    for round in 0..ROUNDS {
        tokio::time::sleep(CALM).await;
        let fault = KINDS
            .get(round)
            .copied()
            .unwrap_or_else(|| KINDS[random.random_range(0..KINDS.len())]);
        let node = random.random_range(0..NODES);
        let lasts = Duration::from_millis(random.random_range(1000..4000));
        println!("{fault:?} on {node} for {lasts:?}");
        let other = (node + 1) % NODES;
        match fault {
            Fault::Kill(process) => cluster.signal(node, process, Signal::SIGKILL),
            Fault::Stop(process) => cluster.signal(node, process, Signal::SIGSTOP),
            Fault::Cut => cluster.network.cut(node, true),
            Fault::CutTwo => {
                cluster.network.cut(node, true);
                cluster.network.cut(other, true);
            }
        }
        tokio::time::sleep(lasts).await;
        match fault {
            Fault::Kill(process) => cluster.run(node, process),
            Fault::Stop(process) => cluster.signal(node, process, Signal::SIGCONT),
            Fault::Cut => cluster.network.cut(node, false),
            Fault::CutTwo => {
                cluster.network.cut(node, false);
                cluster.network.cut(other, false);
            }
        }
    }
}
