//! berth's shim alone, for this crate's tests: they run the server without berth's binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    berth_shim::server::main(std::env::args_os().skip(1).collect())
}
