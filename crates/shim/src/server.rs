//! `berth shim`: the supervisor of one pod's containers.

pub mod persist;

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs `berth shim ARGS`. Call it first thing in `main`, before any thread or tokio runtime exists: it forks.
#[must_use]
pub fn main(_args: Vec<OsString>) -> ExitCode {
    ExitCode::FAILURE
}
