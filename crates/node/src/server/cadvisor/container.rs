//! `container_*` of one cgroup or container.

use jiff::Timestamp;

use super::super::exposition::{Exposition, Kind, seconds};
use crate::usage::pressure::{Pressure, Pressures};
use crate::usage::{CgroupUsage, ContainerScene, FsUsage, MachineUsage};
use Kind::{Counter, Gauge};

/// cAdvisor's labels; empty where they mean nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Labels<'a> {
    pub(super) container: &'a str,
    pub(super) id: &'a str,
    pub(super) image: &'a str,
    pub(super) name: &'a str,
    pub(super) namespace: &'a str,
    pub(super) pod: &'a str,
}

impl<'a> Labels<'a> {
    pub(super) fn pairs(&self) -> [(&'static str, &'a str); 6] {
        [
            ("container", self.container),
            ("id", self.id),
            ("image", self.image),
            ("name", self.name),
            ("namespace", self.namespace),
            ("pod", self.pod),
        ]
    }

    fn with(&self, more: &[(&'static str, &'a str)]) -> Vec<(&'static str, &'a str)> {
        let mut all: Vec<_> = self
            .pairs()
            .into_iter()
            .chain(more.iter().copied())
            .collect();
        all.sort_by_key(|(name, _)| *name);
        all
    }
}

/// What samples are made of.
pub(super) struct Subject<'a> {
    cgroup: Option<&'a CgroupUsage>,
    cpu_ns: Option<u64>,
    usage: Option<u64>,
    working_set: Option<u64>,
    rss: Option<u64>,
    swap: Option<u64>,
}

impl<'a> Subject<'a> {
    pub(super) fn of_cgroup(cgroup: &'a CgroupUsage) -> Self {
        Self {
            cpu_ns: cgroup.cpu_ns,
            usage: cgroup.memory_usage,
            working_set: cgroup.working_set,
            rss: cgroup.rss,
            swap: cgroup.swap,
            cgroup: Some(cgroup),
        }
    }

    pub(super) fn of_container(container: &'a ContainerScene) -> Self {
        Self {
            cgroup: container.cgroup.as_ref(),
            cpu_ns: container.cpu_ns(),
            usage: container.memory_usage(),
            working_set: container.working_set(),
            rss: container.rss(),
            swap: container.swap(),
        }
    }
}

/// The root cgroup's figures, which version 2 does not keep.
pub(super) fn of_machine(machine: &MachineUsage) -> CgroupUsage {
    CgroupUsage {
        cpu_ns: Some(machine.cpu_ns),
        memory_usage: Some(machine.usage),
        working_set: Some(machine.working_set()),
        rss: Some(machine.rss),
        cache: Some(machine.cache),
        swap: Some(machine.swap_total.saturating_sub(machine.swap_free)),
        page_faults: Some(machine.page_faults),
        major_page_faults: Some(machine.major_page_faults),
        pressures: machine.pressures,
        ..CgroupUsage::default()
    }
}

type Row = (
    &'static str,
    &'static str,
    Kind,
    fn(&CgroupUsage) -> Option<u64>,
);

#[rustfmt::skip]
const NUMBERS: &[Row] = &[
    ("container_cpu_cfs_periods_total", "Enforcement periods of the CPU limit", Counter, |c| c.periods),
    ("container_cpu_cfs_throttled_periods_total", "Enforcement periods in which it held something up", Counter, |c| c.throttled_periods),
    ("container_spec_cpu_period", "Enforcement period in microseconds", Gauge, |c| c.cpu_period),
    ("container_spec_cpu_quota", "CPU limit in microseconds a period", Gauge, |c| c.cpu_quota),
    ("container_spec_cpu_shares", "CPU shares", Gauge, |c| c.cpu_shares),
    ("container_memory_cache", "Page cache in bytes", Gauge, |c| c.cache),
    ("container_memory_mapped_file", "Mapped files in bytes", Gauge, |c| c.mapped_file),
    ("container_memory_kernel_usage", "The kernel's memory in bytes", Gauge, |c| c.kernel_memory),
    ("container_memory_max_usage_bytes", "The most memory that was in use, in bytes", Gauge, |c| c.max_memory),
    ("container_memory_failcnt", "How often the memory limit was hit", Counter, |c| c.failcnt),
    ("container_oom_events_total", "Processes killed because memory ran out", Counter, |c| c.oom_kills),
    ("container_threads", "Threads", Gauge, |c| c.pids),
];

/// Limits; 0 stands for none, as in cAdvisor.
#[rustfmt::skip]
const LIMITS: &[Row] = &[
    ("container_spec_memory_limit_bytes", "Memory limit in bytes", Gauge, |c| c.memory_usage.map(|_| c.memory_limit.unwrap_or(0))),
    ("container_spec_memory_swap_limit_bytes", "Swap limit in bytes", Gauge, |c| c.swap.map(|_| c.swap_limit.unwrap_or(0))),
    ("container_threads_max", "How many threads there may be; 0 for any number", Gauge, |c| c.pids.map(|_| c.pids_limit.unwrap_or(0))),
];

#[rustfmt::skip]
const TIMES: &[Row] = &[
    ("container_cpu_user_seconds_total", "CPU time outside of the kernel, in seconds", Counter, |c| c.cpu_user_ns),
    ("container_cpu_system_seconds_total", "CPU time in the kernel, in seconds", Counter, |c| c.cpu_system_ns),
    ("container_cpu_cfs_throttled_seconds_total", "Time for which the CPU limit held something up, in seconds", Counter, |c| c.throttled_ns),
];

/// Adds all that is known.
pub(super) fn add(out: &mut Exposition, labels: &Labels<'_>, subject: &Subject<'_>, time: i64) {
    if let Some(nanos) = subject.cpu_ns {
        let name = "container_cpu_usage_seconds_total";
        let total = labels.with(&[("cpu", "total")]);
        out.family(name, "CPU time in seconds", Counter)
            .at(&total, seconds(nanos), time);
    }
    let pairs = labels.pairs();
    for (name, help, value) in [
        (
            "container_memory_usage_bytes",
            "Memory in use in bytes, page cache included",
            subject.usage,
        ),
        (
            "container_memory_working_set_bytes",
            "Memory in use without inactive page cache, in bytes",
            subject.working_set,
        ),
        (
            "container_memory_rss",
            "Anonymous memory in bytes",
            subject.rss,
        ),
        (
            "container_memory_swap",
            "Swap in use in bytes",
            subject.swap,
        ),
    ] {
        if let Some(bytes) = value {
            out.family(name, help, Gauge).at(&pairs, bytes, time);
        }
    }
    let Some(cgroup) = subject.cgroup else { return };
    for (name, help, kind, figure) in NUMBERS.iter().chain(LIMITS) {
        if let Some(value) = figure(cgroup) {
            out.family(name, help, *kind).at(&pairs, value, time);
        }
    }
    for (name, help, kind, figure) in TIMES {
        if let Some(nanos) = figure(cgroup) {
            out.family(name, help, *kind)
                .at(&pairs, seconds(nanos), time);
        }
    }
    for (kind, count) in [
        ("pgfault", cgroup.page_faults),
        ("pgmajfault", cgroup.major_page_faults),
    ] {
        if let Some(count) = count {
            // What is below is counted with it.
            let labels = labels.with(&[("failure_type", kind), ("scope", "hierarchy")]);
            let name = "container_memory_failures_total";
            out.family(name, "Page faults", Counter)
                .at(&labels, count, time);
        }
    }
    pressures(out, &pairs, &cgroup.pressures, time);
    for device in &cgroup.devices {
        let labels = labels.with(&[("device", device.device.as_str())]);
        for (name, help, count) in [
            (
                "container_fs_reads_bytes_total",
                "Bytes read from the device",
                device.read_bytes,
            ),
            (
                "container_fs_writes_bytes_total",
                "Bytes written to the device",
                device.written_bytes,
            ),
            (
                "container_fs_reads_total",
                "Reads from the device",
                device.reads,
            ),
            (
                "container_fs_writes_total",
                "Writes to the device",
                device.writes,
            ),
        ] {
            out.family(name, help, Counter).at(&labels, count, time);
        }
    }
}

type PressureRow = (
    &'static str,
    &'static str,
    fn(&Pressures) -> Option<Pressure>,
);

#[rustfmt::skip]
const PRESSURES: [PressureRow; 3] = [
    ("container_pressure_cpu_waiting_seconds_total", "container_pressure_cpu_stalled_seconds_total", |p| p.cpu),
    ("container_pressure_memory_waiting_seconds_total", "container_pressure_memory_stalled_seconds_total", |p| p.memory),
    ("container_pressure_io_waiting_seconds_total", "container_pressure_io_stalled_seconds_total", |p| p.io),
];

fn pressures(out: &mut Exposition, labels: &[(&str, &str)], all: &Pressures, time: i64) {
    for (waiting, stalled, figure) in PRESSURES {
        let Some(pressure) = figure(all) else {
            continue;
        };
        let some = "Time for which a task waited for it, in seconds";
        out.family(waiting, some, Counter)
            .at(labels, seconds(pressure.some.total_ns), time);
        if let Some(full) = pressure.full {
            let all = "Time for which all tasks waited for it, in seconds";
            out.family(stalled, all, Counter)
                .at(labels, seconds(full.total_ns), time);
        }
    }
}

/// When it was started and last seen.
pub(super) fn times(
    out: &mut Exposition,
    labels: &Labels<'_>,
    container: &ContainerScene,
    now: i64,
) {
    let pairs = labels.pairs();
    if let Some(started) = container.started {
        let help = "When it was started, in seconds since 1970";
        out.family("container_start_time_seconds", help, Gauge).at(
            &pairs,
            started.as_second(),
            now,
        );
    }
    let help = "When it was looked at, in seconds since 1970";
    out.family("container_last_seen", help, Gauge)
        .at(&pairs, now / 1000, now);
}

/// The writable layer, and the file system that it is on.
pub(super) fn filesystem(
    out: &mut Exposition,
    labels: &Labels<'_>,
    container: &ContainerScene,
    fs: Option<FsUsage>,
    at: Timestamp,
) {
    let Some(layer) = container
        .reported
        .as_ref()
        .and_then(|r| r.writable_layer.as_ref())
    else {
        return;
    };
    let device = layer.fs_id.as_ref().map_or("", |id| id.mountpoint.as_str());
    let labels = labels.with(&[("device", device)]);
    let time = at.as_millisecond();
    let value = |value: &Option<berth_cri_api::v1::UInt64Value>| value.as_ref().map(|v| v.value);
    for (name, help, count) in [
        (
            "container_fs_usage_bytes",
            "Bytes in the writable layer",
            value(&layer.used_bytes),
        ),
        (
            "container_fs_inodes_used",
            "Inodes of the writable layer",
            value(&layer.inodes_used),
        ),
        (
            "container_fs_limit_bytes",
            "Size of the file system in bytes",
            fs.map(|fs| fs.capacity),
        ),
        (
            "container_fs_inodes_free",
            "Free inodes of the file system",
            fs.map(|fs| fs.inodes_free),
        ),
        (
            "container_fs_inodes_total",
            "Inodes of the file system",
            fs.map(|fs| fs.inodes),
        ),
    ] {
        if let Some(count) = count {
            out.family(name, help, Gauge).at(&labels, count, time);
        }
    }
}
