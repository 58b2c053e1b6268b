//! Eviction: when memory or disk runs short the node says so, and ends pods one at a time until it
//! has recovered.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_core::event::EventType;
use berth_core::lifecycle::evict::{Standing, rank};
use berth_core::lifecycle::{Problem, is_terminal};
use k8s_openapi::api::core::v1::Pod;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::agent::{Agent, Pressure};
use crate::amount;
use crate::machine::meminfo_bytes;
use crate::pods::PodHandle;
use crate::sandbox_config::log_directory;

const EVERY: Duration = Duration::from_secs(10);
/// A condition stays for this long after the shortage, as in stock, so that it does not flap.
const HOLD: Duration = Duration::from_secs(300);
/// `memory.available<100Mi`.
const MEMORY: i64 = 100 << 20;
/// `nodefs.available<10%`, but never more than this: a tenth of a large disk is plenty.
const DISK: i64 = 5 << 30;
const CRITICAL: i32 = 2_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Short {
    Memory,
    Disk,
}

impl Short {
    fn name(self) -> &'static str {
        match self {
            Short::Memory => "memory",
            Short::Disk => "ephemeral-storage",
        }
    }
}

/// Watches memory and disk until `shutdown`.
pub(crate) async fn keep(agent: Arc<Agent>, shutdown: CancellationToken) {
    let mut held: [Option<Instant>; 2] = [None, None];
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        for handle in agent.handles() {
            over_limit(&agent, &handle);
        }
        for (i, short) in [Short::Memory, Short::Disk].into_iter().enumerate() {
            let Some((available, threshold)) = signal(&agent, short) else {
                continue;
            };
            if available < threshold {
                held[i] = Some(Instant::now());
                evict_one(&agent, short, available, threshold);
            }
        }
        let holds = |at: Option<Instant>| at.is_some_and(|at| at.elapsed() < HOLD);
        let pressure = Pressure {
            memory: holds(held[0]),
            disk: holds(held[1]),
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
}

/// A pod whose emptyDir holds more than its own limit goes, whatever the node has left.
fn over_limit(agent: &Agent, handle: &PodHandle) {
    let pod = handle.pod.borrow().clone();
    if handle.evicted.lock().is_some() || !handle.observed.read().anything_running() {
        return;
    }
    for volume in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
        let Some(limit) = volume
            .empty_dir
            .as_ref()
            .and_then(|e| e.size_limit.as_ref())
        else {
            continue;
        };
        let dir = agent
            .pod_dir(&pod)
            .join("volumes/kubernetes.io~empty-dir")
            .join(&volume.name);
        let used = i64::try_from(on_disk(&dir)).unwrap_or(i64::MAX);
        let bytes = amount::bytes(limit);
        if bytes > 0 && used > bytes {
            let message = format!(
                "Usage of EmptyDir volume {:?} exceeds the limit {:?}. ",
                volume.name, limit.0
            );
            agent.events.warn(&pod, "Evicted", message.clone());
            *handle.evicted.lock() = Some(Problem::new("Evicted", message));
            handle.wake.notify_one();
            return;
        }
    }
}

/// What is left, and below which amount it is short.
fn signal(agent: &Agent, short: Short) -> Option<(i64, i64)> {
    match short {
        Short::Memory => {
            let info = std::fs::read_to_string("/proc/meminfo").ok()?;
            Some((meminfo_bytes(&info, "MemAvailable:")?, MEMORY))
        }
        Short::Disk => {
            let disk = nix::sys::statvfs::statvfs(&agent.config.root_dir).ok()?;
            let bytes = |blocks: u64| i64::try_from(blocks * disk.fragment_size()).ok();
            let tenth = bytes(disk.blocks())? / 10;
            Some((bytes(disk.blocks_available())?, tenth.min(DISK)))
        }
    }
}

fn evict_one(agent: &Agent, short: Short, available: i64, threshold: i64) {
    let overhead = agent.config.gates.pod_overhead;
    let handles = agent.handles();
    // One at a time: what is already ending gives back something soon.
    let ending =
        |h: &Arc<PodHandle>| h.evicted.lock().is_some() && h.observed.read().anything_running();
    if handles.iter().any(ending) {
        return;
    }
    let pods = handles
        .iter()
        .filter(|h| h.observed.read().anything_running() && h.evicted.lock().is_none())
        .map(|h| h.current())
        .filter(|p| !is_terminal(p))
        .map(|p| {
            let spec = p.spec.clone().unwrap_or_default();
            let priority = spec.priority.unwrap_or(0);
            Standing {
                uid: p.metadata.uid.clone().unwrap_or_default(),
                usage: usage(agent, &p, short),
                request: amount::pod_request(&spec, short.name(), overhead),
                priority,
                critical: priority >= CRITICAL,
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
        "The node was low on resource: {}. Threshold quantity: {threshold}, available: {available}. \
         The pod was using {}, request is {} (overhead included).",
        short.name(),
        first.usage,
        first.request
    );
    warn!(uid = %first.uid, message, "evicting");
    let pod = handle.pod.borrow().clone();
    agent.events.warn(&pod, "Evicted", message.clone());
    agent.events.node(
        &agent.config.node_name,
        EventType::Warning,
        "EvictionThresholdMet",
        format!("Attempting to reclaim {}", short.name()),
    );
    *handle.evicted.lock() = Some(Problem::new("Evicted", message));
    handle.wake.notify_one();
}

fn usage(agent: &Agent, pod: &Pod, short: Short) -> i64 {
    match short {
        Short::Memory => {
            let systemd = agent.runtime.borrow().systemd_cgroups;
            agent.cgroups.memory_usage(pod, systemd).unwrap_or(0)
        }
        Short::Disk => {
            let volumes = agent.pod_dir(pod).join("volumes/kubernetes.io~empty-dir");
            let bytes = on_disk(&volumes) + on_disk(&log_directory(agent, pod));
            i64::try_from(bytes).unwrap_or(i64::MAX)
        }
    }
}

/// Bytes that a directory takes on its own file system.
fn on_disk(dir: &Path) -> u64 {
    let Ok(root) = std::fs::symlink_metadata(dir) else {
        return 0;
    };
    let mut sum = 0;
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            sum += meta.blocks() * 512;
            if meta.is_dir() && meta.dev() == root.dev() {
                open.push(entry.path());
            }
        }
    }
    sum
}
