//! What a container uses, in containerd's messages.

mod control;
mod gvisor;
mod v1;
mod v2;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use berth_oci::cgroup::{CgroupMode, Cgroups};
use protobuf::Message;
use protobuf::well_known_types::any::Any;

use super::container::Container;
use super::error::Error;

/// The container's metrics as the kernel (or gVisor) counts them.
pub(super) async fn metrics(container: &Container) -> Result<Any, Error> {
    // The sandbox's group has all of the pod, and counts what gVisor itself needs.
    if container.runtime.is_gvisor() && !container.is_sandbox() {
        return gvisor::metrics(container).await;
    }
    let groups = container.groups();
    Ok(match groups.mode {
        CgroupMode::V2 => pack(
            "io.containerd.cgroups.v2.Metrics",
            &v2::read(&groups.dir("")),
        ),
        CgroupMode::V1 | CgroupMode::Hybrid => {
            pack("io.containerd.cgroups.v1.Metrics", &v1::read(groups))
        }
    })
}

/// Host pids in the container's cgroup and below.
pub(super) fn pids(groups: &Groups) -> Vec<u32> {
    let dir = match groups.mode {
        CgroupMode::V2 => groups.dir(""),
        CgroupMode::V1 | CgroupMode::Hybrid => groups.dir("pids").or_else(|| groups.dir("memory")),
    };
    let mut out = Vec::new();
    if let Some(dir) = dir {
        collect(&dir, &mut out);
    }
    out
}

fn collect(dir: &Path, out: &mut Vec<u32>) {
    let text = std::fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    out.extend(text.lines().filter_map(|l| l.parse::<u32>().ok()));
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            collect(&entry.path(), out);
        }
    }
}

/// Where a process' cgroups are; they outlive it.
#[derive(Debug)]
pub(super) struct Groups {
    mode: CgroupMode,
    dirs: BTreeMap<String, PathBuf>,
}

impl Groups {
    pub(super) fn of(pid: i32) -> Self {
        let cgroups = Cgroups::detect();
        let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let mut dirs = BTreeMap::new();
        for line in text.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
                continue;
            };
            let path = path.trim_start_matches('/');
            if path.is_empty() {
                // The root: the process is not in a container's cgroup (any more).
                continue;
            }
            for controller in controllers.split(',') {
                let mount = if controller.is_empty() {
                    cgroups.unified.as_ref()
                } else {
                    cgroups.mounts.get(controller)
                };
                if let Some(mount) = mount {
                    dirs.insert(controller.to_owned(), mount.join(path));
                }
            }
        }
        Self {
            mode: cgroups.mode,
            dirs,
        }
    }

    /// Whether version 1 has counted something killed in these groups for want of memory; [`super::kills`] asks
    /// version 2.
    pub(super) fn oom_killed(&self) -> bool {
        self.dir("memory")
            .and_then(|dir| table(&dir, "memory.oom_control").get("oom_kill").copied())
            .is_some_and(|count| count > 0)
    }

    /// The group of version 2.
    pub(super) fn unified(&self) -> Option<PathBuf> {
        self.dir("")
    }

    /// The directory of a v1 controller, or of v2 (the empty name).
    fn dir(&self, controller: &str) -> Option<PathBuf> {
        self.dirs.get(controller).cloned()
    }
}

fn pack(type_url: &str, message: &impl Message) -> Any {
    Any {
        type_url: type_url.to_owned(),
        value: message.write_to_bytes().unwrap_or_default(),
        ..Default::default()
    }
}

/// A file with one number (`max` counts as all).
fn number(dir: &Path, file: &str) -> u64 {
    match std::fs::read_to_string(dir.join(file))
        .unwrap_or_default()
        .trim()
    {
        "max" => u64::MAX,
        text => text.parse().unwrap_or(0),
    }
}

/// A file of `key value` lines.
fn table(dir: &Path, file: &str) -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(dir.join(file)).unwrap_or_default();
    text.lines()
        .filter_map(|l| l.split_once(' '))
        .filter_map(|(k, v)| Some((k.to_owned(), v.trim().parse().ok()?)))
        .collect()
}
