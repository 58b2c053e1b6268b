//! `machine_*`: what the machine has.

use super::super::exposition::{Exposition, Kind};
use crate::machine::Machine;

pub(super) fn add(out: &mut Exposition, machine: &Machine) {
    let labels = [
        ("boot_id", machine.boot_id.as_str()),
        ("machine_id", machine.machine_id.as_str()),
        ("system_uuid", machine.system_uuid.as_str()),
    ];
    let (cores, sockets) = topology(&std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default());
    for (name, help, value) in [
        (
            "machine_cpu_cores",
            "Logical processors",
            Some(machine.cpus),
        ),
        ("machine_cpu_physical_cores", "Cores", cores),
        ("machine_cpu_sockets", "Sockets", sockets),
        (
            "machine_memory_bytes",
            "Memory in bytes",
            Some(machine.memory_bytes),
        ),
        (
            "machine_swap_bytes",
            "Swap in bytes",
            Some(machine.swap_bytes),
        ),
    ] {
        if let Some(value) = value {
            out.family(name, help, Kind::Gauge).add(&labels, value);
        }
    }
    let version = [
        ("cadvisorRevision", ""),
        ("cadvisorVersion", ""),
        ("dockerVersion", ""),
        ("kernelVersion", machine.kernel.as_str()),
        ("osVersion", machine.os_image.as_str()),
    ];
    let help = "Always 1, with the versions of kernel and OS";
    out.family("cadvisor_version_info", help, Kind::Gauge)
        .add(&version, 1);
    out.family(
        "machine_scrape_error",
        "Always 0: these are read at start",
        Kind::Gauge,
    )
    .add(&[], 0);
}

/// Cores and sockets, where the kernel tells which processor belongs to which.
fn topology(cpuinfo: &str) -> (Option<i64>, Option<i64>) {
    let mut cores = std::collections::BTreeSet::new();
    let mut sockets = std::collections::BTreeSet::new();
    for processor in cpuinfo.split("\n\n") {
        let of = |key: &str| {
            let line = processor.lines().find_map(|line| line.strip_prefix(key));
            Some(line?.trim_start().strip_prefix(':')?.trim().to_owned())
        };
        if let (Some(socket), Some(core)) = (of("physical id"), of("core id")) {
            cores.insert((socket.clone(), core));
            sockets.insert(socket);
        }
    }
    let count = |n: usize| i64::try_from(n).ok().filter(|n| *n > 0);
    (count(cores.len()), count(sockets.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_of_a_core_are_one_core() {
        let one = |socket, core| {
            format!("processor\t: 0\nphysical id\t: {socket}\ncore id\t\t: {core}\n")
        };
        let text = [one(0, 0), one(0, 0), one(0, 1), one(1, 0)].join("\n");
        assert_eq!(topology(&text), (Some(3), Some(2)));
        assert_eq!(topology("processor : 0\n"), (None, None));
    }
}
