//! What one sandbox costs, from figures of two moments.

use crate::parts::{Parts, State};

/// CPU time and memory of one thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// CPU time since it began, in nanoseconds.
    pub cpu_ns: u64,
    /// Memory in bytes: the working set of a cgroup or container, the proportional share of a process.
    pub memory: u64,
}

impl Amount {
    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns.saturating_add(other.cpu_ns),
            memory: self.memory.saturating_add(other.memory),
        }
    }
}

/// What was read of one sandbox at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// When, in nanoseconds of a clock that only goes forward.
    pub at_ns: u64,
    /// Names the containers and processes that the figures are of; figures of others can't be compared.
    pub of: Vec<String>,
    /// The pod's cgroup with all below it.
    pub pod: Amount,
    /// The containers' own, as their runtime counts them: of a gVisor sandbox its sentry, of a VM its guest.
    pub containers: Amount,
    /// The pause container's cgroup.
    pub pause: Amount,
    /// Processes for this sandbox outside of the pod's cgroup: the shim and what it keeps.
    pub outside: Amount,
    /// The kernel's own for them, and what it keeps for the pod without charging its cgroup.
    pub kernel: u64,
    /// Whether the containers' processes are the host's own (runc), not those of a sandbox in between.
    pub shares_kernel: bool,
}

/// Two hundredths of a core, in millionths of a core.
const IDLE_BELOW: u64 = 20_000;

/// What a sandbox costs beyond its containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Idle or under load.
    pub state: State,
    /// Memory by parts, in bytes.
    pub memory: Parts,
    /// Processor by parts, in millionths of a core.
    pub cpu: Parts,
}

/// Why two readings give no cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skipped {
    /// The containers or processes are not the same.
    Changed,
    /// A counter went backwards, or no time has passed.
    Backwards,
}

/// The cost between two readings of one sandbox: memory as it is at the later one, CPU as a rate between both.
///
/// Under a kernel of its own (gVisor, a VM) the cost is all that the host counts, less what the containers use by the
/// count inside. Where the containers' processes are the host's own, it is the pause container and what is outside; what the
/// pod's cgroup has beyond its containers is then left over from containers that have ended (their tmpfs, their page cache),
/// and no overhead.
///
/// # Errors
/// When the two can't be compared. No cost is better than a wrong one.
pub fn cost(before: &Figures, now: &Figures) -> Result<Cost, Skipped> {
    if before.of != now.of || before.shares_kernel != now.shares_kernel {
        return Err(Skipped::Changed);
    }
    let passed = now.at_ns.checked_sub(before.at_ns).filter(|ns| *ns > 0);
    let passed = passed.ok_or(Skipped::Backwards)?;
    let used = |of: fn(&Figures) -> u64| {
        let more = of(now).checked_sub(of(before)).ok_or(Skipped::Backwards)?;
        let rate = u128::from(more) * 1_000_000 / u128::from(passed);
        u64::try_from(rate).map_err(|_| Skipped::Backwards)
    };
    let pod = used(|f| f.pod.cpu_ns)?;
    let containers = used(|f| f.containers.cpu_ns)?;
    let pause = used(|f| f.pause.cpu_ns)?;
    let outside = used(|f| f.outside.cpu_ns)?;
    let split = |pod: u64, containers: u64, pause: u64, outside: u64, kernel: u64| {
        if now.shares_kernel {
            return Parts {
                shim: outside,
                pause,
                sandbox: 0,
                kernel,
            };
        }
        // A monitor may run beside the pod's cgroup: then the containers' own is in what is outside.
        let all = pod.saturating_add(outside).saturating_sub(containers);
        let shim = outside.min(all);
        Parts {
            shim,
            pause: 0,
            sandbox: all - shim,
            kernel,
        }
    };
    Ok(Cost {
        state: if containers < IDLE_BELOW {
            State::Idle
        } else {
            State::Load
        },
        memory: split(
            now.pod.memory,
            now.containers.memory,
            now.pause.memory,
            now.outside.memory,
            now.kernel,
        ),
        cpu: split(pod, containers, pause, outside, 0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const SECOND: u64 = 1_000_000_000;

    fn amount(cpu_ms: u64, mib: u64) -> Amount {
        Amount {
            cpu_ns: cpu_ms * 1_000_000,
            memory: mib * MIB,
        }
    }

    fn figures(at: u64) -> Figures {
        Figures {
            at_ns: at * SECOND,
            of: vec!["a".to_owned()],
            ..Figures::default()
        }
    }

    #[test]
    fn of_a_sandbox_it_is_what_the_host_counts_less_what_the_guest_does() {
        let before = Figures {
            pod: amount(1000, 90),
            containers: amount(100, 20),
            outside: amount(10, 3),
            ..figures(10)
        };
        let now = Figures {
            pod: amount(4000, 100),
            containers: amount(2100, 30),
            outside: amount(510, 4),
            kernel: 5,
            ..figures(20)
        };
        let found = cost(&before, &now).unwrap();
        assert_eq!(found.state, State::Load);
        let memory = Parts {
            shim: 4 * MIB,
            pause: 0,
            sandbox: 70 * MIB,
            kernel: 5,
        };
        assert_eq!(found.memory, memory);
        // 3.0 s by the cgroup, 2.0 s in the containers, 0.5 s outside, in 10 s.
        assert_eq!((found.cpu.sandbox, found.cpu.shim), (100_000, 50_000));
    }

    #[test]
    fn a_monitor_beside_the_pods_cgroup_counts_less_its_guest() {
        let now = Figures {
            pod: amount(0, 1),
            containers: amount(0, 100),
            outside: amount(0, 250),
            ..figures(2)
        };
        let before = Figures {
            at_ns: SECOND,
            ..now.clone()
        };
        let found = cost(&before, &now).unwrap();
        assert_eq!(found.memory.total(), 151 * MIB);
        assert_eq!(found.state, State::Idle);
    }

    #[test]
    fn a_guest_that_claims_more_than_there_is_costs_nothing_and_no_less() {
        let now = Figures {
            pod: amount(0, 50),
            containers: Amount {
                cpu_ns: 0,
                memory: u64::MAX,
            },
            outside: amount(0, 3),
            ..figures(2)
        };
        let before = Figures {
            at_ns: SECOND,
            ..now.clone()
        };
        assert_eq!(cost(&before, &now).unwrap().memory.total(), 0);
    }

    #[test]
    fn on_the_hosts_kernel_what_containers_left_behind_is_no_overhead() {
        let of = |at| Figures {
            pod: amount(5000, 900),
            containers: amount(0, 10),
            pause: amount(0, 1),
            outside: amount(0, 2),
            shares_kernel: true,
            ..figures(at)
        };
        let found = cost(&of(1), &of(2)).unwrap();
        assert_eq!(found.memory.total(), 3 * MIB);
        assert_eq!(found.memory.pause, MIB);
    }

    #[test]
    fn what_cannot_be_compared_is_left_out() {
        let now = Figures {
            pod: amount(10, 0),
            ..figures(2)
        };
        let back = Figures {
            pod: amount(11, 0),
            ..figures(1)
        };
        assert_eq!(cost(&back, &now), Err(Skipped::Backwards));
        assert_eq!(cost(&now, &now.clone()).unwrap_err(), Skipped::Backwards);
        let other = Figures {
            of: vec!["b".to_owned()],
            ..figures(1)
        };
        assert_eq!(cost(&other, &now), Err(Skipped::Changed));
        let guest = Figures {
            shares_kernel: true,
            ..figures(1)
        };
        assert_eq!(cost(&guest, &now), Err(Skipped::Changed));
    }
}
