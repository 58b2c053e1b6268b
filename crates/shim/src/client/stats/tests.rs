use protobuf::MessageField;

use super::*;

fn any(name: &str, message: &impl Message) -> Any {
    Any {
        type_url: format!("types.containerd.io/{name}"),
        value: message.write_to_bytes().unwrap(),
        ..Any::default()
    }
}

#[test]
fn version_1_as_kata_sends_it() {
    use cgroups::metrics::{
        CPUStat, CPUUsage, MemoryEntry, MemoryOomControl, MemoryStat, Metrics, PidsStat, Throttle,
    };
    let entry = |usage, limit| {
        MessageField::some(MemoryEntry {
            usage,
            limit,
            max: usage + 1,
            failcnt: 3,
            ..MemoryEntry::default()
        })
    };
    let mut metrics = Metrics {
        cpu: MessageField::some(CPUStat {
            usage: MessageField::some(CPUUsage {
                total: 7,
                user: 4,
                kernel: 3,
                ..CPUUsage::default()
            }),
            throttling: MessageField::some(Throttle {
                periods: 9,
                throttled_periods: 2,
                throttled_time: 5,
                ..Throttle::default()
            }),
            ..CPUStat::default()
        }),
        memory: MessageField::some(MemoryStat {
            cache: 40,
            rss: 11,
            total_rss: 12,
            mapped_file: 6,
            pg_fault: 21,
            inactive_file: 30,
            usage: entry(100, u64::MAX),
            swap: entry(70, 0),
            kernel: entry(8, 0),
            ..MemoryStat::default()
        }),
        pids: MessageField::some(PidsStat {
            current: 5,
            ..PidsStat::default()
        }),
        ..Metrics::default()
    };
    let name = "io.containerd.cgroups.v1.Metrics";
    let wanted = Stats {
        cpu_usage_ns: Some(7),
        cpu_user_ns: Some(4),
        cpu_system_ns: Some(3),
        cpu_periods: Some(9),
        cpu_throttled_periods: Some(2),
        cpu_throttled_ns: Some(5),
        memory_usage: Some(100),
        memory_working_set: Some(70),
        memory_max_usage: Some(101),
        memory_failcnt: Some(3),
        memory_rss: Some(12),
        memory_cache: Some(40),
        memory_mapped_file: Some(6),
        memory_kernel: Some(8),
        page_faults: Some(21),
        major_page_faults: Some(0),
        // Less than memory alone, so of swap alone.
        swap_usage: Some(70),
        pids: Some(5),
        ..Stats::default()
    };
    assert_eq!(decode(Some(&any(name, &metrics))).unwrap(), wanted);

    let memory = metrics.memory.as_mut().unwrap();
    memory.swap = entry(130, 0);
    memory.usage = entry(100, 4096);
    metrics.pids.as_mut().unwrap().limit = 64;
    metrics.memory_oom_control = MessageField::some(MemoryOomControl {
        oom_kill: 2,
        ..MemoryOomControl::default()
    });
    let wanted = Stats {
        swap_usage: Some(30),
        memory_limit: Some(4096),
        pids_limit: Some(64),
        oom_kills: Some(2),
        ..wanted
    };
    assert_eq!(decode(Some(&any(name, &metrics))).unwrap(), wanted);
    // What was not measured is not nothing.
    assert_eq!(
        decode(Some(&any(name, &Metrics::default()))).unwrap(),
        Stats::default()
    );
}

#[test]
fn version_2() {
    use cgroups_v2::metrics::{CPUStat, MemoryEvents, MemoryStat, Metrics, PidsStat};
    let metrics = Metrics {
        cpu: MessageField::some(CPUStat {
            usage_usec: 7,
            user_usec: 4,
            system_usec: u64::MAX,
            nr_periods: 9,
            nr_throttled: 2,
            throttled_usec: 5,
            ..CPUStat::default()
        }),
        memory: MessageField::some(MemoryStat {
            usage: 100,
            max_usage: 120,
            usage_limit: u64::MAX,
            inactive_file: 200,
            anon: 12,
            file: 40,
            file_mapped: 6,
            kernel_stack: 1,
            slab: 7,
            pgfault: 21,
            pgmajfault: 1,
            swap_usage: 30,
            ..MemoryStat::default()
        }),
        memory_events: MessageField::some(MemoryEvents {
            max: 3,
            oom_kill: 2,
            ..MemoryEvents::default()
        }),
        pids: MessageField::some(PidsStat {
            current: 5,
            limit: 64,
            ..PidsStat::default()
        }),
        ..Metrics::default()
    };
    let stats = decode(Some(&any("io.containerd.cgroups.v2.Metrics", &metrics))).unwrap();
    let wanted = Stats {
        cpu_usage_ns: Some(7_000),
        cpu_user_ns: Some(4_000),
        cpu_system_ns: Some(u64::MAX),
        cpu_periods: Some(9),
        cpu_throttled_periods: Some(2),
        cpu_throttled_ns: Some(5_000),
        memory_usage: Some(100),
        memory_working_set: Some(0),
        memory_max_usage: Some(120),
        memory_failcnt: Some(3),
        memory_rss: Some(12),
        memory_cache: Some(40),
        memory_mapped_file: Some(6),
        memory_kernel: Some(8),
        page_faults: Some(21),
        major_page_faults: Some(1),
        swap_usage: Some(30),
        pids: Some(5),
        pids_limit: Some(64),
        oom_kills: Some(2),
        memory_limit: None,
    };
    assert_eq!(stats, wanted);
}

#[test]
fn other_forms_are_refused() {
    let other = any("io.example.Metrics", &cgroups::metrics::Metrics::default());
    assert!(matches!(
        decode(Some(&other)),
        Err(ShimError::UnknownMetrics(_))
    ));
    let broken = Any {
        type_url: "io.containerd.cgroups.v1.Metrics".to_owned(),
        value: vec![0xff; 9],
        ..Any::default()
    };
    assert!(matches!(
        decode(Some(&broken)),
        Err(ShimError::Decode { .. })
    ));
    assert_eq!(decode(None).unwrap(), Stats::default());
}
