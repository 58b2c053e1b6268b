//! Resident memory of processes.

/// In MiB.
#[derive(Clone, Copy, Default)]
pub(crate) struct Memory {
    /// All pages that are mapped and present, shared ones in full.
    pub(crate) resident: f64,
    /// Shared pages divided among those that share them.
    pub(crate) share: f64,
}

impl std::ops::AddAssign for Memory {
    fn add_assign(&mut self, other: Self) {
        self.resident += other.resident;
        self.share += other.share;
    }
}

/// One process' memory; nothing when it is gone.
pub(crate) fn of(pid: i32) -> Memory {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let field = |name: &str| {
        text.lines()
            .find_map(|line| {
                line.strip_prefix(name)?
                    .split_whitespace()
                    .next()?
                    .parse::<f64>()
                    .ok()
            })
            .unwrap_or(0.0)
            / 1024.0
    };
    Memory {
        resident: field("Rss:"),
        share: field("Pss:"),
    }
}

/// The shim of a pod and what lives in the sandbox's own cgroup (a pause process, where there is one).
pub(crate) fn of_pod(id: &str) -> Memory {
    let mut sum = Memory::default();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
        let command = read("cmdline");
        let mut words = command.split(|byte| *byte == 0);
        let shim = words.any(|word| word == b"-id") && words.next() == Some(id.as_bytes());
        let cgroups = read("cgroup");
        if shim || String::from_utf8_lossy(&cgroups).contains(id) {
            sum += of(pid);
        }
    }
    sum
}
