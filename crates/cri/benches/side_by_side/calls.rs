//! The five calls of a pod's life, and ExecSync beside the runtime's own exec.

use std::time::Duration;

use crate::Options;
use crate::bare;
use crate::daemon::{Daemon, Life};
use crate::report::{at_most, beside, heading, median, plain};

/// Which time of a life.
type Pick = fn(&Life) -> Duration;

pub(crate) async fn lives(options: &Options, berth: &mut Daemon, containerd: &mut Daemon) {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    // The first of each makes the bridge and fills the caches.
    berth.life("warm", "runc").await;
    containerd.life("warm", "runc").await;
    for round in 0..options.rounds {
        let name = format!("p{round}");
        if round % 2 == 0 {
            ours.push(berth.life(&name, "runc").await);
            theirs.push(containerd.life(&name, "runc").await);
        } else {
            theirs.push(containerd.life(&name, "runc").await);
            ours.push(berth.life(&name, "runc").await);
        }
    }
    heading(
        &format!(
            "one pod, one container, runc; ms, medians of {}",
            options.rounds
        ),
        containerd.name,
    );
    let rows: [(&str, Pick, Option<f64>); 7] = [
        ("RunPodSandbox", |life| life.run, None),
        ("CreateContainer", |life| life.create, None),
        ("StartContainer", |life| life.start, None),
        ("StopPodSandbox", |life| life.stop, None),
        ("RemovePodSandbox", |life| life.remove, None),
        (
            "create and start (the first three)",
            |life| life.run + life.create + life.start,
            Some(0.4),
        ),
        (
            "stop and remove (the other two)",
            |life| life.stop + life.remove,
            Some(0.4),
        ),
    ];
    for (name, pick, goal) in rows {
        let of = |lives: &[Life]| median(&lives.iter().map(pick).collect::<Vec<_>>());
        beside(name, of(&ours), of(&theirs), goal);
    }
}

pub(crate) async fn execs(options: &Options, berth: &mut Daemon, containerd: &mut Daemon) {
    let (pod, _) = berth.start("exec", "runc").await;
    let (other, _) = containerd.start("exec", "runc").await;
    let (mut ours, mut theirs, mut alone) = (Vec::new(), Vec::new(), Vec::new());
    let runc = bare::Runtime::of_bundle(options, &pod.container);
    for _ in 0..options.rounds * 2 {
        ours.push(berth.exec(&pod).await);
        alone.push(runc.call(&["exec", &pod.container, "true"]));
        theirs.push(containerd.exec(&other).await);
    }
    berth.end(&pod).await;
    containerd.end(&other).await;
    heading(
        &format!("exec of `true`, runc; ms, medians of {}", ours.len()),
        containerd.name,
    );
    let (ours, theirs, alone) = (median(&ours), median(&theirs), median(&alone));
    plain("ExecSync", ours, theirs);
    at_most(
        &format!("ExecSync beyond the bare `runc exec` ({alone:.2})"),
        ours - alone,
        Some(theirs - alone),
        5.0,
    );
}
