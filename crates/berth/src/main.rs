//! `berth`: the command line. Each role is a subcommand.
//!
//! `berth shim` is decided on before anything else is set up: it forks, there is one for every pod,
//! and it has to stay small.

mod cli;
mod data_dir;
mod dirs;
mod kubeconfig;
mod logging;
mod memory;
mod net;
mod pki;
mod reset;
mod role;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == "shim") {
        return berth_shim::server::main(arguments.collect());
    }
    cli::main()
}
