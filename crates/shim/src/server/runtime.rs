//! Calls a runtime's command line.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use berth_oci::cgroup::{CgroupMode, Cgroups};
use berth_oci::runtime::{Hide, RuntimeCommand, RuntimeKind, View};
use rustix::fs::MemfdFlags;
use rustix::process::{Pid, Signal};
use tokio::sync::oneshot;

use super::error::Error;
use super::io::ChildStdio;
use super::reaper::{Code, Reaper};

/// After this long without an answer a call is killed.
const LIMIT: Duration = Duration::from_secs(100);

#[derive(Debug)]
pub(super) struct Runtime {
    pub(super) command: RuntimeCommand,
    reaper: Arc<Reaper>,
    hybrid: Option<PathBuf>,
    serial: AtomicU64,
}

impl Runtime {
    pub(super) fn new(command: RuntimeCommand, reaper: Arc<Reaper>) -> Self {
        let hybrid = match command.kind {
            RuntimeKind::Crun => {
                let cgroups = Cgroups::detect();
                cgroups
                    .unified
                    .filter(|_| cgroups.mode == CgroupMode::Hybrid)
            }
            RuntimeKind::Runc
            | RuntimeKind::Youki
            | RuntimeKind::Runsc
            | RuntimeKind::Berth
            | RuntimeKind::Vm
            | RuntimeKind::Other => None,
        };
        Self {
            command,
            reaper,
            hybrid,
            serial: AtomicU64::new(0),
        }
    }

    pub(super) fn is_gvisor(&self) -> bool {
        self.command.kind == RuntimeKind::Runsc
    }

    /// Runs a verb to its end. Gives what it wrote to stdout when `stdio` has none for it.
    pub(super) async fn call<S: AsRef<OsStr>>(
        &self,
        bundle: &Path,
        verb: &str,
        args: &[S],
        stdio: ChildStdio,
    ) -> Result<String, Error> {
        self.run(bundle, verb, args, stdio, Some(LIMIT)).await
    }

    /// As [`Runtime::call`], without a limit of time: for verbs that wait.
    pub(super) async fn call_forever<S: AsRef<OsStr>>(
        &self,
        bundle: &Path,
        verb: &str,
        args: &[S],
    ) -> Result<String, Error> {
        self.run(bundle, verb, args, ChildStdio::default(), None)
            .await
    }

    async fn run<S: AsRef<OsStr>>(
        &self,
        bundle: &Path,
        verb: &str,
        args: &[S],
        stdio: ChildStdio,
        limit: Option<Duration>,
    ) -> Result<String, Error> {
        let _stage = berth_trace::current().map(|_| {
            let name = self.command.binary.file_name().unwrap_or_default();
            berth_trace::stage(format!("{} {verb}", name.to_string_lossy()))
        });
        let mut call = self.spawn(bundle, verb, args, stdio)?;
        let code = match limit {
            None => call.ended().await,
            Some(limit) => match tokio::time::timeout(limit, call.ended()).await {
                Ok(code) => code,
                Err(_) => return Err(call.give_up(limit)),
            },
        };
        call.result(code)
    }

    /// Begins a verb.
    pub(super) fn spawn<S: AsRef<OsStr>>(
        &self,
        bundle: &Path,
        verb: &str,
        args: &[S],
        stdio: ChildStdio,
    ) -> Result<Call, Error> {
        let log = bundle.join(format!(
            ".runtime-{}.log",
            self.serial.fetch_add(1, Ordering::Relaxed)
        ));
        let (out, err) = (memfd("out")?, memfd("err")?);
        let duplicate = |file: &std::fs::File| {
            file.try_clone()
                .map(OwnedFd::from)
                .map_err(Error::io("memfd"))
        };
        let stdout = stdio.stdout.map_or_else(|| duplicate(&out), Ok)?;
        let stderr = stdio.stderr.map_or_else(|| duplicate(&err), Ok)?;
        let stdin = match stdio.stdin {
            Some(stdin) => Stdio::from(stdin),
            None if self.command.kind == RuntimeKind::Runsc => {
                // A pipe at its end. runsc gives its streams to the user that the sandbox runs as, and that
                // would be the host's /dev/null.
                let (nothing, _) = std::io::pipe().map_err(Error::io("pipe"))?;
                Stdio::from(nothing)
            }
            None => Stdio::null(),
        };
        let mut command = Command::new(&self.command.binary);
        command
            .args(self.command.global_args(&log))
            .arg(verb)
            .args(args)
            .env_clear()
            .env(
                "PATH",
                std::env::var_os("PATH")
                    .unwrap_or_else(|| OsString::from("/usr/sbin:/usr/bin:/sbin:/bin")),
            )
            .stdin(stdin)
            .stdout(Stdio::from(stdout))
            .stderr(Stdio::from(stderr));
        match self.command.hides(verb, self.hybrid.as_deref()) {
            Hide::Nothing => {}
            hide => {
                let change = View::new(&hide).map_err(Error::io("mount namespace"))?;
                // SAFETY: this process has one thread, and the closure only makes system calls.
                unsafe { command.pre_exec(move || change.apply()) };
            }
        }
        let binary = self.command.binary.clone();
        // The reaper collects it.
        let child = command.spawn().map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => Error::MissingBinary(binary.clone()),
            _ => Error::Spawn {
                binary: binary.clone(),
                source,
            },
        })?;
        // The command holds our copies of the process' ends: as long as it lives its pipes never end.
        drop(command);
        let pid = i32::try_from(child.id()).unwrap_or(-1);
        Ok(Call {
            pid,
            exit: self.reaper.watch(pid),
            name: binary
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            verb: verb.to_owned(),
            log,
            out,
            err,
        })
    }
}

/// A verb that runs.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) pid: i32,
    exit: oneshot::Receiver<Code>,
    name: String,
    verb: String,
    log: PathBuf,
    out: std::fs::File,
    err: std::fs::File,
}

impl Call {
    /// Waits for its end.
    pub(super) async fn ended(&mut self) -> Code {
        (&mut self.exit).await.unwrap_or(255)
    }

    fn give_up(self, limit: Duration) -> Error {
        if let Some(pid) = Pid::from_raw(self.pid) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        Error::RuntimeTimeout {
            binary: self.name.clone(),
            verb: self.verb.clone(),
            seconds: limit.as_secs(),
        }
    }

    /// What came of it: its output, or its complaint.
    pub(super) fn result(mut self, code: Code) -> Result<String, Error> {
        let logged = std::fs::read_to_string(&self.log).unwrap_or_default();
        if code == 0 {
            return Ok(contents(&mut self.out));
        }
        let message = last_error(&logged)
            .or_else(|| Some(contents(&mut self.err).trim().to_owned()).filter(|t| !t.is_empty()))
            .or_else(|| last_words(&logged).map(|words| format!("exit code {code}: {words}")))
            .unwrap_or_else(|| format!("exit code {code}"));
        Err(Error::Runtime {
            binary: self.name.clone(),
            verb: self.verb.clone(),
            message,
        })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.log);
    }
}

fn memfd(name: &str) -> Result<std::fs::File, Error> {
    rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC)
        .map(std::fs::File::from)
        .map_err(Error::errno("memfd"))
}

fn contents(file: &mut std::fs::File) -> String {
    let mut bytes = Vec::new();
    let read = file
        .rewind()
        .and_then(|()| file.take(1 << 20).read_to_end(&mut bytes));
    read.map_or_else(
        |_| String::new(),
        |_| String::from_utf8_lossy(&bytes).into_owned(),
    )
}

/// The last complaint in a runtime's log of JSON lines.
fn last_error(log: &str) -> Option<String> {
    let text = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).ok()?;
        let level = value.get("level")?.as_str()?.to_ascii_lowercase();
        let fatal = matches!(level.as_str(), "error" | "fatal" | "panic" | "err");
        let message = value
            .get("msg")
            .or_else(|| value.get("message"))
            .or_else(|| value.pointer("/fields/message"));
        fatal
            .then(|| message?.as_str().map(|m| m.trim().to_owned()))
            .flatten()
    };
    log.lines().rev().find_map(text)
}

/// What a runtime's log ends with, whatever it is: its standard error may be the container's.
fn last_words(log: &str) -> Option<String> {
    let text = |line: &str| {
        let value: Option<serde_json::Value> = serde_json::from_str(line).ok();
        let message = value
            .as_ref()
            .and_then(|value| value.get("msg").or_else(|| value.get("message")))
            .and_then(|message| message.as_str());
        let words = message.unwrap_or(line).trim();
        (!words.is_empty()).then(|| words.to_owned())
    };
    log.lines().rev().find_map(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_without_errors_has_last_words() {
        let log = "{\"level\":\"warning\",\"msg\":\"no room\"}\n\n";
        assert_eq!(last_words(log).as_deref(), Some("no room"));
        assert_eq!(
            last_words("time=x level=fatal\n").as_deref(),
            Some("time=x level=fatal")
        );
        assert_eq!(last_words("\n"), None);
    }

    #[test]
    fn the_last_error_of_a_log_is_found() {
        let log = "{\"level\":\"warning\",\"msg\":\"hm\"}\n{\"level\":\"error\",\"msg\":\"first\",\"time\":\"x\"}\n{\"level\":\"error\",\"msg\":\"exec: \\\"nope\\\": not found\"}\nplain\n";
        assert_eq!(
            last_error(log).as_deref(),
            Some("exec: \"nope\": not found")
        );
        assert_eq!(last_error("{\"level\":\"info\",\"msg\":\"x\"}\n"), None);
    }
}
