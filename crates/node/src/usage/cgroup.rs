//! What the kernel counts for a cgroup, of either version, in the same units: nanoseconds and bytes. What it does not
//! count is absent, and never 0.

use std::collections::BTreeMap;
use std::path::Path;

use super::files::text;
use super::hierarchy::Hierarchy;
use super::pressure::{self, Pressures};

/// USER_HZ, which is 100 wherever Linux shows it.
const TICK_NS: u64 = 10_000_000;
/// Devices of one cgroup that are shown.
const MAX_DEVICES: usize = 16;

/// The figures of one cgroup, with all below it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct CgroupUsage {
    pub(crate) cpu_ns: Option<u64>,
    pub(crate) cpu_user_ns: Option<u64>,
    pub(crate) cpu_system_ns: Option<u64>,
    pub(crate) periods: Option<u64>,
    pub(crate) throttled_periods: Option<u64>,
    pub(crate) throttled_ns: Option<u64>,
    pub(crate) cpu_shares: Option<u64>,
    pub(crate) cpu_quota: Option<u64>,
    pub(crate) cpu_period: Option<u64>,
    pub(crate) memory_usage: Option<u64>,
    pub(crate) working_set: Option<u64>,
    pub(crate) rss: Option<u64>,
    pub(crate) cache: Option<u64>,
    pub(crate) mapped_file: Option<u64>,
    pub(crate) kernel_memory: Option<u64>,
    pub(crate) max_memory: Option<u64>,
    pub(crate) failcnt: Option<u64>,
    pub(crate) page_faults: Option<u64>,
    pub(crate) major_page_faults: Option<u64>,
    /// None when there is no limit.
    pub(crate) memory_limit: Option<u64>,
    pub(crate) swap: Option<u64>,
    pub(crate) swap_limit: Option<u64>,
    pub(crate) oom_kills: Option<u64>,
    pub(crate) pids: Option<u64>,
    pub(crate) pids_limit: Option<u64>,
    pub(crate) pressures: Pressures,
    pub(crate) devices: Vec<DeviceUsage>,
}

/// What was read from and written to a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeviceUsage {
    /// `major:minor`.
    pub(crate) device: String,
    pub(crate) read_bytes: u64,
    pub(crate) written_bytes: u64,
    pub(crate) reads: u64,
    pub(crate) writes: u64,
}

/// Reads a cgroup; all is absent of one that isn't there (any more).
pub(crate) fn read(hierarchy: &Hierarchy, cgroup: &Path) -> CgroupUsage {
    let mut usage = if hierarchy.is_v2() {
        read_v2(hierarchy, cgroup)
    } else {
        read_v1(hierarchy, cgroup)
    };
    if let Some(dir) = hierarchy.unified(cgroup) {
        usage.pressures = pressure::read(&dir, "", ".pressure");
    }
    usage
}

/// Whether there is a process in it or below.
pub(crate) fn is_populated(hierarchy: &Hierarchy, cgroup: &Path) -> bool {
    if hierarchy.is_v2() {
        let events = hierarchy
            .unified(cgroup)
            .map(|dir| Table::read(&dir, "cgroup.events"));
        return events.and_then(|events| events.get("populated")) == Some(1);
    }
    let pids = hierarchy.dir("pids", cgroup);
    if let Some(count) = pids.and_then(|dir| number(&dir, "pids.current")) {
        return count > 0;
    }
    let own = hierarchy
        .dir("memory", cgroup)
        .and_then(|dir| text(&dir, "cgroup.procs"));
    own.is_some_and(|own| !own.trim().is_empty())
}

fn number(dir: &Path, file: &str) -> Option<u64> {
    text(dir, file)?.trim().parse().ok()
}

/// A limit; `max`, -1 and what version 1 writes for none (a number near the top of its range) are no limit.
fn limit(dir: &Path, file: &str) -> Option<u64> {
    number(dir, file).filter(|limit| *limit < 1 << 62)
}

/// Lines of a name and a number.
struct Table(BTreeMap<String, u64>);

impl Table {
    fn read(dir: &Path, file: &str) -> Self {
        let text = text(dir, file).unwrap_or_default();
        let pairs = text.lines().filter_map(|line| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.trim().parse().ok()?))
        });
        Self(pairs.collect())
    }

    fn get(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied()
    }
}

fn read_v1(hierarchy: &Hierarchy, cgroup: &Path) -> CgroupUsage {
    let mut usage = CgroupUsage::default();
    if let Some(dir) = hierarchy.dir("cpuacct", cgroup) {
        let ticks = Table::read(&dir, "cpuacct.stat");
        let of = |name: &str| ticks.get(name).map(|ticks| ticks.saturating_mul(TICK_NS));
        usage.cpu_ns = number(&dir, "cpuacct.usage");
        usage.cpu_user_ns = number(&dir, "cpuacct.usage_user").or_else(|| of("user"));
        usage.cpu_system_ns = number(&dir, "cpuacct.usage_sys").or_else(|| of("system"));
    }
    if let Some(dir) = hierarchy.dir("cpu", cgroup) {
        let stat = Table::read(&dir, "cpu.stat");
        usage.periods = stat.get("nr_periods");
        usage.throttled_periods = stat.get("nr_throttled");
        usage.throttled_ns = stat.get("throttled_time");
        usage.cpu_shares = number(&dir, "cpu.shares");
        // -1, which is no number here, stands for none.
        usage.cpu_quota = number(&dir, "cpu.cfs_quota_us");
        usage.cpu_period = number(&dir, "cpu.cfs_period_us");
    }
    if let Some(dir) = hierarchy.dir("memory", cgroup) {
        let stat = Table::read(&dir, "memory.stat");
        usage.memory_usage = number(&dir, "memory.usage_in_bytes");
        let inactive = stat.get("total_inactive_file").unwrap_or(0);
        usage.working_set = usage.memory_usage.map(|all| all.saturating_sub(inactive));
        usage.rss = stat.get("total_rss");
        usage.cache = stat.get("total_cache");
        usage.mapped_file = stat.get("total_mapped_file");
        usage.kernel_memory = number(&dir, "memory.kmem.usage_in_bytes");
        usage.max_memory = number(&dir, "memory.max_usage_in_bytes");
        usage.failcnt = number(&dir, "memory.failcnt");
        usage.page_faults = stat.get("total_pgfault");
        usage.major_page_faults = stat.get("total_pgmajfault");
        usage.memory_limit = limit(&dir, "memory.limit_in_bytes");
        usage.swap = stat.get("total_swap");
        usage.swap_limit = limit(&dir, "memory.memsw.limit_in_bytes")
            .map(|both| both.saturating_sub(usage.memory_limit.unwrap_or(0)));
        usage.oom_kills = Table::read(&dir, "memory.oom_control").get("oom_kill");
    }
    if let Some(dir) = hierarchy.dir("pids", cgroup) {
        usage.pids = number(&dir, "pids.current");
        usage.pids_limit = limit(&dir, "pids.max");
    }
    if let Some(dir) = hierarchy.dir("blkio", cgroup) {
        let bytes = text(&dir, "blkio.throttle.io_service_bytes_recursive");
        let times = text(&dir, "blkio.throttle.io_serviced_recursive");
        usage.devices = devices_v1(&bytes.unwrap_or_default(), &times.unwrap_or_default());
    }
    usage
}

fn read_v2(hierarchy: &Hierarchy, cgroup: &Path) -> CgroupUsage {
    let Some(dir) = hierarchy.unified(cgroup) else {
        return CgroupUsage::default();
    };
    let cpu = Table::read(&dir, "cpu.stat");
    let micro = |name: &str| cpu.get(name).map(|micro| micro.saturating_mul(1000));
    let stat = Table::read(&dir, "memory.stat");
    let events = Table::read(&dir, "memory.events");
    let memory = number(&dir, "memory.current");
    let inactive = stat.get("inactive_file").unwrap_or(0);
    let max = text(&dir, "cpu.max").unwrap_or_default();
    let mut max = max.split_whitespace().map(|word| word.parse().ok());
    let weight = number(&dir, "cpu.weight");
    CgroupUsage {
        cpu_ns: micro("usage_usec"),
        cpu_user_ns: micro("user_usec"),
        cpu_system_ns: micro("system_usec"),
        periods: cpu.get("nr_periods"),
        throttled_periods: cpu.get("nr_throttled"),
        throttled_ns: micro("throttled_usec"),
        // The inverse of weight = 1 + (shares - 2) * 9999 / 262142, as runtimes compute it.
        cpu_shares: weight
            .map(|weight| 2 + weight.saturating_sub(1).saturating_mul(262_142) / 9_999),
        cpu_quota: max.next().flatten(),
        cpu_period: max.next().flatten(),
        memory_usage: memory,
        working_set: memory.map(|all| all.saturating_sub(inactive)),
        rss: stat.get("anon"),
        cache: stat.get("file"),
        mapped_file: stat.get("file_mapped"),
        kernel_memory: stat.get("kernel"),
        max_memory: number(&dir, "memory.peak"),
        failcnt: events.get("max"),
        page_faults: stat.get("pgfault"),
        major_page_faults: stat.get("pgmajfault"),
        memory_limit: limit(&dir, "memory.max"),
        swap: number(&dir, "memory.swap.current"),
        swap_limit: limit(&dir, "memory.swap.max"),
        oom_kills: events.get("oom_kill"),
        pids: number(&dir, "pids.current"),
        pids_limit: limit(&dir, "pids.max"),
        pressures: Pressures::default(),
        devices: devices_v2(&text(&dir, "io.stat").unwrap_or_default()),
    }
}

/// `8:0 Read 4096` lines.
fn devices_v1(bytes: &str, times: &str) -> Vec<DeviceUsage> {
    let mut devices: BTreeMap<String, DeviceUsage> = BTreeMap::new();
    for (text, is_bytes) in [(bytes, true), (times, false)] {
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [device, what, count] = words[..] else {
                continue;
            };
            let (true, Ok(count)) = (is_device(device), count.parse::<u64>()) else {
                continue;
            };
            let usage = devices.entry(device.to_owned()).or_default();
            match (what, is_bytes) {
                ("Read", true) => usage.read_bytes = count,
                ("Write", true) => usage.written_bytes = count,
                ("Read", false) => usage.reads = count,
                ("Write", false) => usage.writes = count,
                _ => {}
            }
        }
    }
    named(devices)
}

/// `8:0 rbytes=4096 wbytes=0 rios=1 wios=0` lines.
fn devices_v2(text: &str) -> Vec<DeviceUsage> {
    let mut devices: BTreeMap<String, DeviceUsage> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let Some(device) = words.next().filter(|device| is_device(device)) else {
            continue;
        };
        let usage = devices.entry(device.to_owned()).or_default();
        for (name, count) in words.filter_map(|word| word.split_once('=')) {
            let Ok(count) = count.parse() else { continue };
            match name {
                "rbytes" => usage.read_bytes = count,
                "wbytes" => usage.written_bytes = count,
                "rios" => usage.reads = count,
                "wios" => usage.writes = count,
                _ => {}
            }
        }
    }
    named(devices)
}

fn is_device(text: &str) -> bool {
    let number = |n: &str| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit());
    text.split_once(':')
        .is_some_and(|(major, minor)| number(major) && number(minor))
}

fn named(devices: BTreeMap<String, DeviceUsage>) -> Vec<DeviceUsage> {
    let devices = devices.into_iter().take(MAX_DEVICES);
    devices
        .map(|(device, usage)| DeviceUsage { device, ..usage })
        .collect()
}

#[cfg(test)]
mod tests;
