//! Whether what a class declares is near what was measured.
//!
//! ```text
//!              more than twice, or less than half
//!   agrees  ------------------------------------->  differs
//!           <-------------------------------------
//!              at most one and a half times
//! ```
//!
//! In between it stays as it was, so that a class at the edge is not reported again and again.

use crate::report::{ClassReport, StateReport};

/// Fewer measurements than this say nothing.
const MIN_SAMPLES: u64 = 30;
/// Differences below these are of no account: 8 MiB, and a hundredth of a core.
const MEMORY_FLOOR: u64 = 8 << 20;
const CPU_FLOOR: u64 = 10_000;

/// What the class' `overhead.podFixed` says; 0 where it says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// Bytes.
    pub memory: u64,
    /// Millionths of a core.
    pub cpu: u64,
}

/// Which way a declared amount is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Pods cost more than they are counted with: nodes are filled beyond what they have.
    TooLittle,
    /// Pods are counted with more than they cost: room stays empty.
    TooMuch,
}

/// Of one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Which way it is off; none: it agrees.
    pub off: Option<Direction>,
    /// What was measured: the 99th percentile.
    pub measured: u64,
    /// What is declared.
    pub declared: u64,
}

/// Of memory and processor; none where there is too little evidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// In bytes.
    pub memory: Option<Verdict>,
    /// In millionths of a core.
    pub cpu: Option<Verdict>,
}

impl Verdicts {
    /// Whether one of them is off.
    #[must_use]
    pub fn differ(&self) -> bool {
        let off = |verdict: Option<Verdict>| verdict.is_some_and(|v| v.off.is_some());
        off(self.memory) || off(self.cpu)
    }
}

/// Compares a report of one node with what the class declares. `differed`: they did when they were compared last.
///
/// Memory is compared with the larger 99th percentile of idle and load. The processor is compared only when there were
/// measurements under load: what a sandbox needs while nothing goes on says little of what it has to be counted with.
#[must_use]
pub fn judge(declared: Declared, report: &ClassReport, differed: bool) -> Verdicts {
    let enough = |state: &StateReport| state.samples >= MIN_SAMPLES;
    let states = [&report.idle, &report.load].into_iter();
    let memory = states
        .filter(|s| enough(s))
        .map(|s| s.memory_bytes.p99)
        .max();
    let cpu = enough(&report.load).then_some(report.load.cpu_micro_cores.p99);
    Verdicts {
        memory: memory.map(|measured| one(declared.memory, measured, MEMORY_FLOOR, differed)),
        cpu: cpu.map(|measured| one(declared.cpu, measured, CPU_FLOOR, differed)),
    }
}

fn one(declared: u64, measured: u64, floor: u64, differed: bool) -> Verdict {
    let (small, large) = (declared.min(measured), declared.max(measured));
    // Halves: two times, or one and a half.
    let halves = if differed { 3 } else { 4 };
    let far = u128::from(large) * 2 > u128::from(small) * halves;
    let off = (far && large - small > floor).then_some(if declared < measured {
        Direction::TooLittle
    } else {
        Direction::TooMuch
    });
    Verdict {
        off,
        measured,
        declared,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Quantiles;

    const MIB: u64 = 1 << 20;

    fn report(idle: (u64, u64), load: (u64, u64, u64)) -> ClassReport {
        let of = |samples, memory, cpu| StateReport {
            samples,
            memory_bytes: Quantiles {
                p99: memory,
                ..Quantiles::default()
            },
            cpu_micro_cores: Quantiles {
                p99: cpu,
                ..Quantiles::default()
            },
            ..StateReport::default()
        };
        ClassReport {
            idle: of(idle.0, idle.1 * MIB, 0),
            load: of(load.0, load.1 * MIB, load.2),
            ..ClassReport::default()
        }
    }

    fn memory(declared: u64, measured: u64, differed: bool) -> Option<Direction> {
        let declared = Declared {
            memory: declared * MIB,
            cpu: 0,
        };
        let found = judge(declared, &report((30, measured), (0, 0, 0)), differed);
        found.memory.unwrap().off
    }

    #[test]
    fn it_differs_beyond_twice_and_agrees_again_within_one_and_a_half() {
        use Direction::{TooLittle, TooMuch};
        for (declared, measured, before, after) in [
            (40, 80, false, None),
            (40, 81, false, Some(TooLittle)),
            (40, 61, true, Some(TooLittle)),
            (40, 60, true, None),
            (100, 50, false, None),
            (100, 49, false, Some(TooMuch)),
            (100, 66, true, Some(TooMuch)),
            (100, 67, true, None),
            // Nothing declared is twice too little at once, but not for what is of no account.
            (0, 9, false, Some(TooLittle)),
            (0, 8, false, None),
            (10, 2, true, None),
        ] {
            let found = memory(declared, measured, before);
            assert_eq!(found, after, "{declared} {measured} {before}");
        }
    }

    #[test]
    fn a_figure_at_the_edge_is_told_of_once() {
        let mut differed = false;
        let mut changes = 0;
        for step in 0..1000_u64 {
            let measured = 79 + step % 5;
            let now = memory(40, measured, differed).is_some();
            changes += u64::from(now != differed);
            differed = now;
        }
        assert_eq!((changes, differed), (1, true));
    }

    #[test]
    fn little_evidence_says_nothing_and_idle_ones_nothing_of_the_processor() {
        let declared = Declared {
            memory: MIB,
            cpu: 250_000,
        };
        let none = judge(declared, &report((29, 500), (29, 500, 9)), false);
        assert_eq!(none, Verdicts::default());
        assert!(!none.differ());
        let idle = judge(declared, &report((500, 1), (29, 0, 9)), false);
        assert!(idle.memory.is_some() && idle.cpu.is_none());
        let load = judge(declared, &report((0, 0), (30, 1, 9)), false);
        assert_eq!(load.cpu.unwrap().off, Some(Direction::TooMuch));
        assert!(load.differ());
        // Nothing overflows.
        let all = ClassReport {
            idle: StateReport {
                samples: u64::MAX,
                memory_bytes: Quantiles {
                    p99: u64::MAX,
                    ..Quantiles::default()
                },
                ..StateReport::default()
            },
            ..ClassReport::default()
        };
        assert!(judge(declared, &all, false).differ());
    }
}
