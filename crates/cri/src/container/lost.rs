//! How a container ended whose shim has died: as far as it is known.
//!
//! What the shim has noted counts. Else the container's first process is looked for: one that lives ends now, by our SIGKILL;
//! how one has ended that is gone by then nobody knows. And where the runtime shows that it never let the process become the
//! container's program, no run of it has begun.

use std::path::Path;
use std::time::{Duration, Instant};

use berth_shim::client::Exit;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How long a killed process may take to be gone.
const AFTER_KILL: Duration = Duration::from_secs(10);

/// What a container was when its shim had died.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    /// No program of it has run.
    pub(crate) never_ran: bool,
    /// How the shim has noted that it ended.
    pub(super) noted: Option<Exit>,
    pub(super) first: First,
}

/// A container's first process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    /// It lived, and was killed.
    Killed,
    /// It had ended.
    Gone,
    /// It is not a process of the host, or nobody knows which.
    Unknown,
}

impl Found {
    /// Whether it is known how it ended, without anybody else's word.
    pub(crate) fn is_known(&self) -> bool {
        self.noted.is_some()
    }

    /// How it ended, where the shim's `delete` answers with `ended`: SIGKILL, whatever it found.
    pub(crate) fn exit(&self, ended: Option<Exit>) -> Option<Exit> {
        match (self.noted, self.first) {
            (Some(noted), _) => Some(noted),
            (None, First::Gone) => None,
            (None, First::Killed | First::Unknown) => ended,
        }
    }
}

/// Kills the first process of a container, and waits for its end. Blocks.
pub(super) fn end_first(id: &str, bundle: &Path) -> First {
    let Ok(text) = std::fs::read_to_string(bundle.join("init.pid")) else {
        return First::Unknown;
    };
    let Some(pid) = text.trim().parse().ok().and_then(Pid::from_raw) else {
        return First::Unknown;
    };
    // The descriptor comes first: should the pid be given to another process, it is noticed.
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(Errno::SRCH) => return First::Gone,
        // Out of descriptors, say: it may live.
        Err(_) => return First::Unknown,
    };
    let is_first = is_first(&Path::new("/proc").join(text.trim()), id);
    if ends_within(&process, Duration::ZERO) {
        return First::Gone;
    }
    match is_first {
        Ok(true) => {}
        Ok(false) => return First::Gone,
        Err(_) => return First::Unknown,
    }
    // Only one that has ended by now can't be sent it.
    let _ = pidfd_send_signal(&process, Signal::KILL);
    if !ends_within(&process, AFTER_KILL) {
        tracing::warn!(id, "a container that lost its shim does not end");
    }
    First::Killed
}

/// Whether a process is in a container's cgroup, as the pid of one that has ended may be another's by now.
fn is_first(process: &Path, id: &str) -> std::io::Result<bool> {
    let cgroups = std::fs::read_to_string(process.join("cgroup"))?;
    Ok(cgroups.contains(id))
}

fn ends_within(process: &OwnedFd, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut wanted = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
        match poll(&mut wanted, timeout) {
            Err(nix::errno::Errno::EINTR) => {}
            ended => return matches!(ended, Ok(1..)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn exit(code: u32) -> Exit {
        Exit {
            code,
            at: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn an_end_that_nobody_saw_is_unknown() {
        let found = |noted, first| Found {
            never_ran: false,
            noted,
            first,
        };
        let code = |found: Found, ended| found.exit(ended).map(|exit| exit.code);
        let killed = Some(exit(137));
        for (noted, first, ended, expected) in [
            (Some(exit(5)), First::Killed, killed, Some(5)),
            (Some(exit(5)), First::Gone, None, Some(5)),
            (None, First::Killed, killed, Some(137)),
            (None, First::Unknown, killed, Some(137)),
            (None, First::Gone, killed, None),
            (None, First::Killed, None, None),
        ] {
            assert_eq!(code(found(noted, first), ended), expected, "{first:?}");
        }
    }

    #[test]
    fn only_a_process_of_the_container_is_killed() {
        let bundle = tempfile::tempdir().unwrap();
        assert_eq!(end_first("c", bundle.path()), First::Unknown);
        let mut other = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let path = bundle.path().join("init.pid");
        std::fs::write(&path, other.id().to_string()).unwrap();
        let id = crate::engine::new_id();
        assert_eq!(end_first(&id, bundle.path()), First::Gone);
        assert!(other.try_wait().unwrap().is_none());
        // As if all cgroups were the container's.
        assert_eq!(end_first("/", bundle.path()), First::Killed);
        assert_eq!(end_first("/", bundle.path()), First::Gone);
        assert!(!other.wait().unwrap().success());
    }
}
