//! One process: a container's first one, or an exec.
//!
//! ```text
//! Registered --create--> Created --start--> Running --> Exited
//!      \--------------------------(exec: start)----/
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use containerd_shim_protos::types::task::Status as WireStatus;
use rustix::process::{Pid, Signal};
use tokio::sync::watch;

use super::error::Error;
use super::io::Io;
use crate::client::Exit;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// An exec that was not started.
    Registered,
    /// A container that was created.
    Created,
    Running,
    Paused,
    Exited(Exit),
}

impl Phase {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Exited(_) => "stopped",
        }
    }

    pub(super) fn wire(self) -> WireStatus {
        match self {
            Self::Registered | Self::Created => WireStatus::CREATED,
            Self::Running => WireStatus::RUNNING,
            Self::Paused => WireStatus::PAUSED,
            Self::Exited(_) => WireStatus::STOPPED,
        }
    }
}

/// The strings of the request that made it, for `State`.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) stdin: String,
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) terminal: bool,
}

#[derive(Debug)]
pub(super) struct Process {
    pub(super) fields: Fields,
    pub(super) io: Arc<Io>,
    /// Host pid; 0 before it is known.
    pid: AtomicI32,
    /// gVisor's pid within the sandbox, of an exec.
    internal: AtomicI32,
    phase: watch::Sender<Phase>,
}

impl Process {
    pub(super) fn new(fields: Fields, io: Io, phase: Phase) -> Self {
        Self {
            fields,
            io: Arc::new(io),
            pid: AtomicI32::new(0),
            internal: AtomicI32::new(0),
            phase: watch::Sender::new(phase),
        }
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid.load(Ordering::Relaxed)
    }

    /// The pid as messages carry it.
    pub(super) fn wire_pid(&self) -> u32 {
        u32::try_from(self.pid()).unwrap_or(0)
    }

    pub(super) fn set_pid(&self, pid: i32) {
        self.pid.store(pid, Ordering::Relaxed);
    }

    pub(super) fn internal_pid(&self) -> i32 {
        self.internal.load(Ordering::Relaxed)
    }

    pub(super) fn set_internal_pid(&self, pid: i32) {
        self.internal.store(pid, Ordering::Relaxed);
    }

    pub(super) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Changes the phase, unless the process has ended meanwhile.
    pub(super) fn set_phase(&self, next: Phase) {
        self.phase.send_if_modified(|phase| {
            let open = !matches!(phase, Phase::Exited(_));
            if open {
                *phase = next;
            }
            open
        });
    }

    pub(super) async fn wait(&self) -> Exit {
        let mut phases = self.phase.subscribe();
        loop {
            if let Phase::Exited(exit) = *phases.borrow_and_update() {
                return exit;
            }
            // We hold the sender.
            let _ = phases.changed().await;
        }
    }

    /// Signals it directly. Only for children of ours: until we reap it its pid is nobody else's.
    pub(super) fn signal(&self, id: &str, signal: u32) -> Result<(), Error> {
        let pid = match self.phase() {
            Phase::Exited(_) | Phase::Registered => None,
            Phase::Created | Phase::Running | Phase::Paused => Pid::from_raw(self.pid()),
        };
        let pid = pid.ok_or_else(|| Error::Finished(id.to_owned()))?;
        send(pid, signal).map_err(|e| match e {
            rustix::io::Errno::SRCH => Error::Finished(id.to_owned()),
            e => Error::Io {
                what: "kill",
                source: e.into(),
            },
        })
    }
}

/// kill(2) with a number that may be a real-time signal.
pub(super) fn send(pid: Pid, signal: u32) -> rustix::io::Result<()> {
    let number = i32::try_from(signal).unwrap_or(-1);
    match Signal::from_named_raw(number) {
        Some(signal) => rustix::process::kill_process(pid, signal),
        None => nix_kill(pid.as_raw_nonzero().get(), number),
    }
}

fn nix_kill(pid: i32, signal: i32) -> rustix::io::Result<()> {
    if !(1..=64).contains(&signal) {
        return Err(rustix::io::Errno::INVAL);
    }
    // SAFETY: kill takes two numbers and touches no memory of ours.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => Err(
            rustix::io::Errno::from_io_error(&std::io::Error::last_os_error())
                .unwrap_or(rustix::io::Errno::INVAL),
        ),
    }
}
