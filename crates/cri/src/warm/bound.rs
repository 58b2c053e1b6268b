//! How much memory virtual machines may have that wait for no pod yet.
//!
//! Users choose their pods' limits, also beyond what the machine has, and what waits next is as large as the last ones that were
//! asked for. A guest's kernel uses a part of its memory to keep account of all of it, and a monitor may take all at once
//! (huge pages); while it waits nobody is charged for that, and no kubelet can evict it. Machines without a limit have what the
//! handler's configuration gives them: how many of those wait is the administrator's choice. Other sandboxes only show a limit.

use std::sync::OnceLock;

use berth_oci::runtime::RuntimeKind;

use super::pool::Size;

/// The part of the machine's memory that all virtual machines together may have that wait with a limit of a pod's.
const PART: u64 = 8;

/// How many bytes those of this machine may have.
pub(super) fn memory_limit() -> u64 {
    static MACHINE: OnceLock<u64> = OnceLock::new();
    let machine = MACHINE.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        // Where that can't be read, only those without a limit wait.
        total(&text).unwrap_or(0)
    });
    *machine / PART
}

/// Bytes that a sandbox which waits counts for.
pub(super) fn memory(kind: RuntimeKind, size: Size) -> u64 {
    match kind {
        RuntimeKind::Vm => u64::try_from(size.memory).unwrap_or(u64::MAX),
        RuntimeKind::Runsc
        | RuntimeKind::Runc
        | RuntimeKind::Crun
        | RuntimeKind::Youki
        | RuntimeKind::Berth
        | RuntimeKind::Other => 0,
    }
}

/// The machine's memory in bytes, of `/proc/meminfo`.
fn total(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_machines_limit_counts_and_no_other_sandboxes() {
        let of = |memory| Size {
            memory,
            ..Size::default()
        };
        for (kind, size, counts) in [
            (RuntimeKind::Vm, 0, 0),
            (RuntimeKind::Vm, 1 << 30, 1 << 30),
            (RuntimeKind::Vm, -1, u64::MAX),
            (RuntimeKind::Runsc, i64::MAX, 0),
        ] {
            assert_eq!(memory(kind, of(size)), counts, "{kind:?} {size}");
        }
    }

    #[test]
    fn the_machines_memory_is_read() {
        let text = "MemTotal:       16000000 kB\nMemFree:         1000000 kB\n";
        assert_eq!(total(text), Some(16_384_000_000));
        assert_eq!(total("MemTotal: many kB\n"), None);
    }
}
