//! The runtime inside berth by itself, for this crate's tests.

use std::process::ExitCode;

fn main() -> ExitCode {
    berth_runtime::main(std::env::args_os().skip(1).collect())
}
