//! Many pods at once, and what they and the daemons need of memory.

use std::time::{Duration, Instant};

use crate::Options;
use crate::daemon::{Daemon, Pod};
use crate::memory::{self, Memory};
use crate::report::{at_most, heading, plain, word};

/// How often the pods are started.
const BURSTS: usize = 2;
/// After this long without work daemons and shims have given back what they don't need.
const IDLE: Duration = Duration::from_secs(8);

pub(crate) async fn measure(options: &Options, berth: &mut Daemon, containerd: &mut Daemon) {
    let (mut ours, mut theirs) = (f64::INFINITY, f64::INFINITY);
    for round in 0..BURSTS {
        for (daemon, best) in [(&mut *berth, &mut ours), (&mut *containerd, &mut theirs)] {
            let (pods, took) = start(daemon, &format!("b{round}"), options.pods).await;
            *best = best.min(took);
            end(daemon, pods).await;
        }
    }
    heading(
        &format!(
            "{} pods at once, runc; the better of {BURSTS}",
            options.pods
        ),
        containerd.name,
    );
    plain("seconds until all run", ours, theirs);
    let count = f64::from(u32::try_from(options.pods).unwrap_or(u32::MAX));
    let ratio = theirs / ours;
    println!(
        "{:<58} {:>10.1} {:>12.1} {ratio:>7.2}   goal 2: {}",
        "pods a second",
        count / ours,
        count / theirs,
        word(ratio >= 2.0)
    );
    let mine = settle(berth, options.pods).await;
    let other = settle(containerd, options.pods).await;
    heading(
        &format!("memory with {} pods, idle; MB", options.pods * 2),
        containerd.name,
    );
    at_most(
        "shim and pause of a pod, resident, mean",
        mine.pod.resident,
        Some(other.pod.resident),
        5.0,
    );
    at_most(
        "shim and pause of a pod, resident, largest",
        mine.largest,
        Some(other.largest),
        5.0,
    );
    plain(
        "  proportional share (PSS), mean",
        mine.pod.share,
        other.pod.share,
    );
    at_most(
        "the daemon, resident",
        mine.daemon.resident,
        Some(other.daemon.resident),
        40.0,
    );
    plain(
        "  proportional share (PSS)",
        mine.daemon.share,
        other.daemon.share,
    );
}

struct Settled {
    pod: Memory,
    largest: f64,
    daemon: Memory,
}

/// Twice the pods, then quiet, then a look.
async fn settle(daemon: &mut Daemon, count: usize) -> Settled {
    let (mut pods, _) = start(daemon, "m0", count).await;
    pods.extend(start(daemon, "m1", count).await.0);
    tokio::time::sleep(IDLE).await;
    let mut sum = Memory::default();
    let mut largest: f64 = 0.0;
    for pod in &pods {
        let one = memory::of_pod(&pod.id);
        largest = largest.max(one.resident);
        sum += one;
    }
    let number = f64::from(u32::try_from(pods.len()).unwrap_or(u32::MAX));
    let settled = Settled {
        pod: Memory {
            resident: sum.resident / number,
            share: sum.share / number,
        },
        largest,
        daemon: memory::of(daemon.pid),
    };
    end(daemon, pods).await;
    settled
}

/// Starts so many pods at once; the seconds until the last one runs.
async fn start(daemon: &Daemon, prefix: &str, count: usize) -> (Vec<Pod>, f64) {
    let at = Instant::now();
    let starts = (0..count).map(|number| {
        let mut daemon = daemon.clone();
        let name = format!("{prefix}-{number}");
        async move { daemon.start(&name, "runc").await.0 }
    });
    let pods = futures::future::join_all(starts).await;
    (pods, at.elapsed().as_secs_f64())
}

async fn end(daemon: &Daemon, pods: Vec<Pod>) {
    let ends = pods.iter().map(|pod| {
        let mut daemon = daemon.clone();
        async move { daemon.end(pod).await }
    });
    futures::future::join_all(ends).await;
}
