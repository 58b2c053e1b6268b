//! The limits of a gVisor pod.
//!
//! All of a gVisor pod lives in the sandbox's cgroup, so a limit can only be the whole pod's. A
//! kubelet gives it with the sandbox (that of the containers, and the RuntimeClass's overhead);
//! for other clients it is made of the containers' limits here. As everywhere, a pod in which one
//! container may use what it wants has none.

use std::path::{Path, PathBuf};

use berth_cri_api::v1::LinuxContainerResources;
use berth_oci::{Host, LinuxCpu, LinuxMemory, LinuxResources};

use crate::container;
use crate::engine::{Engine, Shared};
use crate::error::CriError;
use crate::record::{ContainerPhase, MadeLimits, Phase, SandboxRecord};
use crate::sandbox::{Sandbox, spec};

/// What gVisor needs for each container, whatever runs in it: a file server process.
const PER_CONTAINER: u64 = 6 << 20;
/// The period that CPU time is counted in, in microseconds.
const PERIOD: u64 = 100_000;

/// Sets what the pod's limits lack by those of the containers that run or are about to.
///
/// # Errors
/// When the kernel refuses a limit: such as one below what is in use.
pub(crate) fn limit(engine: &Shared, sandbox: &Sandbox) -> Result<(), CriError> {
    let record = sandbox.record();
    // One that is being stopped takes its cgroup with it.
    if record.runtime.gvisor().is_none() || record.phase != Phase::Ready {
        return Ok(());
    }
    let given = record.config.0.linux.clone().unwrap_or_default();
    let given = given.resources.unwrap_or_default();
    let containers: Vec<LinuxContainerResources> = container::of_sandbox(engine, &record.id)
        .iter()
        .map(|container| container.record())
        .filter(|record| {
            matches!(
                record.phase,
                ContainerPhase::Starting | ContainerPhase::Running
            )
        })
        .map(|record| {
            let linux = record.config.0.linux.clone().unwrap_or_default();
            linux.resources.unwrap_or_default()
        })
        .collect();
    let old = record.made_limits;
    let mut wanted = MadeLimits::default();
    let mut resources = LinuxResources::default();
    if given.memory_limit_in_bytes <= 0
        && let Some(idle) = idle_memory(engine, sandbox)?
    {
        wanted.memory = memory(idle, &containers);
        if wanted.memory != old.memory {
            let mut memory = LinuxMemory::default();
            // The kernel has no limit where the number is as large as it gets.
            let bytes = wanted.memory.and_then(|bytes| i64::try_from(bytes).ok());
            memory.set_limit(Some(bytes.unwrap_or(i64::MAX)));
            resources.set_memory(Some(memory));
        }
    }
    if given.cpu_quota <= 0 {
        wanted.cpu_quota = quota(&containers);
        if wanted.cpu_quota != old.cpu_quota {
            let mut cpu = LinuxCpu::default();
            cpu.set_quota(Some(wanted.cpu_quota.unwrap_or(-1)));
            cpu.set_period(Some(PERIOD));
            resources.set_cpu(Some(cpu));
        }
    }
    if wanted == old {
        return Ok(());
    }
    apply(engine, &record, &resources)?;
    sandbox.update(|record| record.made_limits = wanted)
}

/// As [`limit`]; what fails is logged, since a pod without a limit is better than none.
pub(crate) fn try_limit(engine: &Shared, sandbox: &Sandbox) {
    if let Err(error) = limit(engine, sandbox) {
        tracing::warn!(
            id = sandbox.id,
            error = crate::error::chain(&error),
            "the limits of a gVisor pod are not those of its containers"
        );
    }
}

/// Sets the limits of a running pod.
pub(crate) fn apply(
    engine: &Engine,
    record: &SandboxRecord,
    resources: &LinuxResources,
) -> Result<(), CriError> {
    let spec = spec::pause_spec(engine, record)?;
    let linux = spec.linux().as_ref();
    let Some(path) = linux.and_then(|linux| linux.cgroups_path().clone()) else {
        return Ok(());
    };
    let systemd = record.runtime.systemd_cgroup();
    berth_runtime::limit(&record.id, &path, systemd, resources)
        .map_err(|error| CriError::State(format!("limits not changed: {error}")))
}

/// What the sandbox uses by itself, in bytes: measured when the first container is about to start.
fn idle_memory(engine: &Engine, sandbox: &Sandbox) -> Result<Option<u64>, CriError> {
    let record = sandbox.record();
    if record.idle_memory > 0 {
        return Ok(Some(record.idle_memory));
    }
    let Some(group) = Group::of(&engine.host, record.pause_pid) else {
        return Ok(None);
    };
    let idle = group.used();
    sandbox.update(|record| record.idle_memory = idle)?;
    Ok(Some(idle))
}

/// What the cgroup of a process uses, in bytes; `None` when it is in none of its own.
pub(crate) fn memory_used(host: &Host, pid: u32) -> Option<u64> {
    Group::of(host, pid).map(|group| group.used())
}

/// The pod's memory, in bytes.
fn memory(idle: u64, containers: &[LinuxContainerResources]) -> Option<u64> {
    if containers.is_empty() {
        return None;
    }
    containers.iter().try_fold(idle, |sum, container| {
        let limit = u64::try_from(container.memory_limit_in_bytes).ok();
        let limit = limit.filter(|limit| *limit > 0)?;
        Some(sum.saturating_add(limit).saturating_add(PER_CONTAINER))
    })
}

/// The pod's CPU time, in microseconds a [`PERIOD`].
fn quota(containers: &[LinuxContainerResources]) -> Option<i64> {
    if containers.is_empty() {
        return None;
    }
    containers.iter().try_fold(0_i64, |sum, container| {
        let quota = i128::from(container.cpu_quota);
        // The kernel's period where none is given.
        let period = match container.cpu_period {
            ..=0 => i128::from(PERIOD),
            period => i128::from(period),
        };
        let quota = i64::try_from(quota * i128::from(PERIOD) / period).ok();
        Some(sum.saturating_add(quota.filter(|quota| *quota > 0)?))
    })
}

/// A memory cgroup.
struct Group {
    dir: PathBuf,
    v2: bool,
}

impl Group {
    /// That of a process; `None` when it is in none of its own.
    fn of(host: &Host, pid: u32) -> Option<Self> {
        let mount = host.cgroups.mounts.get("memory")?;
        let v2 = host.cgroups.unified.as_ref() == Some(mount);
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let path = path_in(&text, v2)?;
        Some(Self {
            dir: mount.join(path),
            v2,
        })
    }

    /// Memory that can't be had back by dropping caches.
    fn used(&self) -> u64 {
        let (total, cached) = if self.v2 {
            ("memory.current", "file")
        } else {
            ("memory.usage_in_bytes", "cache")
        };
        let read = |file: &str| std::fs::read_to_string(self.dir.join(file)).unwrap_or_default();
        let stat = read("memory.stat");
        let value = |name: &str| -> u64 {
            stat.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
                .unwrap_or(0)
        };
        let total: u64 = read(total).trim().parse().unwrap_or(0);
        total.saturating_sub(value(cached).saturating_sub(value("shmem")))
    }
}

/// The path in a `/proc/PID/cgroup`, relative; the hierarchy's root is nobody's own.
fn path_in(text: &str, v2: bool) -> Option<&Path> {
    text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next()?;
        let here = if v2 {
            controllers.is_empty()
        } else {
            controllers.split(',').any(|name| name == "memory")
        };
        let path = fields.next()?.trim_start_matches('/');
        (here && !path.is_empty()).then(|| Path::new(path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_limited_when_all_its_containers_are() {
        let each = PER_CONTAINER;
        let of = |memory_limit_in_bytes, cpu_quota, cpu_period| LinuxContainerResources {
            memory_limit_in_bytes,
            cpu_quota,
            cpu_period,
            ..LinuxContainerResources::default()
        };
        for (containers, bytes, time) in [
            (vec![], None, None),
            (vec![of(10, 0, 0)], Some(100 + 10 + each), None),
            (vec![of(0, 50_000, 100_000)], None, Some(50_000)),
            (
                vec![of(10, 50_000, 0), of(5, 10_000, 50_000)],
                Some(100 + 15 + 2 * each),
                Some(70_000),
            ),
            (vec![of(10, 50_000, 0), of(0, -1, 100_000)], None, None),
            (
                vec![of(i64::MAX, i64::MAX, 1)],
                Some(100 + each + i64::MAX.unsigned_abs()),
                None,
            ),
        ] {
            assert_eq!(memory(100, &containers), bytes, "{containers:?}");
            assert_eq!(quota(&containers), time, "{containers:?}");
        }
    }

    #[test]
    fn the_group_is_found_in_both_versions() {
        let text = "9:name=systemd:/x\n4:cpu,memory:/kubepods/pod1/abc\n0::/unified/abc\n";
        assert_eq!(path_in(text, false), Some(Path::new("kubepods/pod1/abc")));
        assert_eq!(path_in(text, true), Some(Path::new("unified/abc")));
        assert_eq!(path_in("4:memory:/\n", false), None);
    }

    #[test]
    fn caches_are_not_counted_as_used() {
        let dir = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| std::fs::write(dir.path().join(file), text).unwrap();
        write("memory.usage_in_bytes", "1000\n");
        write("memory.stat", "cache 300\nrss 600\nshmem 100\n");
        let group = Group {
            dir: dir.path().to_owned(),
            v2: false,
        };
        assert_eq!(group.used(), 800);
    }
}
