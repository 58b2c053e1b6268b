//! The figures of each sandbox, from one look at all pods.

use std::collections::HashMap;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Instant;

use berth_cost::{Amount, Figures};

use crate::usage::process::{self, Process};
use crate::usage::{CgroupUsage, ContainerScene, PodScene, Scene};

/// What the runtime says of a container counts when it is not older than this.
const MAX_AGE_NS: i64 = 30_000_000_000;

/// One for each pod of the scene, in its order; none where something is missing. None at all when there are more processes
/// than are looked at.
pub(super) fn read(scene: &Scene) -> Option<Vec<Option<Figures>>> {
    let mut ids = HashMap::new();
    for (index, pod) in scene.pods.iter().enumerate() {
        let containers = pod.containers.iter().map(|c| &c.id);
        ids.extend(
            containers
                .chain([&pod.sandbox_id])
                .map(|id| (id.clone(), index)),
        );
    }
    let mut outside = process::outside(Path::new("/proc"), &ids)?;
    let now = i64::try_from(scene.at.as_nanosecond()).unwrap_or(i64::MAX);
    let namespace = process::network_namespace_bytes();
    let at_ns = clock();
    let pods = scene.pods.iter().enumerate();
    let figures = pods.map(|(index, pod)| {
        let outside = outside.remove(&index).unwrap_or_default();
        of_pod(pod, &outside, at_ns, now, namespace)
    });
    Some(figures.collect())
}

/// Nanoseconds of a clock that only goes forward.
fn clock() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn of_pod(
    pod: &PodScene,
    outside: &[Process],
    at_ns: u64,
    now: i64,
    namespace: u64,
) -> Option<Figures> {
    let whole = amount(pod.cgroup.as_ref()?)?;
    // A pod whose containers have ended, or have yet to start, is no measure of its class.
    if pod.containers.is_empty() {
        return None;
    }
    let shares_kernel = pod.containers.iter().any(|c| c.cgroup.is_some());
    let mut containers = Amount::default();
    for container in &pod.containers {
        containers = containers.plus(own(container, shares_kernel, now)?);
    }
    let pause = pod.sandbox_cgroup.as_ref().filter(|_| shares_kernel);
    let mut of: Vec<String> = pod.containers.iter().map(|c| c.id.clone()).collect();
    of.extend(outside.iter().map(|process| process.name.clone()));
    of.sort();
    let host_network = pod
        .pod
        .spec
        .as_ref()
        .is_some_and(|s| s.host_network == Some(true));
    let outside_kernel = outside.iter().map(|process| process.kernel).sum::<u64>();
    Some(Figures {
        at_ns,
        of,
        pod: whole,
        containers,
        pause: pause.map_or(Some(Amount::default()), amount)?,
        outside: outside
            .iter()
            .fold(Amount::default(), |sum, p| sum.plus(p.amount)),
        kernel: outside_kernel.saturating_add(if host_network { 0 } else { namespace }),
        shares_kernel,
    })
}

fn amount(usage: &CgroupUsage) -> Option<Amount> {
    Some(Amount {
        cpu_ns: usage.cpu_ns?,
        memory: usage.working_set?,
    })
}

/// What a container uses by its own count: none when that is missing, or old.
fn own(container: &ContainerScene, shares_kernel: bool, now: i64) -> Option<Amount> {
    if shares_kernel {
        return amount(container.cgroup.as_ref()?);
    }
    let reported = container.reported.as_ref()?;
    let cpu = reported.cpu.as_ref()?;
    if now.saturating_sub(cpu.timestamp) > MAX_AGE_NS {
        return None;
    }
    Some(Amount {
        cpu_ns: cpu.usage_core_nano_seconds.as_ref()?.value,
        memory: reported.memory.as_ref()?.working_set_bytes.as_ref()?.value,
    })
}

#[cfg(test)]
mod tests;
