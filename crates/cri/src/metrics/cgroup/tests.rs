//! Both readers on trees as the kernel shows them.

use std::collections::BTreeMap;

use super::*;

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (file, text) in files {
        let path = dir.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

fn read(cgroups: &Cgroups) -> BTreeMap<String, u64> {
    samples(cgroups, Path::new("/pods/c"))
        .into_iter()
        .map(|(name, labels, value)| {
            let name = name.trim_start_matches("container_").to_owned();
            (format!("{name}{}", labels.join(",")), value)
        })
        .collect()
}

/// The same container, measured by either version.
const EXPECTED: &[(&str, u64)] = &[
    ("cpu_cfs_periods_total", 50),
    ("cpu_cfs_throttled_periods_total", 7),
    ("cpu_cfs_throttled_seconds_total", 3),
    ("cpu_system_seconds_total", 4),
    ("cpu_usage_seconds_total", 12),
    ("cpu_user_seconds_total", 8),
    ("memory_cache", 3000),
    ("memory_failcnt", 2),
    ("memory_failures_totalpgfault,container", 90),
    ("memory_failures_totalpgmajfault,container", 5),
    ("memory_mapped_file", 500),
    ("memory_max_usage_bytes", 9000),
    ("memory_rss", 4000),
    ("memory_swap", 0),
    ("memory_usage_bytes", 8000),
    ("memory_working_set_bytes", 7000),
    ("oom_events_total", 1),
    ("spec_cpu_period", 100_000),
    ("spec_cpu_quota", 20_000),
    ("spec_memory_limit_bytes", 65536),
    ("threads", 6),
    ("threads_max", u64::MAX),
];

fn check(found: &BTreeMap<String, u64>) {
    for (name, value) in EXPECTED {
        assert_eq!(found.get(*name), Some(value), "{name}");
    }
}

#[test]
fn version_1() {
    let dir = tree(&[
        ("cpuacct/pods/c/cpuacct.usage", "12500000000\n"),
        ("cpuacct/pods/c/cpuacct.stat", "user 850\nsystem 400\n"),
        (
            "cpu/pods/c/cpu.stat",
            "nr_periods 50\nnr_throttled 7\nthrottled_time 3100000000\n",
        ),
        ("cpu/pods/c/cpu.cfs_period_us", "100000\n"),
        ("cpu/pods/c/cpu.cfs_quota_us", "20000\n"),
        ("cpu/pods/c/cpu.shares", "512\n"),
        ("memory/pods/c/memory.usage_in_bytes", "8000\n"),
        ("memory/pods/c/memory.max_usage_in_bytes", "9000\n"),
        ("memory/pods/c/memory.failcnt", "2\n"),
        ("memory/pods/c/memory.limit_in_bytes", "65536\n"),
        (
            "memory/pods/c/memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
        ),
        (
            "memory/pods/c/memory.stat",
            "cache 1\ntotal_cache 3000\ntotal_rss 4000\ntotal_rss_huge 9\ntotal_mapped_file 500\n\
             total_pgfault 90\ntotal_pgmajfault 5\ntotal_inactive_file 1000\n",
        ),
        ("pids/pods/c/pids.current", "6\n"),
        ("pids/pods/c/pids.max", "max\n"),
    ]);
    let mounts = ["cpu", "cpuacct", "memory", "pids"]
        .map(|name| (name.to_owned(), dir.path().join(name)))
        .into();
    let cgroups = Cgroups {
        mode: CgroupMode::V1,
        controllers: Default::default(),
        mounts,
        unified: None,
    };
    let found = read(&cgroups);
    check(&found);
    assert_eq!(found["spec_cpu_shares"], 512);
    assert!(!found.keys().any(|name| name.starts_with("pressure")));
}

#[test]
fn version_2() {
    let dir = tree(&[
        (
            "pods/c/cpu.stat",
            "usage_usec 12500000\nuser_usec 8500000\nsystem_usec 4000000\nnr_periods 50\n\
             nr_throttled 7\nthrottled_usec 3100000\n",
        ),
        ("pods/c/cpu.max", "20000 100000\n"),
        ("pods/c/cpu.weight", "20\n"),
        (
            "pods/c/cpu.pressure",
            "some avg10=1.50 avg60=0.20 avg300=0.00 total=5400000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n",
        ),
        ("pods/c/memory.current", "8000\n"),
        ("pods/c/memory.peak", "9000\n"),
        ("pods/c/memory.max", "65536\n"),
        (
            "pods/c/memory.events",
            "low 0\nhigh 0\nmax 2\noom 1\noom_kill 1\n",
        ),
        (
            "pods/c/memory.stat",
            "anon 4000\nfile 3000\nkernel 70\nfile_mapped 500\ninactive_file 1000\npgfault 90\npgmajfault 5\n",
        ),
        ("pods/c/pids.current", "6\n"),
        ("pods/c/pids.max", "max\n"),
    ]);
    let mounts = ["cpu", "memory", "pids"]
        .map(|name| (name.to_owned(), dir.path().to_owned()))
        .into();
    let cgroups = Cgroups {
        mode: CgroupMode::V2,
        controllers: Default::default(),
        mounts,
        unified: Some(dir.path().to_owned()),
    };
    let found = read(&cgroups);
    check(&found);
    assert_eq!(found["spec_cpu_shares"], 500);
    assert_eq!(found["memory_kernel_usage"], 70);
    assert_eq!(found["pressure_cpu_waiting_seconds_total"], 5);
    assert_eq!(found["pressure_cpu_stalled_seconds_total"], 0);
    assert!(!found.contains_key("pressure_io_waiting_seconds_total"));
}
