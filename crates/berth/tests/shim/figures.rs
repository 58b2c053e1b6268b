//! What a guest counts, in containerd's message for version 1, as Kata's agent fills it for either version.

use containerd_shim_protos::cgroups::metrics::{
    CPUStat, CPUUsage, MemoryEntry, MemoryStat, Metrics, PidsStat, Throttle,
};
use protobuf::well_known_types::any::Any;
use protobuf::{Message, MessageField};

const SECOND: u64 = 1_000_000_000;

pub(crate) fn figures() -> protobuf::Result<Any> {
    let entry = |usage, limit| {
        MessageField::some(MemoryEntry {
            usage,
            limit,
            max: 105 << 20,
            failcnt: 8,
            ..MemoryEntry::default()
        })
    };
    let metrics = Metrics {
        cpu: MessageField::some(CPUStat {
            usage: MessageField::some(CPUUsage {
                total: 70 * SECOND,
                user: 41 * SECOND,
                kernel: 29 * SECOND,
                ..CPUUsage::default()
            }),
            throttling: MessageField::some(Throttle {
                periods: 90,
                throttled_periods: 20,
                throttled_time: 5 * SECOND,
                ..Throttle::default()
            }),
            ..CPUStat::default()
        }),
        memory: MessageField::some(MemoryStat {
            cache: 40 << 20,
            total_rss: 12 << 20,
            total_inactive_file: 30 << 20,
            usage: entry(100 << 20, 200 << 20),
            swap: entry(0, 0),
            kernel: entry(9 << 20, 0),
            ..MemoryStat::default()
        }),
        pids: MessageField::some(PidsStat {
            current: 17,
            ..PidsStat::default()
        }),
        ..Metrics::default()
    };
    Ok(Any {
        type_url: "io.containerd.cgroups.v1.Metrics".to_owned(),
        value: metrics.write_to_bytes()?,
        ..Any::default()
    })
}
