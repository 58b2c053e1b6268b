//! Reaps every child: runtimes that we called, and containers' processes that fell to us as their subreaper.
//!
//! All on one thread: a child is spawned and its pid registered without an await between, so it can't be reaped
//! before. A container's first process is different: it may die before its pid is known (it is read from a file
//! after the runtime's call). So while a call is under way, exits of unknown pids are kept.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions};
use tokio::sync::oneshot;

/// An exit code in the shells' form: 128 + n after signal n.
pub(super) type Code = u32;

#[derive(Debug, Default)]
pub(super) struct Reaper {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    watched: HashMap<i32, oneshot::Sender<Code>>,
    strays: HashMap<i32, Code>,
    calls: usize,
}

/// While this lives, exits of unknown pids are remembered.
#[derive(Debug)]
pub(super) struct CallGuard(Arc<Reaper>);

impl Drop for CallGuard {
    fn drop(&mut self) {
        let mut inner = self.0.inner.lock();
        inner.calls -= 1;
        if inner.calls == 0 {
            inner.strays = HashMap::new();
        }
    }
}

impl Reaper {
    /// To be held from before a runtime is called until the pids that it made are watched.
    pub(super) fn call(self: &Arc<Self>) -> CallGuard {
        self.inner.lock().calls += 1;
        CallGuard(Arc::clone(self))
    }

    /// Resolves with the exit code of a child.
    pub(super) fn watch(&self, pid: i32) -> oneshot::Receiver<Code> {
        let (tx, rx) = oneshot::channel();
        let mut inner = self.inner.lock();
        match inner.strays.remove(&pid) {
            // The receiver is in our hands: sending can't fail.
            Some(code) => drop(tx.send(code)),
            None => {
                inner.watched.insert(pid, tx);
            }
        }
        rx
    }

    /// As [`Reaper::watch`], for a process that need not be a child of ours: of others there is nothing to watch.
    pub(super) fn watch_child(&self, pid: i32) -> Option<oneshot::Receiver<Code>> {
        let ended = self.inner.lock().strays.contains_key(&pid);
        (ended || is_child(pid)).then(|| self.watch(pid))
    }

    /// Collects all children that have ended. Called on SIGCHLD.
    pub(super) fn reap(&self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let code = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => u32::try_from(code).unwrap_or(255),
                (None, Some(signal)) => 128 + u32::try_from(signal).unwrap_or(0),
                (None, None) => continue,
            };
            let pid = Pid::as_raw(Some(pid));
            let mut inner = self.inner.lock();
            match inner.watched.remove(&pid) {
                Some(tx) => drop(tx.send(code)),
                None if inner.calls > 0 => {
                    inner.strays.insert(pid, code);
                }
                None => {}
            }
        }
    }
}

/// Whether a process is a child of ours, by birth or because its parent is gone. It is not collected.
fn is_child(pid: i32) -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    Pid::from_raw(pid).is_some_and(|pid| rustix::process::waitid(WaitId::Pid(pid), look).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_children_are_watched() {
        let reaper = Reaper::default();
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(reaper.watch_child(pid).is_some());
        assert!(
            reaper
                .watch_child(Pid::as_raw(rustix::process::getppid()))
                .is_none()
        );
        child.wait().unwrap();
        assert!(reaper.watch_child(pid).is_none());
    }
}
