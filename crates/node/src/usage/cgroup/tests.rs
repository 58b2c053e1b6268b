use std::fs;
use std::path::Path;

use super::*;

fn put(root: &Path, files: &[(&str, &str)]) {
    for (path, content) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

const V1: &[(&str, &str)] = &[
    ("cpuacct/p/cpuacct.usage", "5000000000\n"),
    ("cpuacct/p/cpuacct.stat", "user 300\nsystem 200\n"),
    (
        "cpu/p/cpu.stat",
        "nr_periods 10\nnr_throttled 3\nthrottled_time 7000\n",
    ),
    ("cpu/p/cpu.shares", "1024\n"),
    ("cpu/p/cpu.cfs_quota_us", "-1\n"),
    ("cpu/p/cpu.cfs_period_us", "100000\n"),
    ("memory/p/memory.usage_in_bytes", "1000\n"),
    ("memory/p/memory.limit_in_bytes", "9223372036854771712\n"),
    (
        "memory/p/memory.stat",
        "rss 1\ntotal_rss 500\ntotal_cache 400\ntotal_inactive_file 300\ntotal_swap 0\ntotal_pgfault 12\n",
    ),
    (
        "memory/p/memory.oom_control",
        "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    ),
    ("pids/p/pids.current", "4\n"),
    ("pids/p/pids.max", "max\n"),
    (
        "blkio/p/blkio.throttle.io_service_bytes_recursive",
        "8:0 Read 4096\n8:0 Write 512\n8:0 Total 4608\nTotal 4608\n",
    ),
    (
        "blkio/p/blkio.throttle.io_serviced_recursive",
        "8:0 Read 1\n8:0 Write 2\n",
    ),
];

const V2: &[(&str, &str)] = &[
    ("cgroup.controllers", "cpu memory pids io"),
    (
        "p/cpu.stat",
        "usage_usec 5000000\nuser_usec 3000000\nsystem_usec 2000000\nnr_periods 10\nnr_throttled 3\nthrottled_usec 7\n",
    ),
    ("p/cpu.weight", "39\n"),
    ("p/cpu.max", "max 100000\n"),
    ("p/memory.current", "1000\n"),
    ("p/memory.max", "max\n"),
    (
        "p/memory.stat",
        "anon 500\nfile 400\ninactive_file 300\npgfault 12\nkernel 9\n",
    ),
    ("p/memory.events", "low 0\nmax 6\noom 2\noom_kill 2\n"),
    ("p/memory.swap.current", "0\n"),
    ("p/pids.current", "4\n"),
    ("p/pids.max", "max\n"),
    (
        "p/io.stat",
        "8:0 rbytes=4096 wbytes=512 rios=1 wios=2 dbytes=0 dios=0\n",
    ),
    (
        "p/cpu.pressure",
        "some avg10=1.50 avg60=0.20 avg300=0.01 total=5400\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n",
    ),
];

fn check(usage: &CgroupUsage) {
    let seconds = 1_000_000_000;
    assert_eq!(usage.cpu_ns, Some(5 * seconds));
    assert_eq!(usage.cpu_user_ns, Some(3 * seconds));
    assert_eq!(usage.cpu_system_ns, Some(2 * seconds));
    assert_eq!(
        (usage.periods, usage.throttled_periods, usage.throttled_ns),
        (Some(10), Some(3), Some(7000))
    );
    assert_eq!((usage.cpu_quota, usage.cpu_period), (None, Some(100_000)));
    assert_eq!(
        (
            usage.memory_usage,
            usage.working_set,
            usage.rss,
            usage.cache
        ),
        (Some(1000), Some(700), Some(500), Some(400))
    );
    assert_eq!(
        (usage.memory_limit, usage.pids_limit, usage.swap),
        (None, None, Some(0))
    );
    assert_eq!(
        (usage.oom_kills, usage.pids, usage.page_faults),
        (Some(2), Some(4), Some(12))
    );
    let device = DeviceUsage {
        device: "8:0".to_owned(),
        read_bytes: 4096,
        written_bytes: 512,
        reads: 1,
        writes: 2,
    };
    assert_eq!(usage.devices, [device]);
}

#[test]
fn both_versions_give_the_same_figures_in_the_same_units() {
    let (v1, v2) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    put(v1.path(), V1);
    put(v2.path(), V2);
    let old = read(&Hierarchy::detect(v1.path()), "/p".as_ref());
    check(&old);
    assert_eq!(old.cpu_shares, Some(1024));
    let new = read(&Hierarchy::detect(v2.path()), "/p".as_ref());
    check(&new);
    assert_eq!(
        (new.cpu_shares, new.kernel_memory, new.failcnt),
        (Some(998), Some(9), Some(6))
    );
    // Version 1 has no pressure: that is no 0.
    assert_eq!(old.pressures, Pressures::default());
    let cpu = new.pressures.cpu.unwrap();
    assert_eq!(
        (cpu.some.total_ns, cpu.full.unwrap().total_ns),
        (5_400_000, 7000)
    );
    assert_eq!(new.pressures.memory, None);
}

#[test]
fn a_hybrid_machine_has_pressure_from_the_tree_beside() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), V1);
    put(
        dir.path(),
        &[
            ("unified/cgroup.controllers", ""),
            (
                "unified/p/memory.pressure",
                "some avg10=0.00 avg60=0.00 avg300=0.00 total=3\n",
            ),
        ],
    );
    let usage = read(&Hierarchy::detect(dir.path()), "p".as_ref());
    check(&usage);
    let memory = usage.pressures.memory.unwrap();
    assert_eq!((memory.some.total_ns, memory.full), (3000, None));
}

#[test]
fn a_cgroup_that_is_gone_has_nothing() {
    let (v1, v2) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    put(v1.path(), V1);
    put(v2.path(), V2);
    for dir in [v1, v2] {
        let hierarchy = Hierarchy::detect(dir.path());
        assert_eq!(read(&hierarchy, "gone".as_ref()), CgroupUsage::default());
        assert!(!is_populated(&hierarchy, "gone".as_ref()));
    }
}

#[test]
fn a_process_below_counts_as_one_in_it() {
    let (v1, v2) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    put(v1.path(), V1);
    put(v2.path(), V2);
    put(
        v2.path(),
        &[
            ("p/cgroup.procs", ""),
            ("p/cgroup.events", "populated 1\nfrozen 0\n"),
        ],
    );
    assert!(is_populated(&Hierarchy::detect(v1.path()), "p".as_ref()));
    assert!(is_populated(&Hierarchy::detect(v2.path()), "p".as_ref()));
    put(v2.path(), &[("p/cgroup.events", "populated 0\nfrozen 0\n")]);
    assert!(!is_populated(&Hierarchy::detect(v2.path()), "p".as_ref()));
}

#[test]
fn no_more_devices_than_are_shown_and_no_odd_names() {
    let mut text: String = (0..1000)
        .map(|n| format!("8:{n} rbytes=1 wbytes=x\n"))
        .collect();
    text.push_str("evil\" rbytes=1\n:1 rbytes=1\n");
    let devices = devices_v2(&text);
    assert_eq!(devices.len(), MAX_DEVICES);
    assert!(devices.iter().all(|d| is_device(&d.device)));
}
