//! Samples of a container in a virtual machine or in gVisor, which the host's kernel does not see: the shim is asked for its
//! figures.

use std::time::Duration;

use berth_shim::client::Stats;

use super::{Sample, process};
use crate::container::Container;
use crate::engine::Engine;
use crate::record::ContainerRecord;

/// How long a guest may take to name its processes.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the shim says of a container.
#[derive(Debug, Default)]
pub(super) struct Figures {
    stats: Stats,
    /// Processes of the host: the virtual machine's monitor.
    pids: Vec<u32>,
}

/// Asks the shim of a container; `None` when it has never said anything.
pub(super) async fn ask(engine: &Engine, container: &Container) -> Option<Figures> {
    let sandbox = engine.sandboxes.get(&container.record().sandbox_id).ok()?;
    let shim = sandbox.shim().ok()?;
    let (stats, pids) = tokio::join!(
        container.asked.stats(&shim, &container.id),
        tokio::time::timeout(PATIENCE, shim.pids(&container.id)),
    );
    Some(Figures {
        stats: stats?.stats,
        pids: pids.ok().and_then(Result::ok).unwrap_or_default(),
    })
}

/// A metric: its name, its last labels, and where it is among the figures.
type Row = (
    &'static str,
    &'static [&'static str],
    fn(&Stats) -> Option<u64>,
);

fn seconds(nanoseconds: Option<u64>) -> Option<u64> {
    Some(nanoseconds? / 1_000_000_000)
}

/// Those with a limit that may not be there: then it is the largest number there is.
fn unlimited(limit: Option<u64>, there: Option<u64>) -> Option<u64> {
    there.and(limit.or(Some(u64::MAX)))
}

#[rustfmt::skip]
const ROWS: &[Row] = &[
    ("container_cpu_usage_seconds_total", &[], |s| seconds(s.cpu_usage_ns)),
    ("container_cpu_user_seconds_total", &[], |s| seconds(s.cpu_user_ns)),
    ("container_cpu_system_seconds_total", &[], |s| seconds(s.cpu_system_ns)),
    ("container_cpu_cfs_periods_total", &[], |s| s.cpu_periods),
    ("container_cpu_cfs_throttled_periods_total", &[], |s| s.cpu_throttled_periods),
    ("container_cpu_cfs_throttled_seconds_total", &[], |s| seconds(s.cpu_throttled_ns)),
    ("container_memory_usage_bytes", &[], |s| s.memory_usage),
    ("container_memory_working_set_bytes", &[], |s| s.memory_working_set),
    ("container_memory_max_usage_bytes", &[], |s| s.memory_max_usage),
    ("container_memory_failcnt", &[], |s| s.memory_failcnt),
    ("container_memory_kernel_usage", &[], |s| s.memory_kernel),
    ("container_memory_cache", &[], |s| s.memory_cache),
    ("container_memory_rss", &[], |s| s.memory_rss),
    ("container_memory_mapped_file", &[], |s| s.memory_mapped_file),
    ("container_memory_swap", &[], |s| s.swap_usage),
    ("container_memory_failures_total", &["pgfault", "container"], |s| s.page_faults),
    ("container_memory_failures_total", &["pgmajfault", "container"], |s| s.major_page_faults),
    // A guest counts tasks, threads among them.
    ("container_processes", &[], |s| s.pids),
    ("container_threads", &[], |s| s.pids),
    ("container_threads_max", &[], |s| unlimited(s.pids_limit, s.pids)),
];

/// The samples of a container, by what the shim says and by the limits that it was given; `oom_events` is how often its shim
/// has published that memory ran out.
pub(super) fn samples(figures: &Figures, record: &ContainerRecord, oom_events: u64) -> Vec<Sample> {
    let owned = |labels: &[&str]| labels.iter().map(|label| (*label).to_owned()).collect();
    let rows = ROWS.iter().filter_map(|(name, labels, figure)| {
        let value = figure(&figures.stats)?;
        Some((*name, owned(labels), value))
    });
    let mut samples: Vec<Sample> = rows.collect();
    samples.extend(process::open_files(&figures.pids));
    // Not all shims count, and a server forgets what its predecessor has counted.
    let noted = oom_events.max(u64::from(record.oom_killed));
    let kills = figures.stats.oom_kills.unwrap_or(0).max(noted);
    samples.push(("container_oom_events_total", Vec::new(), kills));
    let linux = record.config.0.linux.clone().unwrap_or_default();
    let limits = linux.resources.unwrap_or_default();
    for (name, limit) in [
        ("container_spec_cpu_period", limits.cpu_period),
        ("container_spec_cpu_quota", limits.cpu_quota),
        ("container_spec_cpu_shares", limits.cpu_shares),
        (
            "container_spec_memory_limit_bytes",
            limits.memory_limit_in_bytes,
        ),
        (
            "container_spec_memory_swap_limit_bytes",
            limits.memory_swap_limit_in_bytes,
        ),
    ] {
        // None, or -1 for no limit.
        if let Ok(limit @ 1..) = u64::try_from(limit) {
            samples.push((name, Vec::new(), limit));
        }
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_descriptor_and_its_labels() {
        for (name, labels, _) in ROWS {
            let descriptor = super::super::DESCRIPTORS
                .iter()
                .find(|descriptor| descriptor.name == *name);
            let descriptor = descriptor.unwrap_or_else(|| panic!("{name} has no descriptor"));
            assert_eq!(descriptor.labels.len(), labels.len(), "{name}");
        }
    }

    #[test]
    fn what_was_not_measured_is_no_sample() {
        let none = Stats::default();
        assert!(ROWS.iter().all(|(_, _, figure)| figure(&none).is_none()));
        let unlimited = Stats {
            pids: Some(1),
            ..none
        };
        let limits = ROWS.iter().filter(|row| row.0 == "container_threads_max");
        let limits: Vec<_> = limits.map(|(_, _, figure)| figure(&unlimited)).collect();
        assert_eq!(limits, [Some(u64::MAX)]);
    }
}
