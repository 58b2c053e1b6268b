//! `berth`: the command line. Each role is a subcommand.
//!
//! `berth shim` and `berth oci` are decided on before anything else is set up: they fork, there is a shim for
//! every pod, which has to stay small, and the runtime runs for every container.

mod allocator;
mod bootstrap_token;
mod cli;
mod cluster_info;
mod collector;
mod connections;
mod data_dir;
mod dirs;
mod election;
mod installer;
mod join;
mod kubeconfig;
mod logging;
mod memory;
mod net;
mod pki;
mod process_list;
mod reset;
mod role;
mod service_manager;

use std::ffi::OsStr;
use std::process::ExitCode;

/// The name under which containerd starts it as a shim (`runtime_type`).
const SHIM: &str = "containerd-shim-berth-v2";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let program = arguments.next().map(std::path::PathBuf::from);
    if program.is_some_and(|program| program.file_name() == Some(OsStr::new(SHIM))) {
        let arguments: Vec<_> = arguments.collect();
        return berth_shim::publish::main(&arguments)
            .unwrap_or_else(|| berth_shim::server::main(arguments));
    }
    match arguments.next().as_deref().and_then(OsStr::to_str) {
        Some("shim") => return berth_shim::server::main(arguments.collect()),
        Some(berth_runtime::SUBCOMMAND) => return berth_runtime::main(arguments.collect()),
        _ => {}
    }
    // What is given to shims as containerd's binary.
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some(code) = berth_shim::publish::main(&arguments) {
        return code;
    }
    cli::main()
}
