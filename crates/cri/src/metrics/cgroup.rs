//! Samples from a container's cgroup, of either version: which number of which file is which metric.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use berth_oci::cgroup::{CgroupMode, Cgroups};

use super::Sample;

/// Where in a file a number stands.
#[derive(Clone, Copy)]
enum Place {
    /// The first, second, ... word of the file; `max` is the largest number there is.
    Word(usize),
    /// After this name, on a line of its own.
    Named(&'static str),
    /// After `total=`, on the line of this name (pressure).
    Total(&'static str),
}
use Place::{Named, Total, Word};

/// What becomes of the number.
#[derive(Clone, Copy)]
enum Unit {
    One,
    /// So many make one.
    Per(u64),
    /// Version 2's CPU weight as version 1's shares: the inverse of weight = 1 + (shares - 2) * 9999 / 262142.
    Shares,
}
use Unit::{One, Per, Shares};

/// A metric: its name, its last labels, the controller, the file, the place, the unit, and what stands for a missing
/// number where that is not to be left out.
type Row = (
    &'static str,
    &'static [&'static str],
    &'static str,
    &'static str,
    Place,
    Unit,
    Option<u64>,
);

const NANOSECONDS: Unit = Per(1_000_000_000);
const MICROSECONDS: Unit = Per(1_000_000);
/// USER_HZ, which is 100 wherever Linux shows it.
const TICKS: Unit = Per(100);
const MINOR: &[&str] = &["pgfault", "container"];
const MAJOR: &[&str] = &["pgmajfault", "container"];

const USAGE: &str = "container_memory_usage_bytes";

#[rustfmt::skip]
const V1: &[Row] = &[
    ("container_cpu_usage_seconds_total", &[], "cpuacct", "cpuacct.usage", Word(0), NANOSECONDS, None),
    ("container_cpu_user_seconds_total", &[], "cpuacct", "cpuacct.stat", Named("user"), TICKS, None),
    ("container_cpu_system_seconds_total", &[], "cpuacct", "cpuacct.stat", Named("system"), TICKS, None),
    ("container_cpu_cfs_periods_total", &[], "cpu", "cpu.stat", Named("nr_periods"), One, None),
    ("container_cpu_cfs_throttled_periods_total", &[], "cpu", "cpu.stat", Named("nr_throttled"), One, None),
    ("container_cpu_cfs_throttled_seconds_total", &[], "cpu", "cpu.stat", Named("throttled_time"), NANOSECONDS, None),
    ("container_spec_cpu_period", &[], "cpu", "cpu.cfs_period_us", Word(0), One, None),
    // -1, which is no number here, stands for none.
    ("container_spec_cpu_quota", &[], "cpu", "cpu.cfs_quota_us", Word(0), One, None),
    ("container_spec_cpu_shares", &[], "cpu", "cpu.shares", Word(0), One, None),
    (USAGE, &[], "memory", "memory.usage_in_bytes", Word(0), One, None),
    ("container_memory_max_usage_bytes", &[], "memory", "memory.max_usage_in_bytes", Word(0), One, None),
    ("container_memory_failcnt", &[], "memory", "memory.failcnt", Word(0), One, None),
    // Newer kernels no longer count kernel memory by itself in version 1.
    ("container_memory_kernel_usage", &[], "memory", "memory.kmem.usage_in_bytes", Word(0), One, Some(0)),
    ("container_memory_cache", &[], "memory", "memory.stat", Named("total_cache"), One, None),
    ("container_memory_rss", &[], "memory", "memory.stat", Named("total_rss"), One, None),
    ("container_memory_mapped_file", &[], "memory", "memory.stat", Named("total_mapped_file"), One, None),
    ("container_memory_swap", &[], "memory", "memory.stat", Named("total_swap"), One, Some(0)),
    ("container_memory_failures_total", MINOR, "memory", "memory.stat", Named("total_pgfault"), One, None),
    ("container_memory_failures_total", MAJOR, "memory", "memory.stat", Named("total_pgmajfault"), One, None),
    ("container_spec_memory_limit_bytes", &[], "memory", "memory.limit_in_bytes", Word(0), One, None),
    ("container_spec_memory_swap_limit_bytes", &[], "memory", "memory.memsw.limit_in_bytes", Word(0), One, Some(0)),
    ("container_oom_events_total", &[], "memory", "memory.oom_control", Named("oom_kill"), One, None),
];

#[rustfmt::skip]
const V2: &[Row] = &[
    ("container_cpu_usage_seconds_total", &[], "cpu", "cpu.stat", Named("usage_usec"), MICROSECONDS, None),
    ("container_cpu_user_seconds_total", &[], "cpu", "cpu.stat", Named("user_usec"), MICROSECONDS, None),
    ("container_cpu_system_seconds_total", &[], "cpu", "cpu.stat", Named("system_usec"), MICROSECONDS, None),
    ("container_cpu_cfs_periods_total", &[], "cpu", "cpu.stat", Named("nr_periods"), One, None),
    ("container_cpu_cfs_throttled_periods_total", &[], "cpu", "cpu.stat", Named("nr_throttled"), One, None),
    ("container_cpu_cfs_throttled_seconds_total", &[], "cpu", "cpu.stat", Named("throttled_usec"), MICROSECONDS, None),
    ("container_spec_cpu_quota", &[], "cpu", "cpu.max", Word(0), One, None),
    ("container_spec_cpu_period", &[], "cpu", "cpu.max", Word(1), One, None),
    ("container_spec_cpu_shares", &[], "cpu", "cpu.weight", Word(0), Shares, None),
    (USAGE, &[], "memory", "memory.current", Word(0), One, None),
    ("container_memory_max_usage_bytes", &[], "memory", "memory.peak", Word(0), One, None),
    ("container_memory_failcnt", &[], "memory", "memory.events", Named("max"), One, None),
    ("container_memory_kernel_usage", &[], "memory", "memory.stat", Named("kernel"), One, Some(0)),
    ("container_memory_cache", &[], "memory", "memory.stat", Named("file"), One, None),
    ("container_memory_rss", &[], "memory", "memory.stat", Named("anon"), One, None),
    ("container_memory_mapped_file", &[], "memory", "memory.stat", Named("file_mapped"), One, None),
    ("container_memory_swap", &[], "memory", "memory.swap.current", Word(0), One, Some(0)),
    ("container_memory_failures_total", MINOR, "memory", "memory.stat", Named("pgfault"), One, None),
    ("container_memory_failures_total", MAJOR, "memory", "memory.stat", Named("pgmajfault"), One, None),
    ("container_spec_memory_limit_bytes", &[], "memory", "memory.max", Word(0), One, None),
    ("container_spec_memory_swap_limit_bytes", &[], "memory", "memory.swap.max", Word(0), One, Some(0)),
    ("container_oom_events_total", &[], "memory", "memory.events", Named("oom_kill"), One, None),
];

/// In both versions; pressure is told where there is a version 2 tree, the unified one of hybrid hosts included.
#[rustfmt::skip]
const BOTH: &[Row] = &[
    ("container_threads", &[], "pids", "pids.current", Word(0), One, None),
    ("container_threads_max", &[], "pids", "pids.max", Word(0), One, None),
    ("container_pressure_cpu_waiting_seconds_total", &[], UNIFIED, "cpu.pressure", Total("some"), MICROSECONDS, None),
    ("container_pressure_cpu_stalled_seconds_total", &[], UNIFIED, "cpu.pressure", Total("full"), MICROSECONDS, None),
    ("container_pressure_memory_waiting_seconds_total", &[], UNIFIED, "memory.pressure", Total("some"), MICROSECONDS, None),
    ("container_pressure_memory_stalled_seconds_total", &[], UNIFIED, "memory.pressure", Total("full"), MICROSECONDS, None),
    ("container_pressure_io_waiting_seconds_total", &[], UNIFIED, "io.pressure", Total("some"), MICROSECONDS, None),
    ("container_pressure_io_stalled_seconds_total", &[], UNIFIED, "io.pressure", Total("full"), MICROSECONDS, None),
];

/// Stands for the version 2 tree among the controllers.
const UNIFIED: &str = "";

/// The cgroup's directory in one controller's hierarchy.
fn folder(cgroups: &Cgroups, controller: &str, path: &Path) -> Option<PathBuf> {
    let mount = match controller {
        UNIFIED => cgroups.unified.as_ref()?,
        _ => cgroups.mounts.get(controller)?,
    };
    Some(mount.join(path.strip_prefix("/").unwrap_or(path)))
}

/// The pids in the cgroup.
pub(super) fn processes(cgroups: &Cgroups, path: &Path) -> Vec<u32> {
    let text = ["pids", "memory"].iter().find_map(|controller| {
        std::fs::read_to_string(folder(cgroups, controller, path)?.join("cgroup.procs")).ok()
    });
    let text = text.unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

pub(super) fn samples(cgroups: &Cgroups, path: &Path) -> Vec<Sample> {
    let (own, inactive) = if cgroups.mode == CgroupMode::V2 {
        (V2, "inactive_file")
    } else {
        (V1, "total_inactive_file")
    };
    let mut files = Files {
        cgroups,
        path,
        seen: HashMap::new(),
    };
    let mut samples: Vec<Sample> = Vec::new();
    for (metric, labels, controller, file, place, unit, missing) in own.iter().chain(BOTH) {
        let found = files.number(controller, file, *place);
        // A controller that isn't there has no metrics at all.
        let there = folder(cgroups, controller, path).is_some_and(|folder| folder.exists());
        let Some(number) = found.or(missing.filter(|_| there)) else {
            continue;
        };
        let value = match unit {
            One => number,
            Per(many) => number / many,
            Shares => 2 + number.saturating_sub(1) * 262_142 / 9_999,
        };
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        samples.push((*metric, labels, value));
    }
    if let Some(usage) = samples.iter().find(|sample| sample.0 == USAGE) {
        let inactive = files.number("memory", "memory.stat", Named(inactive));
        let value = usage.2.saturating_sub(inactive.unwrap_or(0));
        samples.push(("container_memory_working_set_bytes", Vec::new(), value));
    }
    samples
}

/// The files of one cgroup, each read once.
struct Files<'a> {
    cgroups: &'a Cgroups,
    path: &'a Path,
    seen: HashMap<PathBuf, Option<String>>,
}

impl Files<'_> {
    fn number(&mut self, controller: &str, file: &str, place: Place) -> Option<u64> {
        let path = folder(self.cgroups, controller, self.path)?.join(file);
        let text = self
            .seen
            .entry(path)
            .or_insert_with_key(|path| std::fs::read_to_string(path).ok())
            .as_deref()?;
        let line = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
        };
        match place {
            Word(index) => match text.split_whitespace().nth(index)? {
                "max" => Some(u64::MAX),
                word => word.parse().ok(),
            },
            Named(name) => line(name)?.trim().parse().ok(),
            Total(name) => line(name)?
                .split(' ')
                .find_map(|word| word.strip_prefix("total="))?
                .parse()
                .ok(),
        }
    }
}

#[cfg(test)]
mod tests;
