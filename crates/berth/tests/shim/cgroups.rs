//! The cgroups of the guest's containers, which go with the guest, and the one that the sandbox has on the host.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often and after what pause a cgroup is tried again whose processes are just ending.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(20);

/// Removes a cgroup and those below it, in all hierarchies.
pub(crate) fn remove(path: &str) {
    let path = path.trim_start_matches('/');
    if path.is_empty() {
        return;
    }
    for hierarchy in hierarchies() {
        remove_tree(&hierarchy.join(path));
    }
}

/// Puts a process into a cgroup, which is made, in all hierarchies that take it.
pub(crate) fn enter(path: &str, pid: u32) {
    let path = path.trim_start_matches('/');
    for hierarchy in hierarchies() {
        let dir = hierarchy.join(path);
        let _ = std::fs::create_dir_all(&dir);
        let _ = std::fs::write(dir.join("cgroup.procs"), pid.to_string());
    }
}

fn remove_tree(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    for _ in 0..TRIES {
        if !dir.exists() || std::fs::remove_dir(dir).is_ok() {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

fn hierarchies() -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts
        .lines()
        .filter(|line| line.contains(" - cgroup"))
        .filter_map(|line| Some(PathBuf::from(line.split(' ').nth(4)?)))
        .collect()
}
