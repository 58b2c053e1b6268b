//! A container's cgroups: who is in them, and their end.
//!
//! libcgroups signals and removes only the topmost cgroup and waits in steps of 100 ms; a container may have
//! made more below it.

mod others;
mod place;

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use libcgroups::common::{
    AnyCgroupManager, CgroupConfig, CgroupManager as _, CgroupSetup, ControllerOpt,
    create_cgroup_manager, get_cgroup_setup,
};
use libcontainer::container::Container;
use oci_spec::runtime::{LinuxResources, Spec};

use crate::error::Error;
pub(crate) use others::join as join_others;
pub(crate) use place::{relocate, remove_path};

/// How long cgroups may take to lose their last process.
const PATIENCE: Duration = Duration::from_secs(2);

/// Below which the hierarchies are mounted.
const ROOT: &str = "/sys/fs/cgroup";

/// libcgroups' manager of a container.
pub(crate) fn manager(container: &Container) -> Result<AnyCgroupManager, Error> {
    let id = container.id().to_owned();
    let spec = container.spec().map_err(|source| Error::Container {
        verb: "load",
        id: id.clone(),
        source,
    })?;
    manager_of(&id, spec.cgroup_path, container.systemd())
}

fn manager_of(
    id: &str,
    cgroup_path: PathBuf,
    systemd_cgroup: bool,
) -> Result<AnyCgroupManager, Error> {
    create_cgroup_manager(CgroupConfig {
        cgroup_path,
        systemd_cgroup,
        container_name: id.to_owned(),
    })
    .map_err(|error| Error::Cgroup {
        id: id.to_owned(),
        message: error.to_string(),
    })
}

/// Changes the limits of a cgroup.
pub(crate) fn limit(
    id: &str,
    manager: &AnyCgroupManager,
    resources: &LinuxResources,
) -> Result<(), Error> {
    let options = ControllerOpt {
        resources,
        disable_oom_killer: false,
        oom_score_adj: None,
        freezer_state: None,
    };
    manager.apply(&options).map_err(|error| Error::Cgroup {
        id: id.to_owned(),
        message: error.to_string(),
    })
}

/// Changes the limits of a cgroup that need not be of a container of ours; `path` is as in the OCI spec.
pub(crate) fn limit_path(
    id: &str,
    path: &Path,
    systemd: bool,
    resources: &LinuxResources,
) -> Result<(), Error> {
    // libcgroups knows systemd on version 2 only; elsewhere it is by its files that a scope is changed.
    let path = match from_systemd(path) {
        Some(path) if systemd && !is_unified() => path,
        _ => path.to_owned(),
    };
    limit(id, &manager_of(id, path, systemd)?, resources)
}

/// The path that systemd would give to `SLICE:PREFIX:NAME`.
pub(crate) fn from_systemd(path: &Path) -> Option<PathBuf> {
    let text = path.to_str()?;
    let mut parts = text.splitn(3, ':');
    let (slice, prefix, name) = (parts.next()?, parts.next()?, parts.next()?);
    let slice = if slice.is_empty() {
        "system.slice"
    } else {
        slice
    };
    let mut out = PathBuf::from("/");
    // a-b.slice lies in a.slice.
    let stem = slice.strip_suffix(".slice")?;
    if stem != "-" {
        for (at, _) in stem.match_indices('-').chain([(stem.len(), "")]) {
            out.push(format!("{}.slice", &stem[..at]));
        }
    }
    out.push(format!("{prefix}-{name}.scope"));
    Some(out)
}

/// The folders of a container's cgroup, one a hierarchy.
fn folders(container: &Container) -> Vec<PathBuf> {
    let Ok(spec) = container.spec() else {
        return Vec::new();
    };
    let text = spec.cgroup_path.to_string_lossy().into_owned();
    // Nobody's cgroup is the root itself.
    let path = if container.systemd() && text.contains(':') {
        from_systemd(&spec.cgroup_path)
    } else {
        Some(spec.cgroup_path)
    };
    let Some(path) = path
        .as_deref()
        .map(|path| path.strip_prefix("/").unwrap_or(path))
        .filter(|path| {
            path.components()
                .all(|part| matches!(part, std::path::Component::Normal(_)))
        })
        .filter(|path| path.components().count() > 0)
    else {
        return Vec::new();
    };
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    hierarchies(&mounts)
        .into_iter()
        .map(|(mount, _)| Path::new(mount).join(path))
        .filter(|folder| folder.is_dir())
        .collect()
}

/// The folder of a container's cgroup on machines where all controllers are of version 2.
pub(crate) fn unified(container: &Container) -> Result<PathBuf, Error> {
    folders(container).pop().ok_or_else(|| Error::Cgroup {
        id: container.id().to_owned(),
        message: "it has none".to_owned(),
    })
}

/// Whether a process is in a cgroup itself, not in one below it.
pub(crate) fn holds(folder: &Path, pid: i32) -> Result<bool, Error> {
    let file = folder.join("cgroup.procs");
    let text = std::fs::read_to_string(&file).map_err(Error::file("read", &file))?;
    Ok(text.lines().any(|line| line.parse() == Ok(pid)))
}

/// Sets a container's limits of huge pages, for which libcgroups does nothing where systemd has made the cgroup.
pub(crate) fn limit_huge_pages(container: &Container, spec: &Spec) -> Result<(), Error> {
    let linux = spec.linux().as_ref();
    let resources = linux.and_then(|linux| linux.resources().as_ref());
    let limits = resources
        .and_then(|resources| resources.hugepage_limits().clone())
        .unwrap_or_default();
    if limits.is_empty() || !container.systemd() || !is_unified() {
        return Ok(());
    }
    let folder = unified(container)?;
    pass_on("hugetlb", &folder)?;
    for limit in &limits {
        let file = folder.join(format!("hugetlb.{}.max", limit.page_size()));
        std::fs::write(&file, limit.limit().to_string()).map_err(Error::file("write", &file))?;
    }
    Ok(())
}

/// Has the cgroups above a folder pass a controller on to it.
fn pass_on(controller: &str, folder: &Path) -> Result<(), Error> {
    let above: Vec<&Path> = folder
        .ancestors()
        .skip(1)
        .take_while(|path| path.starts_with(ROOT))
        .collect();
    for path in above.into_iter().rev() {
        let file = path.join("cgroup.subtree_control");
        std::fs::write(&file, format!("+{controller}")).map_err(Error::file("write", &file))?;
    }
    Ok(())
}

/// Whether all controllers are of version 2.
pub(crate) fn is_unified() -> bool {
    matches!(get_cgroup_setup(), Ok(CgroupSetup::Unified))
}

/// The hierarchies of version 1.
pub(crate) fn hierarchies_v1() -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut all = hierarchies(&mounts);
    all.retain(|(_, kind)| *kind == "cgroup");
    all.into_iter()
        .map(|(point, _)| PathBuf::from(point))
        .collect()
}

/// Where cgroup hierarchies are mounted, and of which kind.
pub(crate) fn hierarchies(mountinfo: &str) -> Vec<(&str, &str)> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let point = before.split(' ').nth(4)?;
            let kind = after.split(' ').next()?;
            (matches!(kind, "cgroup" | "cgroup2") && point.starts_with(ROOT))
                .then_some((point, kind))
        })
        .collect()
}

/// Every process of a container, in any of its cgroups and those below.
pub(crate) fn processes(container: &Container) -> Vec<i32> {
    let mut pids = Vec::new();
    for folder in folders(container) {
        walk(&folder, &mut |cgroup| {
            let text = std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
            pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        });
    }
    pids.sort_unstable();
    pids.dedup();
    // Of another PID namespace.
    pids.retain(|pid| *pid > 0);
    pids
}

/// Signals every process. A paused container gets it when it goes on.
pub(crate) fn signal_all(container: &Container, signal: i32) {
    // Those that a process makes while we look are found by looking again, where all must go.
    for _ in 0..if signal == libc::SIGKILL { 8 } else { 1 } {
        let pids = processes(container);
        if pids.is_empty() {
            return;
        }
        for pid in pids {
            send(pid, signal);
        }
        if signal == libc::SIGKILL {
            thaw(container);
        }
    }
}

/// Signals one process; one that is gone has had it.
pub(crate) fn send(pid: i32, signal: i32) {
    // SAFETY: kill takes numbers only.
    unsafe { libc::kill(pid, signal) };
}

/// Lets a paused container's processes act on a signal.
pub(crate) fn thaw(container: &Container) {
    for folder in folders(container) {
        for (file, text) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
            let path = folder.join(file);
            if path.exists() {
                let _ = std::fs::write(path, text);
            }
        }
    }
}

/// Ends what is left in a container's cgroups and removes them.
pub(crate) fn remove(container: &Container) -> Result<(), Error> {
    let end = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(1);
    loop {
        signal_all(container, libc::SIGKILL);
        let mut last = None;
        for folder in folders(container) {
            walk(&folder, &mut |cgroup| {
                if let Err(error) = std::fs::remove_dir(cgroup)
                    && error.kind() != io::ErrorKind::NotFound
                {
                    last = Some(format!("{}: {error}", cgroup.display()));
                }
            });
        }
        let Some(message) = last else {
            return Ok(());
        };
        if Instant::now() >= end {
            let id = container.id().to_owned();
            return Err(Error::Cgroup { id, message });
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Visits a cgroup after all below it.
fn walk(folder: &Path, visit: &mut impl FnMut(&Path)) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), visit);
        }
    }
    visit(folder);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemds_names_become_paths() {
        for (name, path) in [
            (
                "kubepods-burstable-podX.slice:cri-berth:id",
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podX.slice/cri-berth-id.scope",
            ),
            (":berth:id", "/system.slice/berth-id.scope"),
            // As runc and libcgroups have it.
            ("-.slice::id", "/-id.scope"),
        ] {
            assert_eq!(from_systemd(Path::new(name)), Some(PathBuf::from(path)));
        }
        assert_eq!(from_systemd(Path::new("/a/b")), None);
    }

    #[test]
    fn hierarchies_are_read_from_the_mounts() {
        let mounts = "30 25 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n\
            31 30 0:27 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory\n\
            32 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
            33 30 0:28 / /elsewhere rw - cgroup2 cgroup2 rw\n";
        assert_eq!(
            hierarchies(mounts),
            [
                ("/sys/fs/cgroup/memory", "cgroup"),
                ("/sys/fs/cgroup/unified", "cgroup2")
            ]
        );
    }
}
