//! A container's metrics, from the forms in which shims send them.

use containerd_shim_protos::{cgroups, cgroups_v2};
use protobuf::Message;
use protobuf::well_known_types::any::Any;

use super::ShimError;

/// What a container (or, with VM-like runtimes, its sandbox) uses. Absent: not measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// CPU time used, in nanoseconds.
    pub cpu_usage_ns: Option<u64>,
    /// Memory in use, page cache included, in bytes.
    pub memory_usage: Option<u64>,
    /// Memory in use without inactive page cache, in bytes.
    pub memory_working_set: Option<u64>,
    /// Anonymous memory, in bytes.
    pub memory_rss: Option<u64>,
    /// Memory limit, in bytes; none when unlimited.
    pub memory_limit: Option<u64>,
    /// Page faults.
    pub page_faults: Option<u64>,
    /// Page faults that needed I/O.
    pub major_page_faults: Option<u64>,
    /// Swap in use, in bytes.
    pub swap_usage: Option<u64>,
    /// Number of processes and threads.
    pub pids: Option<u64>,
    /// How many there may be; none when unlimited.
    pub pids_limit: Option<u64>,
    /// CPU time used outside of the kernel, in nanoseconds.
    pub cpu_user_ns: Option<u64>,
    /// CPU time used in the kernel, in nanoseconds.
    pub cpu_system_ns: Option<u64>,
    /// Enforcement periods of the CPU limit.
    pub cpu_periods: Option<u64>,
    /// Those in which it held something up.
    pub cpu_throttled_periods: Option<u64>,
    /// For how long it did, in nanoseconds.
    pub cpu_throttled_ns: Option<u64>,
    /// The most memory that was in use, in bytes.
    pub memory_max_usage: Option<u64>,
    /// How often the memory limit was hit.
    pub memory_failcnt: Option<u64>,
    /// The kernel's memory, in bytes.
    pub memory_kernel: Option<u64>,
    /// Page cache, in bytes.
    pub memory_cache: Option<u64>,
    /// Files mapped into memory, in bytes.
    pub memory_mapped_file: Option<u64>,
    /// Processes that were killed because memory ran out.
    pub oom_kills: Option<u64>,
}

/// Decodes the metrics of containerd's cgroup v1 and v2 messages.
pub(super) fn decode(any: Option<&Any>) -> Result<Stats, ShimError> {
    let Some(any) = any else {
        return Ok(Stats::default());
    };
    let wrong = |source| ShimError::Decode {
        method: "Stats",
        source,
    };
    let name = any.type_url.rsplit('/').next().unwrap_or_default();
    match name {
        "io.containerd.cgroups.v1.Metrics" => {
            cgroups::metrics::Metrics::parse_from_bytes(&any.value)
                .map(|m| v1(&m))
                .map_err(wrong)
        }
        "io.containerd.cgroups.v2.Metrics" => {
            cgroups_v2::metrics::Metrics::parse_from_bytes(&any.value)
                .map(|m| v2(&m))
                .map_err(wrong)
        }
        other => Err(ShimError::UnknownMetrics(other.to_owned())),
    }
}

/// The kernel writes "unlimited" as a number near the top of its range.
fn limit(value: u64) -> Option<u64> {
    (value > 0 && value < (1 << 62)).then_some(value)
}

/// A figure with all below, else the group's own: Kata's agent knows only this of some.
fn total(total: u64, own: u64) -> Option<u64> {
    Some(if total > 0 { total } else { own })
}

fn v1(m: &cgroups::metrics::Metrics) -> Stats {
    let mut out = Stats::default();
    if let Some(usage) = m.cpu.usage.as_ref() {
        out.cpu_usage_ns = Some(usage.total);
        out.cpu_user_ns = Some(usage.user);
        out.cpu_system_ns = Some(usage.kernel);
    }
    if let Some(throttling) = m.cpu.throttling.as_ref() {
        out.cpu_periods = Some(throttling.periods);
        out.cpu_throttled_periods = Some(throttling.throttled_periods);
        out.cpu_throttled_ns = Some(throttling.throttled_time);
    }
    if let Some(memory) = m.memory.as_ref() {
        let inactive = memory.total_inactive_file.max(memory.inactive_file);
        if let Some(usage) = memory.usage.as_ref() {
            out.memory_usage = Some(usage.usage);
            out.memory_working_set = Some(usage.usage.saturating_sub(inactive));
            out.memory_limit = limit(usage.limit);
            out.memory_max_usage = Some(usage.max);
            out.memory_failcnt = Some(usage.failcnt);
        }
        out.memory_rss = total(memory.total_rss, memory.rss);
        out.memory_cache = total(memory.total_cache, memory.cache);
        out.memory_mapped_file = total(memory.total_mapped_file, memory.mapped_file);
        out.page_faults = total(memory.total_pg_fault, memory.pg_fault);
        out.major_page_faults = total(memory.total_pg_maj_fault, memory.pg_maj_fault);
        out.memory_kernel = memory.kernel.as_ref().map(|kernel| kernel.usage);
        // The kernel's figure is of memory and swap. A smaller one is of swap alone, which Kata's agent gives for a guest
        // with version 2.
        out.swap_usage = memory
            .swap
            .as_ref()
            .zip(memory.usage.as_ref())
            .map(|(swap, usage)| swap.usage.checked_sub(usage.usage).unwrap_or(swap.usage));
    }
    if let Some(pids) = m.pids.as_ref() {
        out.pids = Some(pids.current);
        out.pids_limit = limit(pids.limit);
    }
    out.oom_kills = m.memory_oom_control.as_ref().map(|oom| oom.oom_kill);
    out
}

fn v2(m: &cgroups_v2::metrics::Metrics) -> Stats {
    let mut out = Stats::default();
    if let Some(cpu) = m.cpu.as_ref() {
        let nanoseconds = |microseconds: u64| Some(microseconds.saturating_mul(1000));
        out.cpu_usage_ns = nanoseconds(cpu.usage_usec);
        out.cpu_user_ns = nanoseconds(cpu.user_usec);
        out.cpu_system_ns = nanoseconds(cpu.system_usec);
        out.cpu_periods = Some(cpu.nr_periods);
        out.cpu_throttled_periods = Some(cpu.nr_throttled);
        out.cpu_throttled_ns = nanoseconds(cpu.throttled_usec);
    }
    if let Some(memory) = m.memory.as_ref() {
        out.memory_usage = Some(memory.usage);
        out.memory_working_set = Some(memory.usage.saturating_sub(memory.inactive_file));
        out.memory_rss = Some(memory.anon);
        out.memory_cache = Some(memory.file);
        out.memory_mapped_file = Some(memory.file_mapped);
        out.memory_kernel = Some(memory.kernel_stack.saturating_add(memory.slab));
        out.memory_max_usage = Some(memory.max_usage);
        out.memory_limit = limit(memory.usage_limit);
        out.page_faults = Some(memory.pgfault);
        out.major_page_faults = Some(memory.pgmajfault);
        out.swap_usage = Some(memory.swap_usage);
    }
    if let Some(events) = m.memory_events.as_ref() {
        out.memory_failcnt = Some(events.max);
        out.oom_kills = Some(events.oom_kill);
    }
    if let Some(pids) = m.pids.as_ref() {
        out.pids = Some(pids.current);
        out.pids_limit = limit(pids.limit);
    }
    out
}

#[cfg(test)]
mod tests;
