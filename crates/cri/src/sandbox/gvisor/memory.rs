//! The memory limits of a gVisor pod's containers.
//!
//! All of a gVisor pod lives in the sandbox's cgroup, so a limit can only be the whole pod's. A
//! kubelet gives one with the sandbox (that of the containers, and the RuntimeClass's overhead);
//! for other clients it is made of the containers' limits here. As everywhere, a pod in which one
//! container may use what it wants has none.

use std::path::{Path, PathBuf};

use berth_oci::Host;

use crate::container;
use crate::engine::Shared;
use crate::record::ContainerPhase;
use crate::sandbox::Sandbox;

/// What gVisor needs for each container, whatever runs in it: a file server process.
const PER_CONTAINER: u64 = 6 << 20;

/// Sets the pod's limit for the containers that run or are about to. What fails is logged: a pod
/// without a limit is better than none.
pub(crate) fn limit(engine: &Shared, sandbox: &Sandbox) {
    let record = sandbox.record();
    let config = &record.config.0;
    let given = config
        .linux
        .as_ref()
        .and_then(|linux| linux.resources.as_ref())
        .is_some_and(|resources| resources.memory_limit_in_bytes > 0);
    if record.runtime.gvisor().is_none() || given {
        return;
    }
    let Some(group) = Group::of(&engine.host, record.pause_pid) else {
        return;
    };
    let limits: Vec<Option<u64>> = container::of_sandbox(engine, &record.id)
        .iter()
        .map(|container| container.record())
        .filter(|record| {
            matches!(
                record.phase,
                ContainerPhase::Starting | ContainerPhase::Running
            )
        })
        .map(|record| {
            let linux = record.config.0.linux?;
            u64::try_from(linux.resources?.memory_limit_in_bytes)
                .ok()
                .filter(|limit| *limit > 0)
        })
        .collect();
    let mut idle = record.idle_memory;
    if idle == 0 {
        // The first container is about to start: what is used now is the sandbox itself.
        idle = group.used();
        if let Err(error) = sandbox.update(|record| record.idle_memory = idle) {
            tracing::warn!(
                id = record.id,
                error = crate::error::chain(&error),
                "record not written"
            );
        }
    }
    let wanted = pod_limit(idle, &limits);
    if wanted == record.memory_limit {
        return;
    }
    match group.set(wanted) {
        Ok(()) => {
            let _ = sandbox.update(|record| record.memory_limit = wanted);
        }
        // Lowering below what is in use; the next change tries again.
        Err(error) => {
            tracing::debug!(id = record.id, %error, "memory limit of the sandbox not set")
        }
    }
}

fn pod_limit(idle: u64, limits: &[Option<u64>]) -> Option<u64> {
    if limits.is_empty() {
        return None;
    }
    limits.iter().try_fold(idle, |sum, limit| {
        Some(sum.saturating_add((*limit)?).saturating_add(PER_CONTAINER))
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

    fn set(&self, limit: Option<u64>) -> std::io::Result<()> {
        let (file, none) = if self.v2 {
            ("memory.max", "max")
        } else {
            ("memory.limit_in_bytes", "-1")
        };
        let text = limit.map_or_else(|| none.to_owned(), |limit| limit.to_string());
        std::fs::write(self.dir.join(file), text)
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
        for (limits, wanted) in [
            (vec![], None),
            (vec![Some(10)], Some(100 + 10 + each)),
            (vec![Some(10), Some(5)], Some(100 + 15 + 2 * each)),
            (vec![Some(10), None], None),
        ] {
            assert_eq!(pod_limit(100, &limits), wanted, "{limits:?}");
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
        group.set(Some(5)).unwrap();
        let read = || std::fs::read_to_string(dir.path().join("memory.limit_in_bytes")).unwrap();
        assert_eq!(read(), "5");
        group.set(None).unwrap();
        assert_eq!(read(), "-1");
    }
}
