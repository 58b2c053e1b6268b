//! The processes that a shim has started, found and ended.
//!
//! A process is a pod's, and only then is it killed, if
//! - it was seen below the pod's shim while that lived, and is the same process still (its start time tells), or
//! - it is in a cgroup that has the name of the pod's sandbox or of one of its containers, or
//! - its environment says that it was started by this pod's shim ([`berth_shim::client::SHIM_ID`]), or
//! - its parent is such a process.
//!
//! In no case is it killed if it is in the cgroup of another pod, or is another pod's shim or below one, or is berth itself
//! or above it. A process that merely names the sandbox among its words is left alone: anybody may do that. If what it names
//! is one of the sandbox's directories, and it is root's or has something open there, it is reported.
//!
//! A cgroup is of whom its outermost name says: what lies below a pod's own cgroup, the pod may have made.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// How many processes of a shim are noted; those next to it, and the oldest of these, come first.
const NOTED_MAX: usize = 128;
/// How much of a process' environment and words is looked at. Whoever is in a pod can make them as long as he likes.
const WORDS_MAX: u64 = 256 << 10;
/// How long killed processes may take to be gone.
const AFTER_KILL: Duration = Duration::from_secs(10);

/// A process, and no later one that has its pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    pub(crate) pid: u32,
    /// Clock ticks since the boot.
    started: u64,
}

/// A shim and the processes below it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShimProcesses {
    /// The boot in which they were seen: start times of another mean nothing.
    boot: String,
    shim: Option<ProcessId>,
    below: Vec<ProcessId>,
}

impl ShimProcesses {
    /// The shim itself, if it was seen since the machine was booted.
    pub(crate) fn shim(&self) -> Option<ProcessId> {
        self.shim.filter(|_| self.boot == boot())
    }

    fn all(&self) -> BTreeSet<ProcessId> {
        if self.boot != boot() {
            return BTreeSet::new();
        }
        self.shim.iter().chain(&self.below).copied().collect()
    }
}

impl ProcessId {
    /// A descriptor for it; `None` when it is gone.
    pub(crate) fn open(self) -> Option<OwnedFd> {
        // The descriptor comes first: should the pid be given to another process after that, it is of the old one.
        let raw = Pid::from_raw(i32::try_from(self.pid).ok()?)?;
        let process = pidfd_open(raw, PidfdFlags::empty()).ok()?;
        let now = Process::read(Path::new("/proc"), self.pid)?;
        (now.id == self && !now.ended).then_some(process)
    }
}

/// Whose processes are looked for.
pub(super) struct Owner {
    /// For the log.
    pub(super) sandbox: String,
    /// The sandbox and its containers.
    pub(super) ids: BTreeSet<String>,
    /// All other sandboxes and containers.
    pub(super) others: BTreeSet<String>,
    /// The sandbox's directories ([`super::directories`]).
    pub(super) directories: Vec<PathBuf>,
    pub(super) recorded: ShimProcesses,
    /// Shims of other pods.
    pub(super) spared: Vec<ProcessId>,
}

struct Process {
    id: ProcessId,
    parent: u32,
    name: String,
    ended: bool,
}

impl Process {
    fn read(proc: &Path, pid: u32) -> Option<Self> {
        let stat = std::fs::read(proc.join(pid.to_string()).join("stat")).ok()?;
        let stat = String::from_utf8_lossy(&stat);
        // A name may have anything in it, parentheses too.
        let (head, rest) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split(' ').collect();
        Some(Self {
            id: ProcessId {
                pid,
                started: fields.get(19)?.parse().ok()?,
            },
            parent: fields.get(1)?.parse().ok()?,
            name: head.split_once('(')?.1.escape_debug().to_string(),
            ended: matches!(*fields.first()?, "Z" | "X"),
        })
    }
}

type Table = BTreeMap<u32, Process>;

fn table(proc: &Path) -> Table {
    let entries = std::fs::read_dir(proc).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, Process::read(proc, pid)?)))
        .collect()
}

/// The boot's id.
fn boot() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// The shim with this pid and what is below it; `None` when the process is not the shim of that id. What was seen `before`
/// and lives still counts on: it may have left its parents. Processes in containers (`ids` are all) need no note.
pub(super) fn look(
    pid: u32,
    id: &str,
    binary: &Path,
    ids: &BTreeSet<String>,
    before: &ShimProcesses,
) -> Option<ShimProcesses> {
    let proc = Path::new("/proc");
    let all = table(proc);
    let shim = all.get(&pid)?;
    let same_binary = || {
        let exe = std::fs::read_link(proc.join(pid.to_string()).join("exe"));
        let binary = binary.canonicalize();
        matches!((exe, binary), (Ok(exe), Ok(binary)) if exe == binary)
    };
    let marks = marks(proc, pid);
    // One with another's mark is another's, also with the same binary.
    let is_shim = marks.contains(id) || marks.is_empty() && same_binary();
    if shim.ended || !is_shim {
        return None;
    }
    let known = before.all();
    let mut below: Vec<ProcessId> = known
        .iter()
        .copied()
        .filter(|process| *process != shim.id)
        .filter(|process| is_alive(&all, *process))
        .collect();
    let mut parents = BTreeSet::from([pid]);
    while !parents.is_empty() && below.len() < NOTED_MAX {
        let mut children: Vec<&Process> = all
            .values()
            .filter(|process| parents.contains(&process.parent) && !process.ended)
            .collect();
        children.sort_by_key(|process| process.id.started);
        children.retain(|process| cgroups(proc, process.id.pid, ids).is_empty());
        parents = children.iter().map(|process| process.id.pid).collect();
        let new = children.iter().map(|process| process.id);
        below.extend(new.filter(|process| !known.contains(process)));
    }
    below.truncate(NOTED_MAX);
    Some(ShimProcesses {
        boot: boot(),
        shim: Some(shim.id),
        below,
    })
}

fn is_alive(all: &Table, process: ProcessId) -> bool {
    all.get(&process.pid)
        .is_some_and(|now| now.id == process && !now.ended)
}

/// Waits as long as `patience` for the end of a shim, of what was below it, and of what else `is_done` looks at; true when
/// something is left. A shim that serves other pods, too, (one of `spared`) goes on, and so may what is below it.
pub(super) fn wait_for_end(
    recorded: &ShimProcesses,
    spared: &[ProcessId],
    patience: Duration,
    is_done: impl Fn() -> bool,
) -> bool {
    /// Between two looks at what can't be waited for.
    const LOOK: Duration = Duration::from_millis(20);
    let until = Instant::now() + patience;
    let shared = recorded.shim().is_some_and(|shim| spared.contains(&shim));
    let watched = if shared {
        BTreeSet::new()
    } else {
        recorded.all()
    };
    loop {
        let alive = watched.iter().find_map(|process| process.open());
        if alive.is_none() && is_done() {
            return false;
        }
        let left = until.saturating_duration_since(Instant::now());
        match alive {
            _ if left.is_zero() => return true,
            Some(process) => drop(ends_within(&process, left)),
            None => std::thread::sleep(left.min(LOOK)),
        }
    }
}

/// Ends the owner's processes: those that don't end within `patience` by themselves are killed. Gives what is left, in
/// words. Blocks.
pub(super) fn end(owner: &Owner, patience: Duration) -> Vec<String> {
    let proc = Path::new("/proc");
    let patient_until = Instant::now() + patience;
    let give_up = patient_until + AFTER_KILL;
    // A process may start another before it ends, so one look is not enough.
    loop {
        let all = table(proc);
        let found = find(proc, &all, owner);
        if found.is_empty() {
            return unproven(proc, &all, owner);
        }
        if Instant::now() > give_up {
            let names = found
                .iter()
                .map(|process| format!("process {} ({})", process.id.pid, process.name));
            return names.collect();
        }
        let open: Vec<(&Process, OwnedFd)> = found
            .iter()
            .filter_map(|process| Some((*process, process.id.open()?)))
            .collect();
        for (process, descriptor) in &open {
            let patience = patient_until.saturating_duration_since(Instant::now());
            if !patience.is_zero() && ends_within(descriptor, patience) {
                continue;
            }
            tracing::warn!(
                id = owner.sandbox,
                pid = process.id.pid,
                name = process.name,
                "killing a process that a lost shim has left"
            );
            let _ = pidfd_send_signal(descriptor, Signal::KILL);
        }
        for (_, descriptor) in &open {
            ends_within(
                descriptor,
                give_up.saturating_duration_since(Instant::now()),
            );
        }
    }
}

fn find<'a>(proc: &Path, all: &'a Table, owner: &Owner) -> Vec<&'a Process> {
    let mut never = ancestors(all, std::process::id());
    let spared = owner.spared.iter().filter(|shim| is_alive(all, **shim));
    never.extend(with_descendants(all, spared.map(|shim| shim.pid)));
    let known: BTreeSet<String> = owner.ids.union(&owner.others).cloned().collect();
    let cgroups: BTreeMap<u32, BTreeSet<String>> = all
        .keys()
        .map(|pid| (*pid, cgroups(proc, *pid, &known)))
        .collect();
    let in_cgroup_of = |pid: &u32, ids: &BTreeSet<String>| {
        let of = cgroups.get(pid);
        of.is_some_and(|of| !of.is_disjoint(ids))
    };
    never.extend(all.keys().filter(|pid| in_cgroup_of(pid, &owner.others)));
    let recorded = owner.recorded.all();
    let own = all
        .values()
        .filter(|process| !process.ended && !never.contains(&process.id.pid))
        .filter(|process| {
            recorded.contains(&process.id)
                || in_cgroup_of(&process.id.pid, &owner.ids)
                || !marks(proc, process.id.pid).is_disjoint(&owner.ids)
        });
    let found = with_descendants(all, own.map(|process| process.id.pid));
    all.values()
        .filter(|process| !process.ended && found.contains(&process.id.pid))
        .filter(|process| !never.contains(&process.id.pid))
        .collect()
}

/// Processes that use the sandbox's directories by their words, but can't be shown to be its own.
fn unproven(proc: &Path, all: &Table, owner: &Owner) -> Vec<String> {
    let own = ancestors(all, std::process::id());
    let known: BTreeSet<String> = owner.ids.union(&owner.others).cloned().collect();
    let directories: Vec<String> = owner
        .directories
        .iter()
        .map(|directory| directory.to_string_lossy().into_owned())
        .collect();
    all.values()
        .filter(|process| !process.ended && !own.contains(&process.id.pid))
        .filter(|process| cgroups(proc, process.id.pid, &known).is_disjoint(&owner.others))
        .filter_map(|process| {
            let text = words(proc, process.id.pid, "cmdline");
            let text = String::from_utf8_lossy(&text);
            let directory = directories
                .iter()
                .find(|directory| text.contains(directory.as_str()))?;
            // Else any local user could hold the pod up, to whom ids are no secret.
            if !is_roots(proc, process.id.pid) && !uses(proc, process.id.pid, &owner.directories) {
                return None;
            }
            Some(format!(
                "process {} ({}) names {directory}, but nothing shows that the shim started it, so it is not killed",
                process.id.pid, process.name
            ))
        })
        .collect()
}

/// A process and all above it.
fn ancestors(all: &Table, pid: u32) -> BTreeSet<u32> {
    let mut found = BTreeSet::new();
    let mut next = Some(pid);
    while let Some(pid) = next
        && found.insert(pid)
    {
        next = all.get(&pid).map(|process| process.parent);
    }
    found
}

/// Processes and all below them.
fn with_descendants(all: &Table, pids: impl IntoIterator<Item = u32>) -> BTreeSet<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for process in all.values() {
        let siblings = children.entry(process.parent).or_default();
        siblings.push(process.id.pid);
    }
    let mut found = BTreeSet::new();
    let mut next: Vec<u32> = pids.into_iter().collect();
    while let Some(pid) = next.pop() {
        if found.insert(pid) {
            next.extend(children.get(&pid).into_iter().flatten());
        }
    }
    found
}

/// Which of these have given their name to a cgroup in which a process is: of each cgroup the outermost name among them.
/// Only root makes cgroups outside its own, and below it names may be chosen by whoever is in it.
fn cgroups(proc: &Path, pid: u32, ids: &BTreeSet<String>) -> BTreeSet<String> {
    const ID: usize = 64;
    let text = words(proc, pid, "cgroup");
    let outermost = |line: &[u8]| {
        line.split(|byte| *byte == b'/')
            .filter(|part| part.len() >= ID)
            .flat_map(|part| part.split(|byte| !byte.is_ascii_hexdigit()))
            .filter_map(|part| std::str::from_utf8(part).ok())
            .find_map(|part| ids.get(part).cloned())
    };
    text.split(|byte| *byte == b'\n')
        .filter_map(outermost)
        .collect()
}

/// By which shims a process was started: the ids that they were started for.
fn marks(proc: &Path, pid: u32) -> BTreeSet<String> {
    let prefix = format!("{}=", berth_shim::client::SHIM_ID);
    words(proc, pid, "environ")
        .split(|byte| *byte == 0)
        .filter_map(|word| std::str::from_utf8(word).ok()?.strip_prefix(&prefix))
        .map(str::to_owned)
        .collect()
}

/// Whether root has started a process: not a user by a set-user-ID program. What can't be read may be root's.
fn is_roots(proc: &Path, pid: u32) -> bool {
    let text = words(proc, pid, "status");
    let text = String::from_utf8_lossy(&text);
    let ids = text.lines().find_map(|line| line.strip_prefix("Uid:"));
    let real = ids.and_then(|ids| ids.split_whitespace().next());
    real.is_none_or(|real| real == "0")
}

/// Whether a process runs in one of these directories or has something open there: a monitor that gave up root's rights.
fn uses(proc: &Path, pid: u32, directories: &[PathBuf]) -> bool {
    let process = proc.join(pid.to_string());
    let open = std::fs::read_dir(process.join("fd")).into_iter().flatten();
    let open = open.flatten().map(|entry| entry.path());
    ["cwd", "root", "exe"]
        .map(|name| process.join(name))
        .into_iter()
        .chain(open)
        .filter_map(|link| std::fs::read_link(link).ok())
        .any(|path| {
            directories
                .iter()
                .any(|directory| path.starts_with(directory))
        })
}

fn words(proc: &Path, pid: u32, file: &str) -> Vec<u8> {
    let mut text = Vec::new();
    if let Ok(file) = File::open(proc.join(pid.to_string()).join(file)) {
        // What can't be read, as of a process that ends just now, has nothing to say.
        let _ = file.take(WORDS_MAX).read_to_end(&mut text);
    }
    text
}

fn ends_within(process: &OwnedFd, patience: Duration) -> bool {
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    let mut wanted = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut wanted, timeout), Ok(1..))
}

#[cfg(test)]
mod tests;
