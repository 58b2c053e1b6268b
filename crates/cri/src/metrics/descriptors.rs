//! Which metrics there are, under cAdvisor's names.

use berth_cri_api::v1::MetricType;

/// One metric.
pub(super) struct Descriptor {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: MetricType,
    /// Beyond [`BASE_LABELS`].
    pub(super) labels: &'static [&'static str],
}

/// The labels of every metric: the id and name of container or pod, and the image.
pub(super) const BASE_LABELS: [&str; 3] = ["id", "name", "image"];

const fn row(
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    labels: &'static [&'static str],
) -> Descriptor {
    Descriptor {
        name,
        help,
        kind,
        labels,
    }
}

use MetricType::{Counter, Gauge};

pub(super) const DESCRIPTORS: &[Descriptor] = &[
    row(
        "container_blkio_device_usage_total",
        "Bytes moved to and from devices",
        Counter,
        &["device", "operation"],
    ),
    row(
        "container_cpu_cfs_periods_total",
        "Elapsed enforcement periods",
        Counter,
        &[],
    ),
    row(
        "container_cpu_cfs_throttled_periods_total",
        "Throttled enforcement periods",
        Counter,
        &[],
    ),
    row(
        "container_cpu_cfs_throttled_seconds_total",
        "Time throttled, in seconds",
        Counter,
        &[],
    ),
    row(
        "container_cpu_system_seconds_total",
        "CPU time in the kernel, in seconds",
        Counter,
        &[],
    ),
    row(
        "container_cpu_usage_seconds_total",
        "CPU time, in seconds",
        Counter,
        &[],
    ),
    row(
        "container_cpu_user_seconds_total",
        "CPU time outside of the kernel, in seconds",
        Counter,
        &[],
    ),
    row(
        "container_file_descriptors",
        "Open file descriptors",
        Gauge,
        &[],
    ),
    row(
        "container_fs_inodes_free",
        "Free inodes of the filesystem",
        Gauge,
        &["device"],
    ),
    row(
        "container_fs_inodes_total",
        "Inodes of the filesystem",
        Gauge,
        &["device"],
    ),
    row(
        "container_fs_limit_bytes",
        "Size of the filesystem, in bytes",
        Gauge,
        &["device"],
    ),
    row(
        "container_fs_reads_bytes_total",
        "Bytes read",
        Counter,
        &["device"],
    ),
    row("container_fs_reads_total", "Reads", Counter, &["device"]),
    row(
        "container_fs_usage_bytes",
        "Bytes written to the container's root",
        Gauge,
        &["device"],
    ),
    row(
        "container_fs_writes_bytes_total",
        "Bytes written",
        Counter,
        &["device"],
    ),
    row("container_fs_writes_total", "Writes", Counter, &["device"]),
    row(
        "container_last_seen",
        "When the container was last looked at, in seconds since 1970",
        Gauge,
        &[],
    ),
    row("container_memory_cache", "Page cache, in bytes", Gauge, &[]),
    row(
        "container_memory_failcnt",
        "How often the limit was hit",
        Counter,
        &[],
    ),
    row(
        "container_memory_failures_total",
        "Page faults",
        Counter,
        &["failure_type", "scope"],
    ),
    row(
        "container_memory_kernel_usage",
        "Kernel memory, in bytes",
        Gauge,
        &[],
    ),
    row(
        "container_memory_mapped_file",
        "Mapped files, in bytes",
        Gauge,
        &[],
    ),
    row(
        "container_memory_max_usage_bytes",
        "The most memory ever used, in bytes",
        Gauge,
        &[],
    ),
    row(
        "container_memory_rss",
        "Anonymous memory, in bytes",
        Gauge,
        &[],
    ),
    row("container_memory_swap", "Swap, in bytes", Gauge, &[]),
    row(
        "container_memory_usage_bytes",
        "Memory with page cache, in bytes",
        Gauge,
        &[],
    ),
    row(
        "container_memory_working_set_bytes",
        "Memory without inactive page cache, in bytes",
        Gauge,
        &[],
    ),
    row(
        "container_network_receive_bytes_total",
        "Bytes received",
        Counter,
        &["interface"],
    ),
    row(
        "container_network_receive_errors_total",
        "Errors in receiving",
        Counter,
        &["interface"],
    ),
    row(
        "container_network_receive_packets_dropped_total",
        "Packets dropped in receiving",
        Counter,
        &["interface"],
    ),
    row(
        "container_network_receive_packets_total",
        "Packets received",
        Counter,
        &["interface"],
    ),
    row(
        "container_network_transmit_bytes_total",
        "Bytes sent",
        Counter,
        &["interface"],
    ),
    row(
        "container_network_transmit_errors_total",
        "Errors in sending",
        Counter,
        &["interface"],
    ),
    row(
        "container_network_transmit_packets_dropped_total",
        "Packets dropped in sending",
        Counter,
        &["interface"],
    ),
    row(
        "container_network_transmit_packets_total",
        "Packets sent",
        Counter,
        &["interface"],
    ),
    row(
        "container_oom_events_total",
        "Processes killed for want of memory",
        Counter,
        &[],
    ),
    row(
        "container_pressure_cpu_stalled_seconds_total",
        "Time that all tasks waited for the CPU, in seconds",
        Counter,
        &[],
    ),
    row(
        "container_pressure_cpu_waiting_seconds_total",
        "Time that some task waited for the CPU, in seconds",
        Counter,
        &[],
    ),
    row(
        "container_pressure_io_stalled_seconds_total",
        "Time that all tasks waited for input and output, in seconds",
        Counter,
        &[],
    ),
    row(
        "container_pressure_io_waiting_seconds_total",
        "Time that some task waited for input and output, in seconds",
        Counter,
        &[],
    ),
    row(
        "container_pressure_memory_stalled_seconds_total",
        "Time that all tasks waited for memory, in seconds",
        Counter,
        &[],
    ),
    row(
        "container_pressure_memory_waiting_seconds_total",
        "Time that some task waited for memory, in seconds",
        Counter,
        &[],
    ),
    row("container_processes", "Processes", Gauge, &[]),
    row("container_sockets", "Open sockets", Gauge, &[]),
    row(
        "container_spec_cpu_period",
        "CPU period, in microseconds",
        Gauge,
        &[],
    ),
    row(
        "container_spec_cpu_quota",
        "CPU quota, in microseconds",
        Gauge,
        &[],
    ),
    row("container_spec_cpu_shares", "CPU share", Gauge, &[]),
    row(
        "container_spec_memory_limit_bytes",
        "Memory limit, in bytes",
        Gauge,
        &[],
    ),
    row(
        "container_spec_memory_swap_limit_bytes",
        "Limit of memory and swap, in bytes",
        Gauge,
        &[],
    ),
    row(
        "container_start_time_seconds",
        "Start, in seconds since 1970",
        Gauge,
        &[],
    ),
    row("container_threads", "Threads", Gauge, &[]),
    row(
        "container_threads_max",
        "Limit of threads; the largest number when there is none",
        Gauge,
        &[],
    ),
];
