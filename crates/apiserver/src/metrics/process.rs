//! What the process uses, under the names that all of Prometheus' clients have.

use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::{MetricType, TypedMetric};

/// A tick is 10 ms on every Linux that Kubernetes runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads `/proc/self` when it is asked.
#[derive(Debug)]
pub(super) struct Process;

/// What `/proc/self` says.
#[derive(Debug, Default, PartialEq)]
struct Numbers {
    cpu_seconds: f64,
    start_seconds: f64,
    resident_bytes: f64,
    virtual_bytes: f64,
    open_fds: f64,
    max_fds: f64,
}

impl Numbers {
    fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let fds = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        Self {
            // Without the one that counts.
            open_fds: number(&fds.saturating_sub(1).to_string()),
            ..Self::of(
                &text("/proc/self/stat"),
                &text("/proc/self/status"),
                &text("/proc/self/limits"),
                &text("/proc/stat"),
            )
        }
    }

    fn of(stat: &str, status: &str, limits: &str, machine: &str) -> Self {
        // The name of the program, in parentheses, may have spaces and parentheses in it.
        let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let fields: Vec<&str> = rest.split(' ').collect();
        let field = |at: usize| number(fields.get(at).copied().unwrap_or_default());
        let kib = |key: &str| 1024.0 * number(after(status, key));
        Self {
            cpu_seconds: (field(11) + field(12)) / TICKS_PER_SECOND,
            start_seconds: number(after(machine, "btime ")) + field(19) / TICKS_PER_SECOND,
            resident_bytes: kib("VmRSS:"),
            virtual_bytes: kib("VmSize:"),
            open_fds: 0.0,
            max_fds: number(after(limits, "Max open files")),
        }
    }
}

/// The first word after a key at the beginning of a line.
fn after<'a>(text: &'a str, key: &str) -> &'a str {
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let mut words = line.unwrap_or_default().split_whitespace();
    words.next().unwrap_or_default()
}

fn number(text: &str) -> f64 {
    text.parse().unwrap_or(0.0)
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let numbers = Numbers::read();
        let mut put = |name, help, metric: &dyn EncodeMetric, kind: MetricType| {
            let descriptor = encoder.encode_descriptor(name, help, None, kind)?;
            metric.encode(descriptor)
        };
        put(
            "process_cpu_seconds",
            "Total user and system CPU time spent in seconds",
            &ConstCounter::new(numbers.cpu_seconds),
            ConstCounter::<f64>::TYPE,
        )?;
        for (name, help, value) in [
            (
                "process_start_time_seconds",
                "Start time of the process since unix epoch in seconds",
                numbers.start_seconds,
            ),
            (
                "process_resident_memory_bytes",
                "Resident memory size in bytes",
                numbers.resident_bytes,
            ),
            (
                "process_virtual_memory_bytes",
                "Virtual memory size in bytes",
                numbers.virtual_bytes,
            ),
            (
                "process_open_fds",
                "Number of open file descriptors",
                numbers.open_fds,
            ),
            (
                "process_max_fds",
                "Maximum number of open file descriptors",
                numbers.max_fds,
            ),
        ] {
            put(name, help, &ConstGauge::new(value), ConstGauge::<f64>::TYPE)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_proc_are_read() {
        let stat =
            "7 (be) rth (x) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 1234 4096 25 1844 1";
        let numbers = Numbers::of(
            stat,
            "Name:\tberth\nVmSize:\t  2048 kB\nVmRSS:\t   100 kB\n",
            "Limit                     Soft Limit           Hard Limit\nMax open files            1024                 4096                 files\n",
            "cpu 1 2 3\nbtime 1700000000\n",
        );
        assert_eq!(
            numbers,
            Numbers {
                cpu_seconds: 3.0,
                start_seconds: 1_700_000_012.34,
                resident_bytes: 102_400.0,
                virtual_bytes: 2_097_152.0,
                open_fds: 0.0,
                max_fds: 1024.0,
            }
        );
        let own = Numbers::read();
        assert!(
            own.resident_bytes > 1e6 && own.open_fds > 2.0 && own.max_fds > 2.0,
            "{own:?}"
        );
    }
}
