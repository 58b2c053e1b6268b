//! A containerd shim v2 of the test suite's own, which behaves as Kata Containers' runtime-rs does where that matters to
//! whoever drives it, and needs no virtual machine:
//!
//! - It serves `containerd.task.v2.Task` and `containerd.runtime.sandbox.v1.Sandbox`. `start` is answered with a bare
//!   address, for a pod's later containers with the sandbox's.
//! - With `TTRPC_ADDRESS` set it ends at its start when nothing listens there; without it, it publishes no events.
//! - Its mount namespace is its own and private: what is mounted on the host later does not exist for it. It mounts the
//!   root file systems that `Create` brings, and takes a relative `root.path` against its own working directory.
//! - Its "VMM" is a process that is PID 1 of a PID namespace in which runc runs the containers: they end with it. All
//!   containers have its PID. When the shim is killed, the VMM, a "virtiofsd" and a directory stay; `delete` answers 137
//!   and leaves them.
//! - `Kill` of an exec with `all` kills the whole container.
//! - A container whose spec has a PID namespace by path is in the guest's, any other one in its own.
//! - `Stats` gives figures of the guest's that are the same for all containers ([`figures`]).
//!
//! `BERTH_TESTVM_DIR` names the directory for all of its files, which tests read and write:
//!
//! | path | what it is |
//! |---|---|
//! | `calls` | one line of JSON for each call, also of `start` and `delete` (with the environment) |
//! | `record/ID.json` | what `Create` or `CreateSandbox` brought: annotations, spec, root file system, options |
//! | `shared/sandboxes/ID` | what Kata keeps in /run/kata-containers/shared/sandboxes/ID |
//! | `oom/ID` | made by a test: the shim publishes that container ID ran out of memory, and removes the file |
//! | `slow` | made by a test: `Create` and `StartSandbox` go on when it is gone, with the machine booted |
//! | `place` | made by a test: the VMM is put into the cgroup of the sandbox's spec whenever a container comes, changes or goes, as Kata does with `sandbox_cgroup_only = false`; `calls` has a `Place` then |
//! | `careless` | made by a test: `Shutdown` ends the shim before it has cleaned up, as Kata's does when it is told too early |
//! | `tap` | made by a test: a guest has a network of its own behind a tap device ([`network`]), and tries to connect to the address and port that the file names before it says that it has booted; `calls` has how that ended |
//! | `mute` | made by a test: `Wait` is not answered, so that ends are known by events alone |
//! | `s/` | sockets |

#![allow(clippy::expect_used)]

mod arguments;
mod cgroups;
mod console;
mod daemon;
mod figures;
mod guest;
mod journal;
mod message;
mod network;
mod pod;
mod process;
mod publisher;
mod rootfs;
mod sandbox;
mod start;
mod task;

use std::io::Write;
use std::process::ExitCode;

use arguments::Arguments;
use protobuf::Message;

/// The version that `--version` and `-info` tell.
const VERSION: &str = "4.1.0";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1).peekable();
    let done = match words.peek().map(String::as_str) {
        Some("vmm") => guest::vmm(words.any(|word| word == "-tap")),
        Some("virtiofsd") => guest::virtiofsd(),
        Some("inside") => guest::inside(words.skip(1).collect()),
        Some("signal") => guest::signal(words.skip(1).collect()),
        Some("--version") => {
            println!(
                "Test VM containerd shim (Rust): id: io.containerd.testvm.v2, version: {VERSION}, commit: none"
            );
            Ok(())
        }
        Some("-info") => info(),
        Some(_) | None => act(words.collect()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("containerd-shim-testvm-v2: {error}");
            ExitCode::FAILURE
        }
    }
}

fn act(words: Vec<String>) -> Result<(), String> {
    let arguments = Arguments::parse(words)?;
    match arguments.action.as_str() {
        "start" => start::start(&arguments),
        "delete" => start::delete(&arguments),
        "" => daemon::serve(arguments),
        other => Err(format!("unknown action {other:?}")),
    }
}

/// containerd's `RuntimeInfo`.
fn info() -> Result<(), String> {
    use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
    let info = RuntimeInfo {
        name: "io.containerd.testvm.v2".to_owned(),
        version: protobuf::MessageField::some(RuntimeVersion {
            version: VERSION.to_owned(),
            revision: "none".to_owned(),
            ..RuntimeVersion::default()
        }),
        ..RuntimeInfo::default()
    };
    let bytes = info.write_to_bytes().map_err(|e| e.to_string())?;
    std::io::stdout()
        .write_all(&bytes)
        .map_err(|e| e.to_string())
}
