//! What the whole machine uses.

use std::path::Path;

use nix::sys::statvfs::statvfs;

use super::pressure::{self, Pressures};
use super::runtime::InterfaceUsage;
use crate::machine::meminfo_bytes;

/// Interfaces of the machine that are shown.
const MAX_INTERFACES: usize = 32;
const TICK_NS: u64 = 10_000_000;

/// The machine's figures, in nanoseconds and bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct MachineUsage {
    pub(crate) cpu_ns: u64,
    pub(crate) total: u64,
    pub(crate) available: u64,
    pub(crate) usage: u64,
    pub(crate) rss: u64,
    pub(crate) cache: u64,
    pub(crate) swap_total: u64,
    pub(crate) swap_free: u64,
    pub(crate) page_faults: u64,
    pub(crate) major_page_faults: u64,
    pub(crate) processes: Option<u64>,
    pub(crate) max_processes: Option<u64>,
    pub(crate) pressures: Pressures,
    pub(crate) interfaces: Vec<InterfaceUsage>,
}

impl MachineUsage {
    /// Reads it from /proc.
    pub(crate) fn read() -> Self {
        let info = read("/proc/meminfo");
        let of = |key| u64::try_from(meminfo_bytes(&info, key).unwrap_or(0)).unwrap_or(0);
        let vmstat = read("/proc/vmstat");
        let count = |key: &str| {
            let mut lines = vmstat.lines();
            let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
            value
                .and_then(|value| value.trim().parse().ok())
                .unwrap_or(0)
        };
        let loadavg = read("/proc/loadavg");
        let processes = loadavg
            .split_whitespace()
            .nth(3)
            .and_then(|word| word.split_once('/'));
        let mut interfaces = interfaces(&read("/proc/net/dev"));
        // Those of pods' network namespaces on this side are counted with the pods.
        interfaces.retain(|i| !i.name.starts_with("veth") && i.name != "lo");
        interfaces.truncate(MAX_INTERFACES);
        Self {
            cpu_ns: cpu_ns(&read("/proc/stat")),
            total: of("MemTotal:"),
            available: of("MemAvailable:"),
            usage: of("MemTotal:").saturating_sub(of("MemFree:")),
            rss: of("AnonPages:"),
            cache: of("Cached:"),
            swap_total: of("SwapTotal:"),
            swap_free: of("SwapFree:"),
            page_faults: count("pgfault"),
            major_page_faults: count("pgmajfault"),
            processes: processes.and_then(|(_, all)| all.parse().ok()),
            max_processes: read("/proc/sys/kernel/pid_max").trim().parse().ok(),
            pressures: pressure::machine(),
            interfaces,
        }
    }

    /// Memory that can't be taken back at once.
    pub(crate) fn working_set(&self) -> u64 {
        self.total.saturating_sub(self.available)
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// When the machine was started, in seconds since 1970.
pub(crate) fn boot_time() -> Option<i64> {
    let stat = read("/proc/stat");
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "));
    line?.trim().parse().ok()
}

/// The time that the processors were busy, in nanoseconds, by the text of /proc/stat.
pub(crate) fn cpu_ns(stat: &str) -> u64 {
    let fields = stat.lines().next().unwrap_or_default().split_whitespace();
    let fields: Vec<u64> = fields.skip(1).filter_map(|f| f.parse().ok()).collect();
    let idle: u64 = fields.iter().skip(3).take(2).sum();
    let ticks = fields.iter().take(8).sum::<u64>().saturating_sub(idle);
    ticks.saturating_mul(TICK_NS)
}

/// The interfaces in the text of /proc/net/dev.
fn interfaces(text: &str) -> Vec<InterfaceUsage> {
    let lines = text.lines().skip(2);
    let found = lines.filter_map(|line| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> = numbers
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect();
        let of = |column: usize| numbers.get(column).copied();
        Some(InterfaceUsage {
            name: name.trim().to_owned(),
            receive: [of(0), of(1), of(2), of(3)],
            transmit: [of(8), of(9), of(10), of(11)],
        })
    });
    found.collect()
}

/// Size and use of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FsUsage {
    pub(crate) capacity: u64,
    pub(crate) available: u64,
    pub(crate) used: u64,
    pub(crate) inodes: u64,
    pub(crate) inodes_free: u64,
}

/// Of the file system that a directory is on.
pub(crate) fn filesystem(dir: &Path) -> Option<FsUsage> {
    let fs = statvfs(dir).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(fs.fragment_size());
    Some(FsUsage {
        capacity: bytes(fs.blocks()),
        available: bytes(fs.blocks_available()),
        used: bytes(fs.blocks().saturating_sub(fs.blocks_free())),
        inodes: fs.files(),
        inodes_free: fs.files_free(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_time_is_without_idle_and_waiting() {
        let stat = "cpu  10 20 30 1000 500 1 2 3 99 99\ncpu0 1 1\nbtime 12\n";
        assert_eq!(cpu_ns(stat), 66 * TICK_NS);
        assert_eq!(cpu_ns(""), 0);
        let here = MachineUsage::read();
        assert!(here.total > here.working_set() && here.cpu_ns > 0 && here.usage > 0);
        assert!(boot_time().unwrap() > 1_000_000_000);
        assert!(filesystem(Path::new("/")).unwrap().capacity > 0);
    }

    #[test]
    fn columns_of_interfaces_are_told_apart() {
        let text = "Inter-| a\n face | b\n  eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n";
        let [eth0] = &interfaces(text)[..] else {
            panic!("one interface");
        };
        assert_eq!(eth0.receive, [Some(1), Some(2), Some(3), Some(4)]);
        assert_eq!(eth0.transmit, [Some(5), Some(6), Some(7), Some(8)]);
    }
}
