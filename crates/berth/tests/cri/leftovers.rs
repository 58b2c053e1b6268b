//! What a `berth cri` without pods must not have left on the machine.

use std::path::Path;
use std::process::Command;

use crate::daemon::Daemon;

/// Everything that belongs to a pod: mounts, records, bundles, snapshots, addresses, interfaces, processes, the
/// runtimes' state, sockets, and cgroups below the pods' parent.
pub(crate) fn leftovers(daemon: &Daemon, cgroup_parent: &str) -> Vec<String> {
    let mut left = Vec::new();
    let dir = daemon.path().to_string_lossy().into_owned();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    left.extend(
        mounts
            .lines()
            .filter(|line| line.contains(&dir))
            .map(|line| format!("mount {line}")),
    );
    let bridge = daemon.bridge();
    for folder in [
        "d/cri/sandboxes",
        "d/cri/containers",
        "d/cri/images/snapshots",
        "r/cri/bundles",
        "r/cri/pods",
        "r/cri/s",
        "r/cri/runtime/runc",
        &format!("d/cri/cni/ipam/{bridge}"),
    ] {
        let path = daemon.path().join(folder);
        left.extend(
            names(&path)
                .into_iter()
                .filter(|name| !matches!(name.as_str(), "lock" | "last_reserved_ip.0"))
                .map(|name| format!("{folder}/{name}")),
        );
    }
    let links = Command::new("ip")
        .args(["-o", "link", "show", "master", &bridge])
        .output()
        .expect("ip runs");
    let links = String::from_utf8_lossy(&links.stdout).into_owned();
    left.extend(links.lines().map(|line| format!("interface {line}")));
    // The server itself runs.
    let running = processes(&dir).into_iter();
    left.extend(running.filter(|line| !line.contains(" cri ")));
    for hierarchy in hierarchies() {
        let parent = format!("{hierarchy}/{cgroup_parent}");
        for name in names(Path::new(&parent)) {
            if Path::new(&parent).join(&name).is_dir() {
                left.push(format!("cgroup {parent}/{name}"));
            }
        }
    }
    left
}

/// Processes other than ourselves that have this among their words, each of which ends with a blank.
pub(crate) fn processes(wanted: &str) -> Vec<String> {
    let mut found = Vec::new();
    for process in names(Path::new("/proc")) {
        let words = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        let other = process
            .parse::<u32>()
            .is_ok_and(|pid| pid != std::process::id());
        if other && words.contains(wanted) {
            found.push(format!("process {process} {words}"));
        }
    }
    found
}

/// Removes the pods' cgroup, which is whoever's who named it.
pub(crate) fn remove_cgroup(cgroup_parent: &str) {
    for hierarchy in hierarchies() {
        let _ = std::fs::remove_dir(format!("{hierarchy}/{cgroup_parent}"));
    }
}

fn hierarchies() -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    mounts
        .lines()
        .filter(|line| line.contains(" - cgroup"))
        .filter_map(|line| Some(line.split(' ').nth(4)?.to_owned()))
        .collect()
}

fn names(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}
