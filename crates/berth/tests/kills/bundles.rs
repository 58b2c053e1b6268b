//! Processes of pods, found by what is noted in their bundles, and by what containers have in their environment.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use nix::unistd::Pid;
use serde_json::Value;

use crate::machine::Machine;
use crate::plan::MARK;

const SANDBOX_NAME: &str = "io.kubernetes.cri.sandbox-name";

/// Which process of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// The shim, berth's own or containerd's.
    Shim,
    /// What holds the streams of containers under containerd's shim.
    Streams,
}

impl Note {
    fn file(self) -> &'static str {
        match self {
            Note::Shim => "shim.pid",
            Note::Streams => "keeper.pid",
        }
    }
}

/// A process of a pod that lives.
#[derive(Clone, Debug)]
pub(crate) struct PodProcess {
    pub(crate) pid: Pid,
    pub(crate) pod: String,
}

pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names.collect()
}

/// All that live of a kind, in an order that does not change while they do.
pub(crate) fn processes(machine: &Machine, note: Note) -> Vec<PodProcess> {
    let bundles = machine.run().join("cri/bundles");
    let mut found: Vec<PodProcess> = names(&bundles)
        .iter()
        .filter_map(|id| {
            let bundle = bundles.join(id);
            let text = fs::read_to_string(bundle.join(note.file())).ok()?;
            let pid: i32 = text.trim().parse().ok()?;
            let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let lives = String::from_utf8_lossy(&words).contains(id.as_str());
            let spec = fs::read(bundle.join("config.json")).ok()?;
            let spec: Value = serde_json::from_slice(&spec).ok()?;
            let pod = spec["annotations"][SANDBOX_NAME].as_str()?.to_owned();
            let pid = Pid::from_raw(pid);
            lives.then_some(PodProcess { pid, pod })
        })
        .collect();
    found.sort_by_key(|process| process.pid);
    found
}

/// Ids of sandboxes and containers that have a bundle, and where their shims listen.
pub(crate) fn ids(machine: &Machine) -> (Vec<String>, Vec<String>) {
    let bundles = machine.run().join("cri/bundles");
    let ids = names(&bundles);
    let address = |id: &String| {
        let text = fs::read_to_string(bundles.join(id).join("address")).ok()?;
        Some(text.trim().strip_prefix("unix://")?.to_owned())
    };
    let sockets = ids.iter().filter_map(address).collect();
    (ids, sockets)
}

/// Containers of the load that run more than once at this moment: name, and the cgroups of those that run. Processes in gVisor
/// are not seen.
pub(crate) fn doubles(machine: &Machine) -> Vec<String> {
    let notes = machine.notes();
    let notes = notes.to_string_lossy();
    let mut running: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for pid in names(Path::new("/proc")) {
        if pid.parse::<u32>().is_err() {
            continue;
        }
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let mark = environment.split(|byte| *byte == 0).find_map(|word| {
            let word = std::str::from_utf8(word).ok()?;
            word.strip_prefix(MARK)?.strip_prefix('=')
        });
        let Some(mark) = mark.filter(|mark| mark.starts_with(notes.as_ref())) else {
            continue;
        };
        let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let cgroup = cgroups.lines().find(|line| line.contains(":memory:"));
        // A runtime on its way to become the container, or that has it killed, is none.
        if let Some(cgroup) = cgroup.filter(|line| line.contains("/pod")) {
            let cgroup = cgroup.rsplit('/').next().unwrap_or_default().to_owned();
            running.entry(mark.to_owned()).or_default().insert(cgroup);
        }
    }
    running.retain(|_, cgroups| cgroups.len() > 1);
    running
        .into_iter()
        .map(|(name, cgroups)| format!("{name} runs in {cgroups:?} at once"))
        .collect()
}
