//! What a machine without pods must not have.

use std::path::Path;
use std::process::Command;

use berth_testkit::wait_for_async;
use kube::api::ListParams;

use crate::LIMIT;
use crate::bundles::names;
use crate::load::Load;
use crate::machine::Machine;

/// Where runc keeps what it knows under containerd's shim.
pub(crate) const RUNC: &str = "/run/containerd/runc/k8s.io";

/// Waits until nothing is left of any pod.
pub(crate) async fn wait_for_nothing(machine: &Machine, load: &Load) {
    wait_for_async("the end of all that pods had", LIMIT, async || {
        let pods = load.api.list(&ListParams::default()).await;
        let pods = pods.map_err(|e| e.to_string())?.items;
        let names = pods.into_iter().filter_map(|pod| pod.metadata.name);
        let mut left: Vec<String> = names.map(|name| format!("pod {name}")).collect();
        left.extend(leftovers(machine, load));
        left.is_empty()
            .then_some(())
            .ok_or_else(|| format!("left behind: {left:#?}"))
    })
    .await;
}

fn leftovers(machine: &Machine, load: &Load) -> Vec<String> {
    let dir = machine.dir().to_string_lossy().into_owned();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let mounts = mounts.lines().filter(|line| line.contains(&dir));
    let mut left: Vec<String> = mounts.map(|line| format!("mount {line}")).collect();
    let bridge = machine.bridge();
    let mut folders: Vec<String> = [
        "d/cri/sandboxes",
        "d/cri/containers",
        "d/cri/images/snapshots",
        "d/node/pods",
        "logs",
        "r/cri/bundles",
        "r/cri/pods",
        "r/cri/s",
    ]
    .map(str::to_owned)
    .into();
    folders.push(format!("d/cri/cni/ipam/{bridge}"));
    for name in names(&machine.path("r/cri/runtime")) {
        folders.push(format!("r/cri/runtime/{name}/.berth"));
        folders.push(format!("r/cri/runtime/{name}"));
    }
    let stay = ["lock", "last_reserved_ip.0", ".berth"];
    for folder in folders {
        let found = names(&machine.path(&folder)).into_iter();
        let found = found.filter(|name| !stay.contains(&name.as_str()));
        left.extend(found.map(|name| format!("{folder}/{name}")));
    }
    // Those of containerd's shim are not in the machine's directory.
    let elsewhere = load.ids().into_iter().map(|id| format!("{RUNC}/{id}"));
    let elsewhere = elsewhere.chain(load.sockets());
    left.extend(elsewhere.filter(|path| Path::new(path).symlink_metadata().is_ok()));
    let links = Command::new("ip")
        .args(["-o", "link", "show", "master", &bridge])
        .output();
    let links = String::from_utf8_lossy(&links.expect("ip runs").stdout).into_owned();
    left.extend(links.lines().map(|line| format!("interface {line}")));
    left.extend(processes(machine));
    left.extend(cgroups(load));
    left
}

/// Processes other than the three parts that have the machine's directory in their words or environment.
fn processes(machine: &Machine) -> Vec<String> {
    let parts: Vec<u32> = machine.pids();
    let mut left = Vec::new();
    for (pid, words) in of_machine(machine) {
        if !parts.contains(&pid) {
            left.push(format!("process {pid} {words}"));
        }
    }
    left
}

/// All processes of the machine: by their words, their environment, or a root file system of its.
pub(crate) fn of_machine(machine: &Machine) -> Vec<(u32, String)> {
    let dir = machine.dir().to_string_lossy().into_owned();
    let has = |file: &Path| {
        let bytes = std::fs::read(file).unwrap_or_default();
        String::from_utf8_lossy(&bytes).contains(&dir)
    };
    let pids = names(Path::new("/proc"));
    let pids = pids.iter().filter_map(|name| name.parse::<u32>().ok());
    let others = pids.filter(|pid| *pid != std::process::id());
    others
        .filter_map(|pid| {
            let process = Path::new("/proc").join(pid.to_string());
            let files = ["cmdline", "environ"].map(|name| process.join(name));
            let words = std::fs::read(process.join("cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words).replace('\0', " ");
            let is_its = files.iter().any(|file| has(file)) || has_root_below(&process, &dir);
            is_its.then_some((pid, words))
        })
        .collect()
}

/// A container's process, on an overlay of the machine's.
fn has_root_below(process: &Path, dir: &str) -> bool {
    let mounts = std::fs::read_to_string(process.join("mountinfo")).unwrap_or_default();
    let mut lines = mounts.lines();
    lines.any(|line| line.split(' ').nth(4) == Some("/") && line.contains(dir))
}

/// Cgroups of pods, sandboxes and containers, in every hierarchy.
pub(crate) fn cgroups(load: &Load) -> Vec<String> {
    let mut wanted = load.ids();
    wanted.extend(load.seen.uids().iter().map(|uid| format!("pod{uid}")));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let hierarchies = mounts.lines().filter(|line| line.contains(" - cgroup"));
    let mut found = Vec::new();
    for hierarchy in hierarchies.filter_map(|line| line.split(' ').nth(4)) {
        find(Path::new(hierarchy), 5, &wanted, &mut found);
    }
    found
}

fn find(dir: &Path, depth: usize, wanted: &[String], found: &mut Vec<String>) {
    for name in names(dir) {
        let path = dir.join(&name);
        if !path.is_dir() {
            continue;
        }
        if wanted.iter().any(|wanted| name.ends_with(wanted.as_str())) {
            found.push(path.to_string_lossy().into_owned());
        }
        if depth > 0 {
            find(&path, depth - 1, wanted, found);
        }
    }
}
