//! How far a handler keeps pods apart from the node, by what it really is: `process`, `sandbox` or `vm`, in the words of the
//! namespaces' policy. What is said here binds this node, so what nobody knows is left out.

use std::path::Path;

use super::definition::{RuntimeDef, is_kata};
use super::table::{Handler, HandlerState};
use berth_oci::runtime::RuntimeKind;

const PROCESS: &str = "process";
const SANDBOX: &str = "sandbox";
const VM: &str = "vm";

/// Shims of runwasi: a container whose image holds no WebAssembly module is run as by runc, so that they are no stronger.
const WASM_SHIMS: [&str; 7] = [
    "spin", "wasmtime", "wasmedge", "wasmer", "slight", "wws", "lunatic",
];

impl Handler {
    /// How far it keeps pods apart from the node: `process`, `sandbox` or `vm`; `None` where nobody knows, or it can't run.
    #[must_use]
    pub fn isolation(&self) -> Option<&'static str> {
        let HandlerState::Usable { binary, kind, .. } = &self.state else {
            return None;
        };
        match &self.definition.runtime {
            RuntimeDef::Embedded { .. } => Some(PROCESS),
            RuntimeDef::Oci { .. } => of_kind((*kind)?, binary),
            RuntimeDef::Shim {
                runtime_binary, vm, ..
            } => of_shim(binary, runtime_binary.as_deref(), *vm),
        }
    }
}

fn of_kind(kind: RuntimeKind, binary: &Path) -> Option<&'static str> {
    match kind {
        RuntimeKind::Runc | RuntimeKind::Crun | RuntimeKind::Youki | RuntimeKind::Berth => {
            Some(PROCESS)
        }
        RuntimeKind::Runsc => Some(SANDBOX),
        RuntimeKind::Vm => Some(VM),
        // NVIDIA's calls runc.
        RuntimeKind::Other => name(binary)
            .starts_with("nvidia-container-runtime")
            .then_some(PROCESS),
    }
}

/// What a shim is called counts before what a configuration says of it: `vm` on runc's shim makes no virtual machine.
fn of_shim(binary: &Path, runtime: Option<&Path>, vm: bool) -> Option<&'static str> {
    let name = name(binary);
    let words = name.strip_prefix("containerd-shim-");
    match words.and_then(|words| words.split('-').next()) {
        Some("runc") => match runtime {
            None => Some(PROCESS),
            Some(runtime) => of_kind(RuntimeKind::from_name(runtime), runtime),
        },
        Some("runsc") => Some(SANDBOX),
        Some(wasm) if WASM_SHIMS.contains(&wasm) => Some(PROCESS),
        Some(_) | None if is_kata(binary) => Some(VM),
        Some(_) | None => vm.then_some(VM),
    }
}

fn name(binary: &Path) -> String {
    let name = binary.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shim_is() {
        for (binary, runtime, vm, want) in [
            (
                "/usr/bin/containerd-shim-runc-v2",
                None,
                false,
                Some(PROCESS),
            ),
            (
                "/usr/bin/containerd-shim-runc-v2",
                None,
                true,
                Some(PROCESS),
            ),
            (
                "/usr/bin/containerd-shim-runc-v2",
                Some("/usr/bin/crun"),
                false,
                Some(PROCESS),
            ),
            (
                "/usr/bin/containerd-shim-runc-v2",
                Some("/usr/bin/runsc"),
                false,
                Some(SANDBOX),
            ),
            (
                "/usr/bin/containerd-shim-runc-v2",
                Some("/usr/bin/nvidia-container-runtime.cdi"),
                false,
                Some(PROCESS),
            ),
            (
                "/usr/bin/containerd-shim-runc-v2",
                Some("/opt/odd"),
                true,
                None,
            ),
            (
                "/usr/bin/containerd-shim-runsc-v1",
                None,
                false,
                Some(SANDBOX),
            ),
            (
                "/opt/kata/bin/containerd-shim-kata-v2",
                None,
                true,
                Some(VM),
            ),
            (
                "/opt/kata/bin/containerd-shim-kata-qemu-v2",
                None,
                false,
                Some(VM),
            ),
            (
                "/usr/bin/containerd-shim-spin-v2",
                None,
                false,
                Some(PROCESS),
            ),
            (
                "/usr/bin/containerd-shim-spin-v2",
                None,
                true,
                Some(PROCESS),
            ),
            (
                "/usr/bin/containerd-shim-aws-firecracker",
                None,
                true,
                Some(VM),
            ),
            (
                "/usr/bin/containerd-shim-aws-firecracker",
                None,
                false,
                None,
            ),
            ("/usr/bin/shim", None, false, None),
        ] {
            let got = of_shim(Path::new(binary), runtime.map(Path::new), vm);
            assert_eq!(got, want, "{binary} {runtime:?} {vm}");
        }
    }

    #[test]
    fn what_a_runtime_is() {
        for (kind, binary, want) in [
            (RuntimeKind::Runc, "runc", Some(PROCESS)),
            (RuntimeKind::Berth, "berth", Some(PROCESS)),
            (RuntimeKind::Runsc, "runsc", Some(SANDBOX)),
            (
                RuntimeKind::Other,
                "/usr/bin/nvidia-container-runtime",
                Some(PROCESS),
            ),
            (RuntimeKind::Other, "/usr/bin/odd", None),
        ] {
            assert_eq!(of_kind(kind, Path::new(binary)), want, "{binary}");
        }
    }
}
