//! cgroup v2.

use std::path::PathBuf;

use containerd_shim_protos::cgroups_v2::metrics::{CPUStat, MemoryStat, Metrics, PidsStat};
use protobuf::MessageField;

use super::{number, table};

pub(super) fn read(dir: &Option<PathBuf>) -> Metrics {
    let mut out = Metrics::new();
    let Some(dir) = dir else { return out };
    let cpu = table(dir, "cpu.stat");
    let of = |key: &str| cpu.get(key).copied().unwrap_or(0);
    out.cpu = MessageField::some(CPUStat {
        usage_usec: of("usage_usec"),
        user_usec: of("user_usec"),
        system_usec: of("system_usec"),
        nr_periods: of("nr_periods"),
        nr_throttled: of("nr_throttled"),
        throttled_usec: of("throttled_usec"),
        ..Default::default()
    });
    let stat = table(dir, "memory.stat");
    let get = |key: &str| stat.get(key).copied().unwrap_or(0);
    out.memory = MessageField::some(MemoryStat {
        anon: get("anon"),
        file: get("file"),
        inactive_file: get("inactive_file"),
        pgfault: get("pgfault"),
        pgmajfault: get("pgmajfault"),
        usage: number(dir, "memory.current"),
        usage_limit: number(dir, "memory.max"),
        swap_usage: number(dir, "memory.swap.current"),
        swap_limit: number(dir, "memory.swap.max"),
        ..Default::default()
    });
    out.pids = MessageField::some(PidsStat {
        current: number(dir, "pids.current"),
        limit: number(dir, "pids.max"),
        ..Default::default()
    });
    out
}
