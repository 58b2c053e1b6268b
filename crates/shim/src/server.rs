//! `berth shim`: the supervisor of one pod's containers, containerd's shim v2.
//!
//! `start` binds the sockets, forks, prints the address and leaves; the child is the daemon: one thread, a
//! subreaper, in a session of its own. It ends by `Shutdown` only.
//!
//! `keep` starts a daemon that is no shim: the keeper of the streams of a pod whose shim is a stranger's ([`keeper`]).
//!
//! Tasks: the reaper (on SIGCHLD), ttrpc's (a listener, two a connection, one a call), the stream socket's
//! listener and two a client, the pumps of each process ([`io`]), and one a process that waits for its end.

mod args;
mod attach;
mod config;
mod console;
mod container;
pub(crate) mod daemon;
mod delete;
mod error;
mod io;
pub(crate) mod keeper;
mod kills;
mod metrics;
mod options;
pub mod persist;
mod process;
mod reaper;
mod rootfs;
mod runtime;
mod serve;
mod service;
mod stages;
mod start;
mod state;
mod tree;
mod trim;

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs `berth shim ARGS`. Call it first thing in `main`, before any thread or tokio runtime exists: it forks.
#[must_use]
pub fn main(args: Vec<OsString>) -> ExitCode {
    let result = args::parse(args)
        .map_err(error::Error::Invalid)
        .and_then(|args| match args.action {
            args::Action::Start => start::start(&args),
            args::Action::Delete => delete::delete(&args),
            args::Action::Keep => keeper::keep(&args),
        });
    match result {
        Ok(code) => code,
        Err(e) => {
            // Whoever started us shows this text to its user.
            use std::io::Write;
            let _ = writeln!(std::io::stderr(), "berth shim: {e}");
            ExitCode::FAILURE
        }
    }
}
