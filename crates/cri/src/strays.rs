//! Processes of a pod that a killed server left under way: CNI plugins, a shim that nobody was told of, runtime calls.
//!
//! They are found by the pod's id, 64 random digits that stand in no other process' command line or environment.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Which of a pod's processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stray {
    /// A CNI plugin, or one that it called. Killed halfway it may leave an address that nobody can find again.
    Plugin,
    /// A shim or a runtime, in any stage.
    Runtime,
    /// A call of a runtime's that our own shim has made, and that goes on when the shim dies: it writes its log into the
    /// bundle.
    Call,
}

impl Stray {
    fn name(self) -> &'static str {
        match self {
            Self::Plugin => "network plugin",
            Self::Runtime => "shim or runtime",
            Self::Call => "runtime call",
        }
    }
}

/// How long a killed process may take to be gone.
const AFTER_KILL: Duration = Duration::from_secs(10);

/// Ends all of a pod's processes of a kind: waits for them as long as `patience`, then kills. Blocks.
pub(crate) fn end(id: &str, kind: Stray, patience: Duration) {
    let patient_until = Instant::now() + patience;
    let give_up = patient_until + AFTER_KILL;
    // A process may start another before it ends, so one look is not enough.
    loop {
        let found = find(Path::new("/proc"), id, kind);
        if found.is_empty() {
            return;
        }
        for process in &found {
            let patience = patient_until.saturating_duration_since(Instant::now());
            if !patience.is_zero() && ended(process, patience) {
                continue;
            }
            let _ = pidfd_send_signal(process, Signal::KILL);
            ended(process, AFTER_KILL);
        }
        if Instant::now() > give_up {
            tracing::warn!(
                id,
                kind = kind.name(),
                "processes of a pod sandbox do not end"
            );
            return;
        }
    }
}

fn find(proc: &Path, id: &str, kind: Stray) -> Vec<OwnedFd> {
    let own = std::process::id();
    let entries = std::fs::read_dir(proc).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != own)
        .filter_map(|pid| {
            // The descriptor comes first: should the pid be given to another process, it is noticed.
            let raw = i32::try_from(pid).ok()?;
            let process = pidfd_open(Pid::from_raw(raw)?, PidfdFlags::empty()).ok()?;
            names(&proc.join(pid.to_string()), id, kind).then_some(process)
        })
        .collect()
}

fn names(process: &Path, id: &str, kind: Stray) -> bool {
    let words = |file: &str| std::fs::read(process.join(file)).unwrap_or_default();
    let environment = || {
        let wanted = format!("CNI_CONTAINERID={id}");
        words("environ")
            .split(|byte| *byte == 0)
            .any(|word| word == wanted.as_bytes())
    };
    match kind {
        Stray::Plugin => environment(),
        Stray::Call => {
            let log = format!("/bundles/{id}/.runtime-");
            String::from_utf8_lossy(&words("cmdline")).contains(&log)
        }
        Stray::Runtime => String::from_utf8_lossy(&words("cmdline")).contains(id) && !environment(),
    }
}

fn ended(process: &OwnedFd, patience: Duration) -> bool {
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    let mut wanted = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    matches!(poll(&mut wanted, timeout), Ok(1..))
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::*;

    fn shell(id: &str, kind: Stray, script: &str) -> Child {
        let mut command = Command::new("sh");
        // It waits for a line that never comes, without a child that would outlive it.
        command.args(["-c", script]).stdin(Stdio::piped());
        match kind {
            Stray::Plugin => command.env("CNI_CONTAINERID", id),
            Stray::Runtime => command.arg(format!("/bundles/{id}")),
            Stray::Call => command.arg(format!("/bundles/{id}/.runtime-3.log")),
        };
        let child = command.spawn().unwrap();
        // The kernel lets the parent go on a moment before the new program's words can be read.
        let process = Path::new("/proc").join(child.id().to_string());
        let until = Instant::now() + Duration::from_secs(30);
        while !names(&process, id, kind) {
            assert!(Instant::now() < until, "its words are not there");
            std::thread::sleep(Duration::from_millis(1));
        }
        child
    }

    #[test]
    fn runtimes_are_killed_plugins_may_finish() {
        let id = crate::engine::new_id();
        let other = crate::engine::new_id();
        let mut bystander = shell(&other, Stray::Runtime, "read line");
        let mut runtime = shell(&id, Stray::Runtime, "read line");
        let mut plugin = shell(&id, Stray::Plugin, "sleep 0.3; exit 3");
        let mut call = shell(&id, Stray::Call, "read line");
        end(&id, Stray::Call, Duration::ZERO);
        assert_eq!(call.wait().unwrap().code(), None);
        assert!(runtime.try_wait().unwrap().is_none());
        end(&id, Stray::Runtime, Duration::ZERO);
        end(&id, Stray::Plugin, Duration::from_secs(30));
        assert_eq!(runtime.wait().unwrap().code(), None);
        assert_eq!(plugin.wait().unwrap().code(), Some(3));
        assert!(bystander.try_wait().unwrap().is_none());
        end(&other, Stray::Runtime, Duration::ZERO);
        assert_eq!(bystander.wait().unwrap().code(), None);
    }
}
