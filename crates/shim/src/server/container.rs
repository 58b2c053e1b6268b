//! One container: its first process, its execs, and the runtime calls that change it.

mod create;
mod exec;
mod gvisor;
mod start;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use futures::FutureExt;
use parking_lot::Mutex;
use rustix::process::Pid;
use tokio::sync::oneshot;

use super::config::Config;
use super::daemon::panic_text;
use super::error::Error;
use super::io::ChildStdio;
use super::kills::Kills;
use super::metrics::Groups;
use super::process::{Phase, Process, send};
use super::reaper::{Code, Reaper};
use super::runtime::Runtime;
use super::{persist, rootfs, tree};
use crate::client::Exit;

pub(super) use create::create;

/// The code of a process whose end nobody saw.
const UNKNOWN: Code = 255;
/// SIGKILL's number, in the protocol's type.
const SIGKILL: u32 = 9;

#[derive(Debug)]
pub(super) struct Container {
    pub(super) id: String,
    pub(super) bundle: PathBuf,
    pub(super) runtime: Runtime,
    pub(super) init: Arc<Process>,
    execs: Mutex<HashMap<String, Arc<exec::Exec>>>,
    config: Config,
    reaper: Arc<Reaper>,
    kills: Arc<Mutex<Kills>>,
    /// Whether it was asked to be started. One that never was has no end of its own.
    begun: AtomicBool,
    /// Calls that change the container's state exclude each other.
    changing: tokio::sync::Mutex<()>,
    /// gVisor takes a later container's streams only at start.
    late_stdio: Mutex<Option<ChildStdio>>,
    /// How many filesystems the request had us mount.
    mounted: usize,
    socket_dir: PathBuf,
    groups: OnceLock<Groups>,
    /// Whether the first process is a child of ours and this container's alone. Unknown before the creation.
    own_process: OnceLock<bool>,
    /// The most that gVisor has counted.
    cpu_time: AtomicU64,
    /// Whether gVisor has told its figures by itself.
    answered: AtomicBool,
}

impl Container {
    pub(super) async fn start(self: &Arc<Self>) -> Result<u32, Error> {
        let _changing = self.changing.lock().await;
        if self.init.phase() != Phase::Created {
            return Err(self.wrong_state("start"));
        }
        let stdio = self.late_stdio.lock().take().unwrap_or_default();
        self.begun.store(true, Ordering::Relaxed);
        if !self.release().await
            && let Err(error) = self
                .runtime
                .call(&self.bundle, "start", &[&self.id], stdio)
                .await
        {
            // Of one that took too long nobody knows what it did.
            if !matches!(error, Error::RuntimeTimeout { .. }) {
                self.begun.store(false, Ordering::Relaxed);
                if let Err(e) = persist::forget_exit(&self.bundle) {
                    tracing::warn!(id = self.id, error = %e, "exit.json can't be removed");
                }
            }
            return Err(error);
        }
        self.init.set_phase(Phase::Running);
        if !self.has_own_process() {
            self.wait_by_runtime();
        }
        Ok(self.init.wire_pid())
    }

    fn has_own_process(&self) -> bool {
        self.own_process.get().copied().unwrap_or(false)
    }

    /// Whether it is the pod's sandbox container.
    pub(super) fn is_sandbox(&self) -> bool {
        self.config.is_sandbox()
    }

    /// CPU time that was counted, in nanoseconds, or what was before: time that was used stays so.
    pub(super) fn cpu_time(&self, counted: u64) -> u64 {
        self.cpu_time
            .fetch_max(counted, Ordering::Relaxed)
            .max(counted)
    }

    /// Waits for a change that is under way.
    pub(super) async fn settled(&self) {
        drop(self.changing.lock().await);
    }

    /// gVisor's containers have no host process of their own, but for the sandbox: `runsc wait` tells their exit.
    fn wait_by_runtime(self: &Arc<Self>) {
        #[derive(serde::Deserialize)]
        struct Answer {
            #[serde(rename = "exitStatus")]
            exit_status: u32,
        }
        let container = Arc::clone(self);
        self.wait_by(async move {
            let answer = container
                .runtime
                .call_forever(&container.bundle, "wait", &[&container.id])
                .await;
            let parsed = answer
                .ok()
                .and_then(|text| serde_json::from_str::<Answer>(text.trim()).ok());
            // Without an answer the sandbox is gone, and with it the container.
            parsed.map_or(128 + SIGKILL, |a| gvisor_code(a.exit_status))
        });
    }

    /// Watches the first process of a runtime that leaves it to us as a child.
    fn wait_by_pid(self: &Arc<Self>, exit: oneshot::Receiver<Code>) {
        self.wait_by(async move { exit.await.unwrap_or(UNKNOWN) });
    }

    /// The one task that waits for the end. Should it panic, the container has ended all the same: whoever waits for that
    /// is told so.
    fn wait_by(self: &Arc<Self>, exit: impl Future<Output = Code> + Send + 'static) {
        let container = Arc::clone(self);
        tokio::spawn(async move {
            let work = async {
                let code = exit.await;
                container.ended(code).await;
            };
            if let Err(panic) = AssertUnwindSafe(work).catch_unwind().await {
                let reason = panic_text(&*panic);
                tracing::error!(id = container.id, reason, "the wait for its end panicked");
                container.init.set_phase(Phase::Exited(Exit {
                    code: UNKNOWN,
                    at: std::time::SystemTime::now(),
                }));
            }
        });
    }

    /// The first process has ended: note it, then tell whoever waits.
    async fn ended(&self, code: Code) {
        if matches!(self.init.phase(), Phase::Exited(_)) {
            return;
        }
        let exit = Exit {
            code,
            at: std::time::SystemTime::now(),
        };
        // First: a group may not be there for long.
        let oom_killed = self.oom_killed();
        if !self.runtime.is_gvisor() && !self.config.own_pid_namespace() {
            let _ = self.kill_all(SIGKILL).await;
        }
        self.init.io.drain().await;
        // What ends before its start is the runtime's process that waits for it, and how is no answer to anybody's question.
        if self.begun.load(Ordering::Relaxed)
            && let Err(e) = persist::save_exit(&self.bundle, exit, oom_killed)
        {
            tracing::warn!(id = self.id, error = %e, "exit can't be noted");
        }
        self.init.set_phase(Phase::Exited(exit));
    }

    pub(super) async fn kill(&self, exec_id: &str, signal: u32, all: bool) -> Result<(), Error> {
        if !exec_id.is_empty() {
            return self.kill_exec(exec_id, signal, all).await;
        }
        if self.runtime.is_gvisor() {
            if matches!(self.init.phase(), Phase::Exited(_)) {
                return Err(Error::Finished(self.id.clone()));
            }
            if signal == SIGKILL && self.has_own_process() {
                // With the sandbox's process all that runs in it ends: that is how runsc destroys a sandbox, too.
                return self.init.signal(&self.id, signal);
            }
            let number = signal.to_string();
            let mut args = vec![self.id.as_str(), number.as_str()];
            if all {
                args.insert(0, "--all");
            }
            let killed = self
                .runtime
                .call(&self.bundle, "kill", &args, ChildStdio::default())
                .await;
            return match killed {
                // It ended by itself meanwhile, and may be deleted by now.
                Err(_) if matches!(self.init.phase(), Phase::Exited(_)) => {
                    Err(Error::Finished(self.id.clone()))
                }
                other => other.map(drop),
            };
        }
        let suffices = signal == SIGKILL && self.config.own_pid_namespace();
        let sent = if all && !suffices {
            self.kill_all(signal).await
        } else {
            self.init.signal(&self.id, signal)
        };
        match sent {
            Err(Error::Io { .. } | Error::Runtime { .. }) if signal == SIGKILL && self.end() => {
                Ok(())
            }
            sent => sent,
        }
    }

    /// Kills all in its cgroup of version 2, where security modules have no say: an AppArmor profile without rules for
    /// signals lets nobody send one.
    fn end(&self) -> bool {
        let cgroup = self.groups().unified();
        cgroup.is_some_and(|cgroup| std::fs::write(cgroup.join("cgroup.kill"), "1").is_ok())
    }

    async fn kill_all(&self, signal: u32) -> Result<(), Error> {
        let number = signal.to_string();
        let args = ["--all", self.id.as_str(), number.as_str()];
        self.runtime
            .call(&self.bundle, "kill", &args, ChildStdio::default())
            .await
            .map(drop)
    }

    /// Deletes it with its runtime. A container that was only created is killed first.
    pub(super) async fn delete(&self) -> Result<(u32, Exit), Error> {
        let _changing = self.changing.lock().await;
        let mut args = vec![self.id.as_str()];
        match self.init.phase() {
            // gVisor may still be about to notice what it has told us itself.
            Phase::Exited(_) if self.runtime.is_gvisor() => args.insert(0, "--force"),
            Phase::Exited(_) => {}
            Phase::Registered | Phase::Created => args.insert(0, "--force"),
            Phase::Running | Phase::Paused => return Err(self.wrong_state("delete")),
        }
        match self
            .runtime
            .call(&self.bundle, "delete", &args, ChildStdio::default())
            .await
        {
            Ok(_) => {}
            Err(Error::Runtime { message, .. }) if message.contains("does not exist") => {}
            Err(e) => return Err(e),
        }
        if self.runtime.is_gvisor() {
            // runsc leaves it where a container and its sandbox end at the same time.
            self.config.remove_cgroup();
        }
        let execs = std::mem::take(&mut *self.execs.lock());
        for exec in execs.into_values() {
            exec.process.io.close().await;
        }
        if !matches!(self.init.phase(), Phase::Exited(_)) {
            self.ended(128 + SIGKILL).await;
        }
        self.init.io.close().await;
        if let Some(cgroup) = self.groups().unified() {
            self.kills.lock().forget(&cgroup);
        }
        for _ in 0..self.mounted {
            rootfs::unmount(&self.bundle.join("rootfs"));
        }
        Ok((self.init.wire_pid(), self.init.wait().await))
    }

    /// Whether the kernel has killed something in it for want of memory.
    fn oom_killed(&self) -> bool {
        let groups = self.groups();
        groups.oom_killed()
            || groups
                .unified()
                .is_some_and(|cgroup| self.kills.lock().count(&cgroup) > 0)
    }

    /// The cgroups that the runtime put it into.
    pub(super) fn groups(&self) -> &Groups {
        self.groups.get_or_init(|| Groups::of(self.init.pid()))
    }

    /// A process by its exec's id; the first one when empty.
    pub(super) fn process(&self, exec_id: &str) -> Result<Arc<Process>, Error> {
        if exec_id.is_empty() {
            return Ok(Arc::clone(&self.init));
        }
        let missing = || Error::NoProcess {
            id: self.id.clone(),
            exec_id: exec_id.to_owned(),
        };
        self.execs
            .lock()
            .get(exec_id)
            .map(|e| Arc::clone(&e.process))
            .ok_or_else(missing)
    }

    pub(super) async fn pause(&self, pause: bool) -> Result<(), Error> {
        let _changing = self.changing.lock().await;
        let (verb, from, to) = if pause {
            ("pause", Phase::Running, Phase::Paused)
        } else {
            ("resume", Phase::Paused, Phase::Running)
        };
        if self.init.phase() != from {
            return Err(self.wrong_state(verb));
        }
        self.runtime
            .call(&self.bundle, verb, &[&self.id], ChildStdio::default())
            .await?;
        self.init.set_phase(to);
        Ok(())
    }

    /// New limits, as JSON of the spec's `linux.resources`.
    pub(super) async fn update(&self, resources: &[u8]) -> Result<(), Error> {
        if self.runtime.is_gvisor() {
            return Err(Error::Unsupported(
                "runsc can't change the limits of a running container".to_owned(),
            ));
        }
        let _changing = self.changing.lock().await;
        let path = self.bundle.join(".resources.json");
        crate::private::write(&path, resources).map_err(|source| Error::File {
            what: "resources",
            path: path.clone(),
            source,
        })?;
        let file = path.to_string_lossy();
        let args = ["--resources", &file, &self.id];
        let result = self
            .runtime
            .call(&self.bundle, "update", &args, ChildStdio::default())
            .await;
        let _ = std::fs::remove_file(&path);
        result.map(drop)
    }

    pub(super) async fn checkpoint(&self, path: &str) -> Result<(), Error> {
        let _changing = self.changing.lock().await;
        let args = ["--image-path", path, "--leave-running", &self.id];
        self.runtime
            .call(&self.bundle, "checkpoint", &args, ChildStdio::default())
            .await
            .map(drop)
    }

    fn wrong_state(&self, verb: &'static str) -> Error {
        Error::State {
            id: self.id.clone(),
            state: self.init.phase().name(),
            verb,
        }
    }
}

/// gVisor answers with a code below 256, or with a raw wait status in older builds' signal deaths.
fn gvisor_code(status: u32) -> Code {
    if status > 255 {
        128 + (status & 0x7f)
    } else {
        status
    }
}

/// Signals every process of a tree.
fn signal_tree(root: i32, signal: u32) {
    for pid in tree::tree(root) {
        if let Some(pid) = Pid::from_raw(pid) {
            let _ = send(pid, signal);
        }
    }
}
