//! Cgroups of containers that other runtimes made: their processes moved, and their end.

use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use oci_spec::runtime::LinuxResources;

use super::{PATIENCE, ROOT, hierarchies, is_unified, limit, manager_of, pass_on, send, walk};
use crate::error::Error;

/// How often it is looked for processes that others have made meanwhile.
const ROUNDS: usize = 64;

/// The file by which processes are put into a cgroup.
const PROCESSES: &str = "cgroup.procs";

/// The controllers of version 2 that limits are for.
const CONTROLLERS: [&str; 5] = ["cpu", "memory", "pids", "cpuset", "io"];

/// What a version 1 cpuset must have before it takes a process.
const CPUSET: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

/// Moves all processes of a cgroup to another one, which is made where it is not there, in each hierarchy that has the first
/// one. `limits` are set before the processes come. What is in cgroups below it stays: whoever made them looks for it there.
pub(crate) fn relocate(
    id: &str,
    from: &Path,
    to: &Path,
    limits: Option<&LinuxResources>,
) -> Result<(), Error> {
    check(id, from)?;
    check(id, to)?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut pairs = Vec::new();
    for (point, _) in hierarchies(&mounts) {
        let point = Path::new(point);
        let source = inside(point, from);
        if source.is_dir() {
            let target = inside(point, to);
            make(point, &target)?;
            pairs.push((source, target));
        }
    }
    if let Some(limits) = limits {
        if is_unified() {
            let available = Path::new(ROOT).join("cgroup.controllers");
            let available = std::fs::read_to_string(available).unwrap_or_default();
            for (_, target) in &pairs {
                for controller in available.split_whitespace() {
                    if CONTROLLERS.contains(&controller) {
                        pass_on(controller, target)?;
                    }
                }
            }
        }
        limit(id, &manager_of(id, to.to_owned(), false)?, limits)?;
    }
    for _ in 0..ROUNDS {
        let mut moved = 0;
        for (source, target) in &pairs {
            let file = target.join(PROCESSES);
            for pid in members(source) {
                match std::fs::write(&file, pid.to_string()) {
                    Ok(()) => moved += 1,
                    // It has ended.
                    Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                    Err(error) => return Err(Error::file("write", &file)(error)),
                }
            }
        }
        if moved == 0 {
            return Ok(());
        }
    }
    Err(Error::Cgroup {
        id: id.to_owned(),
        message: format!(
            "processes are made faster than they can be moved to {}",
            to.display()
        ),
    })
}

/// Removes a cgroup with all below it. What is left in it is killed; one that isn't there is fine.
pub(crate) fn remove_path(id: &str, path: &Path) -> Result<(), Error> {
    check(id, path)?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let folders: Vec<PathBuf> = hierarchies(&mounts)
        .into_iter()
        .map(|(point, _)| inside(Path::new(point), path))
        .filter(|folder| folder.is_dir())
        .collect();
    let end = Instant::now() + PATIENCE;
    let mut pause = Duration::from_millis(1);
    loop {
        let mut last = None;
        for folder in &folders {
            walk(folder, &mut |cgroup| {
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
            return Err(Error::Cgroup {
                id: id.to_owned(),
                message,
            });
        }
        for pid in folders.iter().flat_map(|folder| pids(folder)) {
            send(pid, libc::SIGKILL);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// A path that is a hierarchy's root, or leads out of it, is nobody's cgroup.
fn check(id: &str, path: &Path) -> Result<(), Error> {
    let mut parts = path.components().filter(|part| *part != Component::RootDir);
    if parts.clone().count() > 0 && parts.all(|part| matches!(part, Component::Normal(_))) {
        return Ok(());
    }
    Err(Error::Cgroup {
        id: id.to_owned(),
        message: format!("{} is no cgroup of a container", path.display()),
    })
}

fn inside(point: &Path, path: &Path) -> PathBuf {
    point.join(path.strip_prefix("/").unwrap_or(path))
}

/// Makes a cgroup and those above it that are missing.
fn make(point: &Path, folder: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(folder).map_err(Error::file("make", folder))?;
    let below: Vec<&Path> = folder
        .ancestors()
        .take_while(|path| *path != point)
        .collect();
    for cgroup in below.into_iter().rev() {
        for name in CPUSET {
            let file = cgroup.join(name);
            let Ok(text) = std::fs::read_to_string(&file) else {
                // Another hierarchy's, or version 2, where what is above counts.
                continue;
            };
            if !text.trim().is_empty() || cgroup.join("cgroup.controllers").exists() {
                continue;
            }
            let above = cgroup.parent().unwrap_or(point).join(name);
            let value = std::fs::read_to_string(&above).map_err(Error::file("read", &above))?;
            std::fs::write(&file, value.trim()).map_err(Error::file("write", &file))?;
        }
    }
    Ok(())
}

/// The processes of a cgroup and of all below it.
fn pids(folder: &Path) -> Vec<i32> {
    let mut found = Vec::new();
    walk(folder, &mut |cgroup| found.extend(members(cgroup)));
    found
}

/// The processes of a cgroup itself.
fn members(cgroup: &Path) -> Vec<i32> {
    let text = std::fs::read_to_string(cgroup.join(PROCESSES)).unwrap_or_default();
    let pids = text.lines().filter_map(|line| line.parse::<i32>().ok());
    // Those of another PID namespace are 0.
    pids.filter(|pid| *pid > 0).collect()
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn sleeper() -> Child {
        Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn folders(path: &Path) -> Vec<PathBuf> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let all = hierarchies(&mounts).into_iter();
        all.map(|(point, _)| inside(Path::new(point), path))
            .filter(|folder| folder.is_dir())
            .collect()
    }

    #[test]
    fn processes_are_moved_with_limits_and_cgroups_removed() {
        let top = format!("/berth-place-{}", std::process::id());
        let (from, to) = (Path::new(&top).join("from"), Path::new(&top).join("pod/to"));
        let mut child = sleeper();
        let pid = i32::try_from(child.id()).unwrap();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        for (point, _) in hierarchies(&mounts) {
            let folder = inside(Path::new(point), &from);
            make(Path::new(point), &folder).unwrap();
            std::fs::write(folder.join(PROCESSES), pid.to_string()).unwrap();
        }
        let before = folders(&from);
        assert!(!before.is_empty());
        let mut memory = oci_spec::runtime::LinuxMemory::default();
        memory.set_limit(Some(64 << 20));
        let mut limits = LinuxResources::default();
        limits.set_memory(Some(memory)).set_devices(None);
        relocate("x", &from, &to, Some(&limits)).unwrap();
        assert!(before.iter().all(|folder| pids(folder).is_empty()));
        let after = folders(&to);
        assert_eq!(after.len(), before.len());
        assert!(
            after.iter().all(|folder| pids(folder) == [pid]),
            "{after:?}"
        );
        let limited = after.iter().any(|folder| {
            ["memory.limit_in_bytes", "memory.max"].iter().any(|file| {
                std::fs::read_to_string(folder.join(file))
                    .is_ok_and(|text| text.trim() == "67108864")
            })
        });
        assert!(limited);
        // Nothing is left to do, and what the pod was given since stays.
        relocate("x", &from, &to, None).unwrap();
        remove_path("x", &from).unwrap();
        assert!(child.try_wait().unwrap().is_none());
        // Who waits for a child closes its input, at whose end it would go by itself.
        let _input = child.stdin.take();
        let reaper = std::thread::spawn(move || child.wait().unwrap());
        remove_path("x", &to).unwrap();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&reaper.join().unwrap()),
            Some(libc::SIGKILL)
        );
        remove_path("x", &to).unwrap();
        remove_path("x", Path::new(&top)).unwrap();
        assert!(folders(Path::new(&top)).is_empty());
    }

    #[test]
    fn the_root_and_what_is_beside_it_are_nobody_s() {
        for path in ["", "/", "..", "/a/../b", "a/.."] {
            let path = Path::new(path);
            remove_path("x", path).unwrap_err();
            relocate("x", path, Path::new("/berth-none/a"), None).unwrap_err();
            relocate("x", Path::new("/berth-none/a"), path, None).unwrap_err();
        }
        relocate(
            "x",
            Path::new("/berth-none/a"),
            Path::new("/berth-none/b"),
            None,
        )
        .unwrap();
    }
}
