//! Further processes in a container.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use containerd_shim_protos::api::ExecProcessRequest;
use futures::FutureExt;
use parking_lot::Mutex;

use super::create::read_pid;
use super::gvisor::Ending;
use super::{Container, SIGKILL, UNKNOWN, signal_tree};
use crate::client::Exit;
use crate::server::console::ConsoleSocket;
use crate::server::daemon::panic_text;
use crate::server::error::Error;
use crate::server::io::{ChildStdio, Io, Wiring};
use crate::server::process::{Fields, Phase, Process};

/// After an exec's exit, how long what it left in the background may still write to its streams.
const LINGER: Duration = Duration::from_millis(500);
/// How long an exec that we ended may still be asked for.
const FORGET: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Exec {
    pub(super) process: Arc<Process>,
    spec: Vec<u8>,
    limit: Option<Duration>,
    /// The process' ends of the streams, until it starts.
    stdio: Mutex<Option<ChildStdio>>,
}

impl Container {
    /// `Exec`: registers a process, to be started by `Start`. One with a limit is ended when it runs longer.
    pub(in crate::server) fn register(
        &self,
        request: &ExecProcessRequest,
        limit: Option<Duration>,
    ) -> Result<(), Error> {
        if request.exec_id.is_empty() || request.exec_id.contains('/') {
            return Err(Error::Invalid(format!("exec id {:?}", request.exec_id)));
        }
        if self.execs.lock().contains_key(&request.exec_id) {
            return Err(Error::Exists(request.exec_id.clone()));
        }
        let spec = request
            .spec
            .as_ref()
            .map(|s| s.value.clone())
            .unwrap_or_default();
        let wiring = Wiring::new(
            &request.stdin,
            &request.stdout,
            &request.stderr,
            request.terminal,
        );
        let (io, stdio) = Io::new(wiring, Some(LINGER))?;
        stdio.belong_to(self.config.root());
        let fields = Fields {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            terminal: request.terminal,
        };
        let process = Arc::new(Process::new(fields, io, Phase::Registered));
        let exec = Exec {
            process,
            spec,
            limit,
            stdio: Mutex::new(Some(stdio)),
        };
        self.execs
            .lock()
            .insert(request.exec_id.clone(), Arc::new(exec));
        Ok(())
    }

    /// `Start` with an exec's id.
    pub(in crate::server) async fn start_exec(
        self: &Arc<Self>,
        exec_id: &str,
    ) -> Result<u32, Error> {
        let exec = self.exec(exec_id)?;
        let Some(stdio) = exec.stdio.lock().take() else {
            return Err(Error::Invalid(format!(
                "exec {exec_id:?} was started before"
            )));
        };
        let result = self.run_exec(exec_id, &exec, stdio).await;
        for suffix in ["json", "pid", "ipid"] {
            let _ = std::fs::remove_file(self.bundle.join(format!(".exec-{exec_id}.{suffix}")));
        }
        if result.is_err() {
            exec.process.set_phase(Phase::Exited(Exit {
                code: 255,
                at: SystemTime::now(),
            }));
            exec.process.io.close().await;
        }
        result
    }

    async fn run_exec(
        self: &Arc<Self>,
        exec_id: &str,
        exec: &Arc<Exec>,
        stdio: ChildStdio,
    ) -> Result<u32, Error> {
        let file = |suffix: &str| self.bundle.join(format!(".exec-{exec_id}.{suffix}"));
        let (spec, pid_file, internal_file) = (file("json"), file("pid"), file("ipid"));
        crate::private::write(&spec, &exec.spec).map_err(|source| Error::File {
            what: "process",
            path: spec.clone(),
            source,
        })?;
        let process = &exec.process;
        let console = process
            .io
            .terminal()
            .then(|| ConsoleSocket::bind(&self.socket_dir))
            .transpose()?;
        let text = |p: &std::path::Path| p.to_string_lossy().into_owned();
        let mut args = vec!["--process".to_owned(), text(&spec)];
        if let Some(console) = &console {
            args.extend(["--console-socket".to_owned(), text(console.path())]);
        }
        // Only its detached form hands a terminal over.
        let exit = if self.runtime.is_gvisor() && console.is_none() {
            self.exec_attached(process, args, &internal_file, stdio)
                .await?
        } else {
            if self.runtime.is_gvisor() {
                args.extend(["--internal-pid-file".to_owned(), text(&internal_file)]);
            }
            args.extend(["--detach", "--pid-file"].map(str::to_owned));
            args.extend([text(&pid_file), self.id.clone()]);
            let guard = self.reaper.call();
            self.runtime
                .call(&self.bundle, "exec", &args, stdio)
                .await?;
            let pid = read_pid(&pid_file)?;
            process.set_pid(pid);
            if self.runtime.is_gvisor() {
                process.set_internal_pid(read_pid(&internal_file)?);
            }
            let exit = self.reaper.watch(pid);
            drop(guard);
            let ending: Ending = Box::pin(async move { exit.await.unwrap_or(255) });
            ending
        };
        process.set_phase(Phase::Running);
        if let Some(console) = console {
            process.io.set_console(console.receive().await?)?;
        }
        process.io.run()?;
        let watched = Arc::clone(process);
        tokio::spawn(async move {
            let end = async {
                let code = exit.await;
                let at = SystemTime::now();
                watched.io.drain().await;
                watched.set_phase(Phase::Exited(Exit { code, at }));
            };
            // It has ended all the same, and somebody waits for it.
            if let Err(panic) = AssertUnwindSafe(end).catch_unwind().await {
                let reason = panic_text(&*panic);
                tracing::error!(reason, "the wait for the end of an exec panicked");
                let (code, at) = (UNKNOWN, SystemTime::now());
                watched.set_phase(Phase::Exited(Exit { code, at }));
            }
        });
        if let Some(limit) = exec.limit {
            let (container, exec_id) = (Arc::clone(self), exec_id.to_owned());
            let process = Arc::clone(process);
            tokio::spawn(async move { container.end_after(limit, &exec_id, &process).await });
        }
        Ok(process.wire_pid())
    }

    /// Ends an exec whose client ought to have done so but is gone, and forgets it.
    async fn end_after(&self, limit: Duration, exec_id: &str, process: &Process) {
        if tokio::time::timeout(limit, process.wait()).await.is_ok() {
            return;
        }
        if let Err(error) = self.kill_exec(exec_id, SIGKILL, true).await {
            tracing::warn!(id = self.id, exec_id, %error, "an exec can't be ended");
        }
        process.wait().await;
        tokio::time::sleep(FORGET).await;
        let _ = self.delete_exec(exec_id).await;
    }

    /// Signals an exec; with `all` its whole process tree.
    pub(super) async fn kill_exec(
        &self,
        exec_id: &str,
        signal: u32,
        all: bool,
    ) -> Result<(), Error> {
        let exec = self.exec(exec_id)?;
        let process = &exec.process;
        if self.runtime.is_gvisor() {
            if process.phase() != Phase::Running {
                return Err(Error::Finished(self.id.clone()));
            }
            return self
                .signal_inside(process.internal_pid(), signal, all)
                .await;
        }
        if all && process.phase() == Phase::Running {
            signal_tree(process.pid(), signal);
            return Ok(());
        }
        process.signal(&self.id, signal)
    }

    /// Forgets an exec that has ended or never started.
    pub(in crate::server) async fn delete_exec(&self, exec_id: &str) -> Result<(u32, Exit), Error> {
        let exec = self.exec(exec_id)?;
        let exit = match exec.process.phase() {
            Phase::Exited(exit) => exit,
            Phase::Registered => Exit {
                code: 0,
                at: SystemTime::now(),
            },
            phase @ (Phase::Created | Phase::Running | Phase::Paused) => {
                return Err(Error::State {
                    id: exec_id.to_owned(),
                    state: phase.name(),
                    verb: "delete",
                });
            }
        };
        self.execs.lock().remove(exec_id);
        exec.process.io.close().await;
        Ok((exec.process.wire_pid(), exit))
    }

    fn exec(&self, exec_id: &str) -> Result<Arc<Exec>, Error> {
        let missing = || Error::NoProcess {
            id: self.id.clone(),
            exec_id: exec_id.to_owned(),
        };
        self.execs.lock().get(exec_id).cloned().ok_or_else(missing)
    }
}
