//! What only gVisor's containers need: their processes are the sandbox's own, invisible to the host.

use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::Ordering;

use rustix::fs::{Mode, OFlags};

use super::Container;
use crate::fd::AsyncPipe;
use crate::server::error::Error;
use crate::server::io::ChildStdio;
use crate::server::process::Process;
use crate::server::reaper::Code;

/// The end of a process, to be waited for.
pub(super) type Ending = Pin<Box<dyn Future<Output = Code> + Send>>;

impl Container {
    /// The sandbox that it is in: of a container by itself, its own.
    pub(in crate::server) fn sandbox_id(&self) -> &str {
        let joined = self
            .config
            .joins_sandbox()
            .then(|| self.config.sandbox_id());
        joined.flatten().unwrap_or(&self.id)
    }

    /// Takes note that gVisor's control socket is where it was looked for.
    pub(in crate::server) fn note_answer(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    /// Whether it ever was.
    pub(in crate::server) fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// Runs `runsc exec`, which stays as long as the command does and ends with its code. Detached, it would start
    /// itself once more for that, at twice the time. It tells the command's pid in the sandbox through a FIFO at
    /// `internal`; then the command runs.
    pub(super) async fn exec_attached(
        &self,
        process: &Process,
        mut args: Vec<String>,
        internal: &Path,
        stdio: ChildStdio,
    ) -> Result<Ending, Error> {
        let failed = |source: std::io::Error| Error::File {
            what: "pid FIFO",
            path: internal.to_owned(),
            source,
        };
        nix::unistd::mkfifo(internal, nix::sys::stat::Mode::S_IRWXU)
            .map_err(|e| failed(e.into()))?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fifo = rustix::fs::open(internal, flags, Mode::empty())
            .map_err(|e| failed(e.into()))
            .and_then(|fd| AsyncPipe::new(fd).map_err(failed))?;
        let path = internal.to_string_lossy().into_owned();
        args.extend(["--internal-pid-file".to_owned(), path, self.id.clone()]);
        let mut call = self.runtime.spawn(&self.bundle, "exec", &args, stdio)?;
        let mut text = [0; 16];
        let told = tokio::select! {
            biased;
            told = fifo.read(&mut text) => told,
            code = call.ended() => match fifo.try_read(&mut text) {
                // It was over before we looked.
                Ok(length @ 1..) => {
                    process.set_internal_pid(number(text.get(..length)).map_err(failed)?);
                    process.set_pid(call.pid);
                    return Ok(Box::pin(async move { code }));
                }
                _ => return Err(call.result(code.max(1)).err().unwrap_or(Error::Finished(self.id.clone()))),
            }
        };
        let pid = told.and_then(|length| number(text.get(..length)));
        process.set_internal_pid(pid.map_err(failed)?);
        process.set_pid(call.pid);
        Ok(Box::pin(async move { call.ended().await }))
    }

    /// Signals a process inside the sandbox by its pid there; with `all` its descendants, too.
    pub(super) async fn signal_inside(
        &self,
        root: i32,
        signal: u32,
        all: bool,
    ) -> Result<(), Error> {
        let mut pids = vec![root];
        if all {
            let table = ["--format", "table", self.id.as_str()];
            let text = self
                .runtime
                .call(&self.bundle, "ps", &table, ChildStdio::default())
                .await?;
            pids = tree(root, &text);
        }
        let mut result = Ok(());
        for pid in pids {
            let (target, number) = (pid.to_string(), signal.to_string());
            let args = ["--pid", &target, &self.id, &number];
            let sent = self
                .runtime
                .call(&self.bundle, "kill", &args, ChildStdio::default())
                .await;
            // Descendants may be gone by now; whether the process itself was there is what counts.
            if pid == root {
                result = sent.map(drop);
            }
        }
        result
    }
}

/// A pid in decimal digits.
fn number(text: Option<&[u8]>) -> std::io::Result<i32> {
    let text = text.and_then(|text| std::str::from_utf8(text).ok());
    text.and_then(|text| text.trim().parse().ok())
        .ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}

/// `root` and all that descend from it, in the table that `runsc ps` prints (UID PID PPID ...).
fn tree(root: i32, table: &str) -> Vec<i32> {
    let rows: Vec<(i32, i32)> = table
        .lines()
        .filter_map(|line| {
            let mut columns = line.split_whitespace().skip(1);
            Some((columns.next()?.parse().ok()?, columns.next()?.parse().ok()?))
        })
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        next += 1;
        for (pid, ppid) in &rows {
            if *ppid == parent && !found.contains(pid) {
                found.push(*pid);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_are_found_in_runscs_table() {
        let table = "UID       PID       PPID      C         TTY       STIME     TIME      CMD\n\
                     0         1         0         0         ?         21:20     0s        sleep\n\
                     0         7         0         0         ?         21:20     0s        sh\n\
                     0         9         8         0         ?         21:20     0s        sleep\n\
                     0         8         7         0         ?         21:20     0s        sh\n";
        assert_eq!(tree(7, table), [7, 8, 9]);
        assert_eq!(tree(5, table), [5]);
    }
}
