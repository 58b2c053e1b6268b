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

fn v1(m: &cgroups::metrics::Metrics) -> Stats {
    let mut out = Stats {
        cpu_usage_ns: m.cpu.usage.as_ref().map(|u| u.total),
        ..Stats::default()
    };
    if let Some(memory) = m.memory.as_ref() {
        if let Some(usage) = memory.usage.as_ref() {
            out.memory_usage = Some(usage.usage);
            out.memory_working_set = Some(usage.usage.saturating_sub(memory.total_inactive_file));
            out.memory_limit = limit(usage.limit);
        }
        out.memory_rss = Some(memory.total_rss);
        out.page_faults = Some(memory.total_pg_fault);
        out.major_page_faults = Some(memory.total_pg_maj_fault);
        out.swap_usage = memory
            .swap
            .as_ref()
            .zip(memory.usage.as_ref())
            .map(|(swap, usage)| swap.usage.saturating_sub(usage.usage));
    }
    out.pids = m.pids.as_ref().map(|p| p.current);
    out
}

fn v2(m: &cgroups_v2::metrics::Metrics) -> Stats {
    let mut out = Stats {
        cpu_usage_ns: m.cpu.as_ref().map(|c| c.usage_usec.saturating_mul(1000)),
        ..Stats::default()
    };
    if let Some(memory) = m.memory.as_ref() {
        out.memory_usage = Some(memory.usage);
        out.memory_working_set = Some(memory.usage.saturating_sub(memory.inactive_file));
        out.memory_rss = Some(memory.anon);
        out.memory_limit = limit(memory.usage_limit);
        out.page_faults = Some(memory.pgfault);
        out.major_page_faults = Some(memory.pgmajfault);
        out.swap_usage = Some(memory.swap_usage);
    }
    out.pids = m.pids.as_ref().map(|p| p.current);
    out
}
