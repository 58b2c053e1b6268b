//! What containerd says of its handlers: its configuration.

use std::path::Path;

use berth_core::isolation::{Isolation, by_name};

/// What a handler of containerd's is, by its configuration; none of what is not known.
pub(super) fn isolation(runtime_type: &str, binary: &str) -> Option<Isolation> {
    let file = Path::new(binary).file_name().unwrap_or_default();
    let file = file.to_string_lossy();
    // `io.containerd.NAME.VERSION` runs `containerd-shim-NAME-VERSION`; a path says it by itself.
    let word = |text: &str, separator: char| {
        let mut words = text.split(separator);
        words.nth(2).unwrap_or_default().to_owned()
    };
    let shim = match file.strip_prefix("containerd-shim-") {
        Some(_) => word(&file, '-'),
        None => word(runtime_type, '.'),
    };
    match shim.as_str() {
        "runc" if file.starts_with("runsc") => Some(Isolation::Sandbox),
        "runc" if file.is_empty() || file.contains("containerd") => Some(Isolation::Process),
        "runc"
            if ["runc", "crun", "youki", "nvidia-container-runtime"]
                .iter()
                .any(|known| file.starts_with(known)) =>
        {
            Some(Isolation::Process)
        }
        // Another runtime behind runc's shim.
        "runc" => None,
        "runsc" => Some(Isolation::Sandbox),
        name if name == "kata" || name.starts_with("kata-") => Some(Isolation::Vm),
        name => by_name(name).filter(|level| *level == Isolation::Process),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_containerd_is_configured_with() {
        for (runtime_type, binary, want) in [
            ("io.containerd.runc.v2", "", Some(Isolation::Process)),
            (
                "io.containerd.runc.v2",
                "io.containerd.runc.v2",
                Some(Isolation::Process),
            ),
            (
                "io.containerd.runc.v2",
                "/usr/sbin/runc",
                Some(Isolation::Process),
            ),
            (
                "io.containerd.runc.v2",
                "/usr/bin/runsc",
                Some(Isolation::Sandbox),
            ),
            ("io.containerd.runc.v2", "/usr/bin/odd", None),
            (
                "io.containerd.runsc.v1",
                "io.containerd.runsc.v1",
                Some(Isolation::Sandbox),
            ),
            (
                "io.containerd.kata.v2",
                "/opt/kata/bin/containerd-shim-kata-v2",
                Some(Isolation::Vm),
            ),
            (
                "io.containerd.kata-qemu.v2",
                "io.containerd.kata-qemu.v2",
                Some(Isolation::Vm),
            ),
            // What is run counts, not what it is called.
            (
                "io.containerd.kata.v2",
                "/usr/bin/containerd-shim-runc-v2",
                Some(Isolation::Process),
            ),
            (
                "io.containerd.spin.v2",
                "io.containerd.spin.v2",
                Some(Isolation::Process),
            ),
            ("io.containerd.other.v1", "io.containerd.other.v1", None),
        ] {
            assert_eq!(
                isolation(runtime_type, binary),
                want,
                "{runtime_type} {binary}"
            );
        }
    }
}
