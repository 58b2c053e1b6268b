//! Stdio of execs under strangers' shims: FIFOs that we read ourselves, for an exec's streams end with its client.
//!
//! They are in a directory of their own beside their container's, which goes with the session.
//!
//! Tasks: a pump for each output; one for each stream of the session.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use containerd_shim_protos::api;
use parking_lot::Mutex;
use rustix::fs::OFlags;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::session::{BUFFER, Control, Session, WriteHalf, pipe};
use super::{AttachStreams, ShimError, keeper};
use crate::fd::AsyncPipe;
use crate::hub::{Chunk, Hub};
use crate::pump::{Pump, Source, Target};
use crate::stream::{Fifos, Kind};

/// The FIFOs of one exec and what reads them.
#[derive(Debug)]
pub(super) struct ExecStreams {
    fifos: Fifos,
    hub: Arc<Hub>,
    stdin: Mutex<Option<Arc<AsyncPipe>>>,
    pumps: Vec<JoinHandle<()>>,
    /// Nothing here waits for an exit: a client reads to the end.
    _exited: watch::Sender<bool>,
}

impl Drop for ExecStreams {
    fn drop(&mut self) {
        for pump in &self.pumps {
            pump.abort();
        }
        let _ = std::fs::remove_dir_all(&self.fifos.dir);
    }
}

impl ExecStreams {
    /// Makes an exec's FIFOs beside its container's and starts reading.
    pub(super) fn open(
        container: &Fifos,
        exec_id: &str,
        wanted: AttachStreams,
        terminal: bool,
    ) -> Result<Self, ShimError> {
        let fifos = Fifos {
            dir: container.dir.join(exec_id),
            log: None,
            terminal,
            stdin: wanted.stdin,
            stdin_once: true,
        };
        let failed = |path: PathBuf| move |source| ShimError::File { path, source };
        crate::private::create_dir(&fifos.dir).map_err(failed(fifos.dir.clone()))?;
        let fifo = |kind, access| {
            let path = fifos.path(kind);
            AsyncPipe::open_fifo(&path, access).map_err(failed(path))
        };
        let stdin = if fifos.stdin {
            // Both ways: opening never waits for the shim.
            Some(Arc::new(fifo(Kind::Stdin, OFlags::RDWR)?))
        } else {
            None
        };
        let hub = Hub::new(None, true).map_err(failed(fifos.dir.clone()))?;
        let hub = Arc::new(hub);
        let exited = watch::Sender::new(false);
        let kinds = if terminal {
            &[Kind::Stdout][..]
        } else {
            &[Kind::Stdout, Kind::Stderr]
        };
        let mut pumps = Vec::new();
        for kind in kinds.iter().copied() {
            let pump = Pump {
                kind,
                pipe: Arc::new(fifo(kind, OFlags::RDONLY)?),
                target: Target::Hub,
                hub: Arc::clone(&hub),
                exited: exited.subscribe(),
                undrained: watch::Sender::new(1),
                source: Source::Fifo,
                linger: None,
            };
            pumps.push(tokio::spawn(pump.run()));
        }
        Ok(Self {
            fifos,
            hub,
            stdin: Mutex::new(stdin),
            pumps,
            _exited: exited,
        })
    }

    /// The exec's own directory.
    pub(super) fn dir(&self) -> &Path {
        &self.fifos.dir
    }

    pub(super) fn fill(&self, request: &mut api::ExecProcessRequest) {
        (request.stdin, request.stdout, request.stderr) = keeper::fields(&self.fifos);
    }

    /// The streams for the exec's client.
    pub(super) fn session(self, control: Control, wanted: AttachStreams) -> Session {
        let stderr = wanted.stderr && !self.fifos.terminal;
        let (_, chunks) = self.hub.attach(wanted.stdout, stderr);
        let owner = Arc::new(self);
        let stdin = owner.stdin.lock().clone();
        let stdin = stdin.map(|to| feed(to, control.clone(), Arc::clone(&owner)));
        let (stdout, out) = pipe(wanted.stdout);
        let (stderr, err) = pipe(stderr);
        tokio::spawn(async move {
            hand_out(chunks, out, err).await;
            drop(owner);
        });
        Session {
            stdin,
            stdout,
            stderr,
            control,
        }
    }
}

/// What the client writes goes to the FIFO, and its end to the process.
fn feed(to: Arc<AsyncPipe>, control: Control, owner: Arc<ExecStreams>) -> WriteHalf {
    let (ours, mut theirs) = tokio::io::duplex(BUFFER);
    tokio::spawn(async move {
        let mut buf = vec![0; BUFFER];
        while let Ok(n @ 1..) = theirs.read(&mut buf).await {
            let bytes = buf.get(..n).unwrap_or_default();
            if to.write_all(bytes).await.is_err() {
                return;
            }
        }
        drop(to);
        *owner.stdin.lock() = None;
        let _ = control.close_stdin().await;
    });
    Box::new(ours)
}

async fn hand_out(
    mut chunks: mpsc::Receiver<Chunk>,
    mut out: Option<WriteHalf>,
    mut err: Option<WriteHalf>,
) {
    while out.is_some() || err.is_some() {
        let Some((kind, bytes)) = chunks.recv().await else {
            return;
        };
        let target = if kind == Kind::Stderr {
            &mut err
        } else {
            &mut out
        };
        let gone = match target {
            Some(_) if bytes.is_empty() => true,
            Some(writer) => writer.write_all(&bytes).await.is_err(),
            None => false,
        };
        if gone {
            *target = None;
        }
    }
}
