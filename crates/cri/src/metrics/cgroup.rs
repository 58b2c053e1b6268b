//! Samples from a container's cgroup, of either version.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use berth_oci::cgroup::{CgroupMode, Cgroups};

use super::Sample;

/// The cgroup's directory in one controller's hierarchy.
struct Folder(PathBuf);

impl Folder {
    fn of(cgroups: &Cgroups, controller: &str, path: &Path) -> Option<Self> {
        let mount = cgroups.mounts.get(controller)?;
        Some(Self(mount.join(path.strip_prefix("/").unwrap_or(path))))
    }

    fn text(&self, file: &str) -> Option<String> {
        std::fs::read_to_string(self.0.join(file)).ok()
    }

    /// A file of one number; `max` is the largest there is.
    fn number(&self, file: &str) -> Option<u64> {
        let text = self.text(file)?;
        let word = text.split_whitespace().next()?;
        if word == "max" {
            Some(u64::MAX)
        } else {
            word.parse().ok()
        }
    }

    /// A file of lines of name and number.
    fn table(&self, file: &str) -> BTreeMap<String, u64> {
        let text = self.text(file).unwrap_or_default();
        text.lines()
            .filter_map(|line| {
                let (name, number) = line.split_once(' ')?;
                Some((name.to_owned(), number.trim().parse().ok()?))
            })
            .collect()
    }
}

/// The pids in the cgroup.
pub(super) fn processes(cgroups: &Cgroups, path: &Path) -> Vec<u32> {
    ["pids", "memory"]
        .iter()
        .find_map(|controller| Folder::of(cgroups, controller, path)?.text("cgroup.procs"))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.parse().ok())
        .collect()
}

pub(super) fn samples(cgroups: &Cgroups, path: &Path) -> Vec<Sample> {
    let v2 = cgroups.mode == CgroupMode::V2;
    let mut samples = if v2 {
        cpu_v2(cgroups, path)
    } else {
        cpu_v1(cgroups, path)
    };
    samples.extend(if v2 {
        memory_v2(cgroups, path)
    } else {
        memory_v1(cgroups, path)
    });
    if let Some(folder) = Folder::of(cgroups, "pids", path) {
        add(
            &mut samples,
            "container_threads",
            folder.number("pids.current"),
        );
        add(
            &mut samples,
            "container_threads_max",
            folder.number("pids.max"),
        );
    }
    samples
}

fn add(samples: &mut Vec<Sample>, name: &'static str, value: Option<u64>) {
    if let Some(value) = value {
        samples.push((name, Vec::new(), value));
    }
}

fn cpu_v1(cgroups: &Cgroups, path: &Path) -> Vec<Sample> {
    const NANOSECONDS: u64 = 1_000_000_000;
    /// USER_HZ, which is 100 wherever Linux shows it.
    const TICKS: u64 = 100;
    let mut samples = Vec::new();
    if let Some(folder) = Folder::of(cgroups, "cpuacct", path) {
        let usage = folder
            .number("cpuacct.usage")
            .map(|usage| usage / NANOSECONDS);
        add(&mut samples, "container_cpu_usage_seconds_total", usage);
        let table = folder.table("cpuacct.stat");
        let seconds = |name: &str| table.get(name).map(|ticks| ticks / TICKS);
        add(
            &mut samples,
            "container_cpu_user_seconds_total",
            seconds("user"),
        );
        add(
            &mut samples,
            "container_cpu_system_seconds_total",
            seconds("system"),
        );
    }
    if let Some(folder) = Folder::of(cgroups, "cpu", path) {
        let table = folder.table("cpu.stat");
        let get = |name: &str| table.get(name).copied();
        add(
            &mut samples,
            "container_cpu_cfs_periods_total",
            get("nr_periods"),
        );
        add(
            &mut samples,
            "container_cpu_cfs_throttled_periods_total",
            get("nr_throttled"),
        );
        let throttled = get("throttled_time").map(|time| time / NANOSECONDS);
        add(
            &mut samples,
            "container_cpu_cfs_throttled_seconds_total",
            throttled,
        );
        add(
            &mut samples,
            "container_spec_cpu_period",
            folder.number("cpu.cfs_period_us"),
        );
        // -1, which is no u64, stands for none.
        add(
            &mut samples,
            "container_spec_cpu_quota",
            folder.number("cpu.cfs_quota_us"),
        );
        add(
            &mut samples,
            "container_spec_cpu_shares",
            folder.number("cpu.shares"),
        );
    }
    samples
}

fn cpu_v2(cgroups: &Cgroups, path: &Path) -> Vec<Sample> {
    const MICROSECONDS: u64 = 1_000_000;
    let mut samples = Vec::new();
    let Some(folder) = Folder::of(cgroups, "cpu", path) else {
        return samples;
    };
    let table = folder.table("cpu.stat");
    let get = |name: &str| table.get(name).copied();
    let seconds = |name: &str| get(name).map(|time| time / MICROSECONDS);
    add(
        &mut samples,
        "container_cpu_usage_seconds_total",
        seconds("usage_usec"),
    );
    add(
        &mut samples,
        "container_cpu_user_seconds_total",
        seconds("user_usec"),
    );
    add(
        &mut samples,
        "container_cpu_system_seconds_total",
        seconds("system_usec"),
    );
    add(
        &mut samples,
        "container_cpu_cfs_periods_total",
        get("nr_periods"),
    );
    add(
        &mut samples,
        "container_cpu_cfs_throttled_periods_total",
        get("nr_throttled"),
    );
    add(
        &mut samples,
        "container_cpu_cfs_throttled_seconds_total",
        seconds("throttled_usec"),
    );
    let limit = folder.text("cpu.max").unwrap_or_default();
    let mut limit = limit.split_whitespace().map(|word| word.parse().ok());
    add(
        &mut samples,
        "container_spec_cpu_quota",
        limit.next().flatten(),
    );
    add(
        &mut samples,
        "container_spec_cpu_period",
        limit.next().flatten(),
    );
    // The inverse of the mapping that runtimes use: weight = 1 + (shares - 2) * 9999 / 262142.
    let shares = folder
        .number("cpu.weight")
        .map(|weight| 2 + weight.saturating_sub(1) * 262_142 / 9_999);
    add(&mut samples, "container_spec_cpu_shares", shares);
    samples
}

fn faults(samples: &mut Vec<Sample>, all: Option<u64>, major: Option<u64>) {
    for (kind, value) in [("pgfault", all), ("pgmajfault", major)] {
        if let Some(value) = value {
            let labels = vec![kind.to_owned(), "container".to_owned()];
            samples.push(("container_memory_failures_total", labels, value));
        }
    }
}

fn memory_v1(cgroups: &Cgroups, path: &Path) -> Vec<Sample> {
    let mut samples = Vec::new();
    let Some(folder) = Folder::of(cgroups, "memory", path) else {
        return samples;
    };
    let table = folder.table("memory.stat");
    let get = |name: &str| table.get(name).copied();
    let usage = folder.number("memory.usage_in_bytes");
    let inactive = get("total_inactive_file").unwrap_or(0);
    add(&mut samples, "container_memory_usage_bytes", usage);
    add(
        &mut samples,
        "container_memory_working_set_bytes",
        usage.map(|usage| usage.saturating_sub(inactive)),
    );
    add(
        &mut samples,
        "container_memory_max_usage_bytes",
        folder.number("memory.max_usage_in_bytes"),
    );
    add(
        &mut samples,
        "container_memory_failcnt",
        folder.number("memory.failcnt"),
    );
    // Newer kernels no longer count kernel memory by itself in version 1.
    let kernel = folder.number("memory.kmem.usage_in_bytes").or(Some(0));
    add(&mut samples, "container_memory_kernel_usage", kernel);
    add(&mut samples, "container_memory_cache", get("total_cache"));
    add(&mut samples, "container_memory_rss", get("total_rss"));
    add(
        &mut samples,
        "container_memory_mapped_file",
        get("total_mapped_file"),
    );
    add(
        &mut samples,
        "container_memory_swap",
        get("total_swap").or(Some(0)),
    );
    faults(&mut samples, get("total_pgfault"), get("total_pgmajfault"));
    add(
        &mut samples,
        "container_spec_memory_limit_bytes",
        folder.number("memory.limit_in_bytes"),
    );
    let swap = folder.number("memory.memsw.limit_in_bytes").or(Some(0));
    add(&mut samples, "container_spec_memory_swap_limit_bytes", swap);
    let killed = folder.table("memory.oom_control").get("oom_kill").copied();
    add(&mut samples, "container_oom_events_total", killed);
    samples
}

fn memory_v2(cgroups: &Cgroups, path: &Path) -> Vec<Sample> {
    let mut samples = Vec::new();
    let Some(folder) = Folder::of(cgroups, "memory", path) else {
        return samples;
    };
    let table = folder.table("memory.stat");
    let get = |name: &str| table.get(name).copied();
    let events = folder.table("memory.events");
    let usage = folder.number("memory.current");
    let inactive = get("inactive_file").unwrap_or(0);
    add(&mut samples, "container_memory_usage_bytes", usage);
    add(
        &mut samples,
        "container_memory_working_set_bytes",
        usage.map(|usage| usage.saturating_sub(inactive)),
    );
    add(
        &mut samples,
        "container_memory_max_usage_bytes",
        folder.number("memory.peak").or(usage),
    );
    add(
        &mut samples,
        "container_memory_failcnt",
        events.get("max").copied(),
    );
    add(
        &mut samples,
        "container_memory_kernel_usage",
        get("kernel").or(Some(0)),
    );
    add(&mut samples, "container_memory_cache", get("file"));
    add(&mut samples, "container_memory_rss", get("anon"));
    add(
        &mut samples,
        "container_memory_mapped_file",
        get("file_mapped"),
    );
    add(
        &mut samples,
        "container_memory_swap",
        folder.number("memory.swap.current").or(Some(0)),
    );
    faults(&mut samples, get("pgfault"), get("pgmajfault"));
    add(
        &mut samples,
        "container_spec_memory_limit_bytes",
        folder.number("memory.max"),
    );
    let swap = folder.number("memory.swap.max").or(Some(0));
    add(&mut samples, "container_spec_memory_swap_limit_bytes", swap);
    add(
        &mut samples,
        "container_oom_events_total",
        events.get("oom_kill").copied(),
    );
    samples
}
