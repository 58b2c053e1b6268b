//! Stdio of strangers' shims: FIFOs, with the log written on our side.
//!
//! The FIFOs of a container live in its bundle (`io/0`, `io/1`, `io/2`) with a note of where its log is, so that
//! after a restart of ours [`Loggers::adopt`] goes on where the shim's end of the FIFO has kept what came meanwhile.
//!
//! Tasks: a pump for each output of each container and exec; one for each stdin that is being written.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use containerd_shim_protos::api;
use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::session::{Control, Session, channel_session};
use super::{AttachStreams, CreateRequest, ShimError};
use crate::fd::AsyncPipe;
use crate::hub::Hub;
use crate::pump::{Pump, Target};
use crate::stream::Kind;

/// How long an exit waits for the output before it.
const DRAIN: Duration = Duration::from_secs(2);

/// The loggers of a shim's containers.
#[derive(Debug, Default)]
pub(super) struct Loggers(Mutex<HashMap<String, Arc<Streams>>>);

/// What is noted in the bundle.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    log: Option<PathBuf>,
    terminal: bool,
    stdin: bool,
    stdin_once: bool,
}

/// The FIFOs of one process and what reads them.
#[derive(Debug)]
pub(super) struct Streams {
    dir: PathBuf,
    hub: Arc<Hub>,
    note: Note,
    /// An exec's: the directory goes with it.
    temporary: bool,
    stdin: Mutex<Option<Arc<AsyncPipe>>>,
    exited: watch::Sender<bool>,
    undrained: watch::Sender<usize>,
    pumps: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Streams {
    fn drop(&mut self) {
        for pump in self.pumps.get_mut() {
            pump.abort();
        }
        if self.temporary {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

impl Loggers {
    /// Makes the FIFOs, starts reading and fills the request in.
    pub(super) fn prepare(
        &self,
        create: &CreateRequest,
        request: &mut api::CreateTaskRequest,
    ) -> Result<(), ShimError> {
        let note = Note {
            log: create.log.clone(),
            terminal: create.terminal,
            stdin: create.stdin,
            stdin_once: create.stdin_once,
        };
        let dir = create.bundle.join("io");
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).map_err(|source| ShimError::File {
            path: dir.clone(),
            source,
        })?;
        let path = dir.join("note.json");
        let text = serde_json::to_vec(&note).map_err(ShimError::Encode)?;
        std::fs::write(&path, text).map_err(|source| ShimError::File { path, source })?;
        let streams = Streams::open(dir, note, false)?;
        request.stdin = streams.stdin_path();
        request.stdout = streams.path(Kind::Stdout);
        request.stderr = streams.stderr_path();
        self.0.lock().insert(create.id.clone(), Arc::new(streams));
        Ok(())
    }

    /// Goes on reading after a restart.
    pub(super) fn adopt(&self, id: &str, bundle: &Path) -> Result<(), ShimError> {
        if self.0.lock().contains_key(id) {
            return Ok(());
        }
        let dir = bundle.join("io");
        let path = dir.join("note.json");
        let failed = |source: io::Error| ShimError::File {
            path: path.clone(),
            source,
        };
        let note = serde_json::from_slice(&std::fs::read(&path).map_err(failed)?)
            .map_err(|e| failed(e.into()))?;
        let streams = Streams::open(dir, note, false)?;
        self.0.lock().insert(id.to_owned(), Arc::new(streams));
        Ok(())
    }

    fn get(&self, id: &str) -> Option<Arc<Streams>> {
        self.0.lock().get(id).cloned()
    }

    pub(super) fn forget(&self, id: &str) {
        self.0.lock().remove(id);
    }

    /// A container has ended: waits until its output is in its log.
    pub(super) async fn drain(&self, id: &str) {
        if let Some(streams) = self.get(id) {
            streams.drain().await;
        }
    }

    /// A container was deleted: whatever comes now is the last of it.
    pub(super) async fn finish(&self, id: &str) {
        let Some(streams) = self.0.lock().remove(id) else {
            return;
        };
        streams.drain().await;
        streams.hub.finish(Kind::Stdout).await;
        streams.hub.finish(Kind::Stderr).await;
        let _ = std::fs::remove_dir_all(&streams.dir);
    }

    pub(super) fn reopen(&self, id: &str) -> Result<(), ShimError> {
        let streams = self.get(id).ok_or_else(|| not_found(id))?;
        let path = streams.note.log.clone().unwrap_or_default();
        streams
            .hub
            .reopen_log()
            .map_err(|source| ShimError::File { path, source })
    }

    pub(super) fn close_stdin(&self, id: &str) {
        if let Some(streams) = self.get(id) {
            *streams.stdin.lock() = None;
        }
    }

    pub(super) fn attach(
        &self,
        control: Control,
        wanted: AttachStreams,
    ) -> Result<Session, ShimError> {
        let streams = self
            .get(control.id())
            .ok_or_else(|| not_found(control.id()))?;
        streams.session(control, wanted)
    }

    /// Makes the FIFOs of an exec.
    pub(super) fn exec(
        &self,
        control: &Control,
        wanted: AttachStreams,
        terminal: bool,
    ) -> Result<Arc<Streams>, ShimError> {
        let container = self
            .get(control.id())
            .ok_or_else(|| not_found(control.id()))?;
        let dir = container.dir.join(control.exec_id());
        std::fs::create_dir_all(&dir).map_err(|source| ShimError::File {
            path: dir.clone(),
            source,
        })?;
        let note = Note {
            log: None,
            terminal,
            stdin: wanted.stdin,
            stdin_once: true,
        };
        Streams::open(dir, note, true).map(Arc::new)
    }
}

fn not_found(id: &str) -> ShimError {
    ShimError::NotFound(format!("container {id:?} not found"))
}

impl Streams {
    fn open(dir: PathBuf, note: Note, patient: bool) -> Result<Self, ShimError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| ShimError::File {
                path: path.clone(),
                source,
            }
        };
        let log = note.log.as_deref();
        let hub = Hub::new(log, patient).map_err(failed(log.unwrap_or(&dir)))?;
        let streams = Self {
            dir,
            hub: Arc::new(hub),
            note,
            temporary: patient,
            stdin: Mutex::default(),
            exited: watch::Sender::new(false),
            undrained: watch::Sender::new(0),
            pumps: Mutex::default(),
        };
        if streams.note.stdin {
            // Both ways: opening never waits for the shim, and its end does not see ours come and go.
            let pipe = streams.fifo("0", OFlags::RDWR)?;
            *streams.stdin.lock() = Some(Arc::new(pipe));
        }
        let outputs = [(Kind::Stdout, "1"), (Kind::Stderr, "2")];
        let count = if streams.note.terminal { 1 } else { 2 };
        for (kind, name) in outputs.into_iter().take(count) {
            let pump = Pump {
                kind,
                pipe: Arc::new(streams.fifo(name, OFlags::RDONLY)?),
                target: Target::Hub,
                hub: Arc::clone(&streams.hub),
                exited: streams.exited.subscribe(),
                undrained: streams.undrained.clone(),
                terminal: streams.note.terminal,
                linger: None,
            };
            streams.undrained.send_modify(|n| *n += 1);
            streams.pumps.lock().push(tokio::spawn(pump.run()));
        }
        Ok(streams)
    }

    /// Opens a FIFO of ours, made when it isn't there.
    fn fifo(&self, name: &str, access: OFlags) -> Result<AsyncPipe, ShimError> {
        let path = self.dir.join(name);
        let failed = |source: io::Error| ShimError::File {
            path: path.clone(),
            source,
        };
        if !path.exists() {
            let mode = nix::sys::stat::Mode::from_bits_truncate(0o700);
            nix::unistd::mkfifo(&path, mode).map_err(|e| failed(e.into()))?;
        }
        let flags = access | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&path, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
        AsyncPipe::new(fd).map_err(failed)
    }

    fn path(&self, kind: Kind) -> String {
        let name = match kind {
            Kind::Stdin => "0",
            Kind::Stdout => "1",
            Kind::Stderr => "2",
        };
        self.dir.join(name).to_string_lossy().into_owned()
    }

    fn stdin_path(&self) -> String {
        if self.note.stdin {
            self.path(Kind::Stdin)
        } else {
            String::new()
        }
    }

    fn stderr_path(&self) -> String {
        if self.note.terminal {
            String::new()
        } else {
            self.path(Kind::Stderr)
        }
    }

    pub(super) fn fill(&self, request: &mut api::ExecProcessRequest) {
        request.stdin = self.stdin_path();
        request.stdout = self.path(Kind::Stdout);
        request.stderr = self.stderr_path();
    }

    async fn drain(&self) {
        self.exited.send_replace(true);
        let mut undrained = self.undrained.subscribe();
        let _ = tokio::time::timeout(DRAIN, undrained.wait_for(|n| *n == 0)).await;
    }

    /// The streams for one client.
    pub(super) fn session(
        self: Arc<Self>,
        control: Control,
        wanted: AttachStreams,
    ) -> Result<Session, ShimError> {
        let stdin = if wanted.stdin {
            let pipe = self.stdin.lock().clone();
            let missing = || ShimError::Failed("the process was made without stdin".to_owned());
            Some(pipe.ok_or_else(missing)?)
        } else {
            None
        };
        let stderr = wanted.stderr && !self.note.terminal;
        let (_, chunks) = self.hub.attach(wanted.stdout, stderr);
        let outputs = AttachStreams {
            stdin: wanted.stdin,
            stdout: wanted.stdout,
            stderr,
        };
        let once = self.note.stdin_once;
        Ok(channel_session(control, chunks, outputs, stdin, once, self))
    }

    /// Lets go of stdin, so that its end can reach the process.
    pub(super) fn drop_stdin(&self) {
        *self.stdin.lock() = None;
    }
}
