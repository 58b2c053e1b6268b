//! berth's shim and the runtime inside berth, for this crate's tests: they run the server without berth's binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments
        .next_if(|first| first == berth_runtime::SUBCOMMAND)
        .is_some()
    {
        return berth_runtime::main(arguments.collect());
    }
    let arguments: Vec<_> = arguments.collect();
    berth_shim::publish::main(&arguments).unwrap_or_else(|| berth_shim::server::main(arguments))
}
