//! Eviction: pods that hold more than their own limits of local storage end, and when memory, disk or inodes run short
//! the node says so, tries what it can do without, and ends pods one at a time until it has recovered.
//!
//! ```text
//!   every 10 s:  signals (statvfs, meminfo)          -> short? -> first: collect garbage -> then: evict one
//!                meter (walks directories, in steps) -> limits::exceeded -> evict
//! ```

mod limits;
mod meter;
mod signals;

use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_core::event::EventType;
use berth_lifecycle::evict::{Standing, rank};
use berth_lifecycle::{Problem, is_terminal};
use berth_supervise::unblock;
use k8s_openapi::api::core::v1::Pod;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::agent::{Agent, Pressure};
use crate::amount;
use crate::pods::PodHandle;

use limits::PodUsage;
use meter::Meter;
use signals::{Reading, Short, Signals};

const EVERY: Duration = Duration::from_secs(10);
/// A condition stays for this long after the shortage, as in stock, so that it does not flap.
const HOLD: Duration = Duration::from_secs(300);
const CRITICAL: i32 = 2_000_000_000;

/// What the last look found short, and since when a condition holds.
#[derive(Default)]
struct Pressures {
    short: Vec<Short>,
    memory: Option<Instant>,
    disk: Option<Instant>,
}

/// Watches memory and disk until `shutdown`.
pub(crate) async fn keep(agent: Arc<Agent>, shutdown: CancellationToken) {
    let mut pressures = Pressures::default();
    let mut signals = Signals::default();
    let mut meter = Meter::default();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let readings = signals.read(&agent).await;
        let short: Vec<Reading> = readings.into_iter().filter(Reading::is_short).collect();
        let handles = running(&agent);
        let wants_all = short.iter().any(|r| r.short.is_of_disk());
        meter = measure(&agent, meter, &handles, wants_all).await;
        for handle in &handles {
            let pod = handle.current();
            let usage = meter.usage(&pod);
            if let Some(message) = limits::exceeded(&pod, &usage) {
                evict(&agent, handle, message);
            }
        }
        for reading in &short {
            // What nobody needs goes first; only when that did not help a pod has to.
            let again = pressures.short.contains(&reading.short);
            if again || !reading.short.is_of_disk() {
                evict_one(&agent, &meter, reading);
            } else {
                agent.garbage_poke.notify_one();
            }
        }
        pressures.short = short.iter().map(|r| r.short).collect();
        publish(&agent, &mut pressures);
    }
}

fn publish(agent: &Agent, pressures: &mut Pressures) {
    let now = Instant::now();
    for short in &pressures.short {
        let condition = if short.is_of_disk() {
            &mut pressures.disk
        } else {
            &mut pressures.memory
        };
        *condition = Some(now);
    }
    let holds = |at: Option<Instant>| at.is_some_and(|at| now.duration_since(at) < HOLD);
    let pressure = Pressure {
        memory: holds(pressures.memory),
        disk: holds(pressures.disk),
        pids: false,
    };
    let changed = agent.pressure.send_if_modified(|old| {
        let changed = *old != pressure;
        *old = pressure;
        changed
    });
    if changed {
        agent.node_poke.notify_one();
    }
}

/// Pods that can be evicted.
fn running(agent: &Agent) -> Vec<Arc<PodHandle>> {
    let mut handles = agent.handles();
    handles.retain(|h| {
        h.evicted.lock().is_none()
            && h.observed.read().anything_running()
            && !is_terminal(&h.pod.borrow())
    });
    handles
}

/// Looks a little further into the directories of pods, and asks for the layers of those whose usage counts.
async fn measure(
    agent: &Agent,
    mut meter: Meter,
    handles: &[Arc<PodHandle>],
    wants_all: bool,
) -> Meter {
    let pods: Vec<Pod> = handles.iter().map(|h| h.current()).collect();
    let places = meter::places(agent, &pods);
    let mut limited = pods.clone();
    limited.retain(|pod| wants_all || limits::has_any(pod));
    meter.layers(agent, &limited).await;
    let meter = unblock(move || {
        meter.look(&places, meter::ENTRIES_PER_LOOK);
        meter
    })
    .await;
    agent.usage.disks.publish(meter.by_pod());
    meter
}

fn evict(agent: &Agent, handle: &PodHandle, message: String) {
    let pod = handle.pod.borrow().clone();
    if is_critical(&pod) {
        warn!(uid = %handle.uid, message, "a critical pod is not evicted");
        return;
    }
    warn!(uid = %handle.uid, message, "evicting");
    agent.events.warn(&pod, "Evicted", message.clone());
    *handle.evicted.lock() = Some(Problem::new("Evicted", message));
    handle.wake.notify_one();
}

/// Whether a pod stays whatever the node is short of.
pub(crate) fn is_critical(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0) >= CRITICAL
}

fn evict_one(agent: &Agent, meter: &Meter, reading: &Reading) {
    let overhead = agent.config.gates.pod_overhead;
    let handles = agent.handles();
    // One at a time: what is already ending gives back something soon.
    let ending =
        |h: &Arc<PodHandle>| h.evicted.lock().is_some() && h.observed.read().anything_running();
    if handles.iter().any(ending) {
        return;
    }
    let short = reading.short;
    let pods = running(agent)
        .iter()
        .map(|h| h.current())
        .map(|p| {
            let spec = p.spec.clone().unwrap_or_default();
            let requested = short.requested();
            Standing {
                uid: p.metadata.uid.clone().unwrap_or_default(),
                usage: usage(agent, meter, &p, short),
                request: requested.map_or(0, |name| amount::pod_request(&spec, name, overhead)),
                priority: spec.priority.unwrap_or(0),
                critical: is_critical(&p),
            }
        })
        .collect();
    let Some(first) = rank(pods).into_iter().next() else {
        return;
    };
    let Some(handle) = handles.iter().find(|h| h.uid == first.uid) else {
        return;
    };
    let message = format!(
        "The node was low on resource: {}. Threshold quantity: {}, available: {}. \
         The pod was using {}, request is {} (overhead included).",
        short.name(),
        reading.threshold,
        reading.available,
        first.usage,
        first.request
    );
    agent.events.node(
        &agent.config.node_name,
        EventType::Warning,
        "EvictionThresholdMet",
        format!("Attempting to reclaim {}", short.name()),
    );
    evict(agent, handle, message);
}

fn usage(agent: &Agent, meter: &Meter, pod: &Pod, short: Short) -> i64 {
    let used = |usage: PodUsage| match short {
        Short::NodeInodes | Short::ImageInodes => usage.inodes(),
        Short::Memory | Short::NodeDisk | Short::ImageDisk => usage.bytes(),
    };
    match short {
        Short::Memory => {
            let systemd = agent.runtime.borrow().systemd_cgroups;
            agent.cgroups.memory_usage(pod, systemd).unwrap_or(0)
        }
        Short::NodeDisk | Short::ImageDisk | Short::NodeInodes | Short::ImageInodes => {
            i64::try_from(used(meter.usage(pod))).unwrap_or(i64::MAX)
        }
    }
}
