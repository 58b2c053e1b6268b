//! What `overhead.podFixed` would have to be.

use berth_api::quantity::{Format, Quantity};
use serde::Serialize;

use crate::report::ClassReport;

const MIB: u64 = 1 << 20;

/// Proposed amounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Proposal {
    /// Bytes, a multiple of 1 MiB.
    pub memory_bytes: u64,
    /// Thousandths of a core.
    pub cpu_milli: u64,
}

impl Proposal {
    /// Memory as Kubernetes writes it.
    #[must_use]
    pub fn memory(&self) -> String {
        let bytes = i64::try_from(self.memory_bytes).unwrap_or(i64::MAX);
        Quantity::new(bytes, Format::BinarySi).to_string()
    }

    /// The processor as Kubernetes writes it.
    #[must_use]
    pub fn cpu(&self) -> String {
        let milli = i64::try_from(self.cpu_milli).unwrap_or(i64::MAX);
        Quantity::from_milli(milli).to_string()
    }
}

/// What covers 99 of a hundred measurements, idle and under load; `None` without a measurement.
///
/// Memory is rounded up to whole MiB, the processor to thousandths of a core, and neither is less than one of these. No reserve
/// is added: whoever wants one adds it.
#[must_use]
pub fn propose(report: &ClassReport) -> Option<Proposal> {
    let states = [&report.idle, &report.load];
    if states.iter().all(|state| state.samples == 0) {
        return None;
    }
    let memory = states.iter().map(|state| state.memory_bytes.p99).max()?;
    let cpu = states.iter().map(|state| state.cpu_micro_cores.p99).max()?;
    Some(Proposal {
        memory_bytes: memory.div_ceil(MIB).max(1).saturating_mul(MIB),
        cpu_milli: cpu.div_ceil(1000).max(1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Quantiles, StateReport};

    fn state(samples: u64, memory: u64, cpu: u64) -> StateReport {
        let of = |p99| Quantiles {
            p50: 1,
            p99,
            max: u64::MAX,
        };
        StateReport {
            samples,
            memory_bytes: of(memory),
            cpu_micro_cores: of(cpu),
            ..StateReport::default()
        }
    }

    #[test]
    fn the_larger_of_idle_and_load_is_rounded_up() {
        let report = ClassReport {
            idle: state(5, 40 * MIB + 1, 2),
            load: state(5, 30 * MIB, 12_001),
            ..ClassReport::default()
        };
        let proposal = propose(&report).unwrap();
        assert_eq!(
            (proposal.memory(), proposal.cpu()),
            ("41Mi".to_owned(), "13m".to_owned())
        );
    }

    #[test]
    fn without_a_measurement_nothing_is_proposed_and_never_zero() {
        assert_eq!(propose(&ClassReport::default()), None);
        let report = ClassReport {
            idle: state(1, 0, 0),
            ..ClassReport::default()
        };
        let proposal = propose(&report).unwrap();
        assert_eq!(
            (proposal.memory(), proposal.cpu()),
            ("1Mi".to_owned(), "1m".to_owned())
        );
    }
}
