//! cgroup v1.

use containerd_shim_protos::cgroups::metrics::{
    CPUStat, CPUUsage, MemoryEntry, MemoryStat, Metrics, PidsStat,
};
use protobuf::MessageField;

use super::{Groups, number, table};

pub(super) fn read(groups: &Groups) -> Metrics {
    let mut out = Metrics::new();
    if let Some(dir) = groups.dir("cpuacct") {
        let usage = CPUUsage {
            total: number(&dir, "cpuacct.usage"),
            ..Default::default()
        };
        out.cpu = MessageField::some(CPUStat {
            usage: MessageField::some(usage),
            ..Default::default()
        });
    }
    if let Some(dir) = groups.dir("memory") {
        let stat = table(&dir, "memory.stat");
        let get = |key: &str| stat.get(key).copied().unwrap_or(0);
        let entry = |prefix: &str| MemoryEntry {
            usage: number(&dir, &format!("{prefix}.usage_in_bytes")),
            limit: number(&dir, &format!("{prefix}.limit_in_bytes")),
            max: number(&dir, &format!("{prefix}.max_usage_in_bytes")),
            failcnt: number(&dir, &format!("{prefix}.failcnt")),
            ..Default::default()
        };
        let mut memory = MemoryStat {
            cache: get("cache"),
            rss: get("rss"),
            total_rss: get("total_rss"),
            total_cache: get("total_cache"),
            pg_fault: get("pgfault"),
            pg_maj_fault: get("pgmajfault"),
            total_pg_fault: get("total_pgfault"),
            total_pg_maj_fault: get("total_pgmajfault"),
            inactive_file: get("inactive_file"),
            total_inactive_file: get("total_inactive_file"),
            usage: MessageField::some(entry("memory")),
            ..Default::default()
        };
        if dir.join("memory.memsw.usage_in_bytes").exists() {
            memory.swap = MessageField::some(entry("memory.memsw"));
        }
        out.memory = MessageField::some(memory);
    }
    if let Some(dir) = groups.dir("pids") {
        let pids = PidsStat {
            current: number(&dir, "pids.current"),
            // As containerd: none is zero.
            limit: Some(number(&dir, "pids.max"))
                .filter(|l| *l != u64::MAX)
                .unwrap_or(0),
            ..Default::default()
        };
        out.pids = MessageField::some(pids);
    }
    out
}
