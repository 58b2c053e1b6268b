//! Attached and exec'd streams.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::{AttachStreams, ExecOutput, Exit, Shim, ShimError};
use crate::stdio::stream_socket;
use crate::stream::{self, Hello, Kind, MAX_FRAME, Reply};

/// Bytes kept between the shim's socket and a reader that is slow.
pub(super) const BUFFER: usize = 64 * 1024;

/// How long a killed process may take to be gone, and with it all that it wrote.
const AFTER_KILL: Duration = Duration::from_secs(5);

/// How a process ends that was killed.
const KILLED: u32 = 128 + 9;

/// Readable end of a stream.
pub type ReadHalf = Box<dyn AsyncRead + Send + Unpin>;
/// Writable end of a stream.
pub type WriteHalf = Box<dyn AsyncWrite + Send + Unpin>;

/// The streams of an attached container or an exec. Read stdout and stderr at the same time: one that isn't
/// read holds up the other.
pub struct Session {
    /// Dropping it (or shutting it down) is end of file for the process.
    pub stdin: Option<WriteHalf>,
    /// Ends when the process and all that hold its stdout have ended.
    pub stdout: Option<ReadHalf>,
    /// As stdout; absent with a terminal.
    pub stderr: Option<ReadHalf>,
    /// Everything but the bytes.
    pub control: Control,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("control", &self.control)
            .finish_non_exhaustive()
    }
}

/// Controls the process behind a session.
#[derive(Debug, Clone)]
pub struct Control {
    shim: Shim,
    id: String,
    exec_id: String,
}

impl Control {
    pub(super) fn new(shim: Shim, id: &str, exec_id: &str) -> Self {
        Self {
            shim,
            id: id.to_owned(),
            exec_id: exec_id.to_owned(),
        }
    }

    /// The container's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn exec_id(&self) -> &str {
        &self.exec_id
    }

    /// Sets the terminal's size.
    ///
    /// # Errors
    /// When there is no terminal.
    pub async fn resize(&self, width: u32, height: u32) -> Result<(), ShimError> {
        self.shim
            .resize_process(&self.id, &self.exec_id, width, height)
            .await
    }

    /// Closes the process' stdin.
    ///
    /// # Errors
    /// When the process is gone.
    pub async fn close_stdin(&self) -> Result<(), ShimError> {
        self.shim.close_process_stdin(&self.id, &self.exec_id).await
    }

    /// Signals the process; with `all` its whole process tree, as far as the shim is ours.
    ///
    /// # Errors
    /// When the process is gone.
    pub async fn kill(&self, signal: u32, all: bool) -> Result<(), ShimError> {
        self.shim
            .kill_process(&self.id, &self.exec_id, signal, all)
            .await
    }

    /// Waits for the process' end. An exec is forgotten by the shim after that.
    ///
    /// # Errors
    /// When it is unknown or the shim dies.
    pub async fn wait(&self) -> Result<Exit, ShimError> {
        let exit = self.shim.wait_process(&self.id, &self.exec_id).await?;
        if !self.exec_id.is_empty() {
            let _ = self.shim.delete_process(&self.id, &self.exec_id).await;
        }
        Ok(exit)
    }
}

impl Session {
    /// Reads both outputs to their end and waits. What still runs `timeout` (zero: never) after it has begun is killed,
    /// and what it wrote until then is read off, so that nothing of it holds the shim up.
    pub(super) async fn collect(
        mut self,
        begun: impl Future<Output = ()>,
        timeout: Duration,
        limit: usize,
    ) -> Result<ExecOutput, ShimError> {
        drop(self.stdin.take());
        let (out, err) = (self.stdout.take(), self.stderr.take());
        let Control { shim, id, exec_id } = self.control.clone();
        let of = self.control.clone();
        let mut work = Box::pin(async move {
            let ended = of.shim.wait_process(&of.id, &of.exec_id);
            let wait = async { ended.await.map(|exit| exit.code) };
            let (stdout, stderr, code) = tokio::join!(drain(out, limit), drain(err, limit), wait);
            code.map(|code| ExecOutput {
                code,
                stdout,
                stderr,
            })
        });
        let began = OnceLock::new();
        let expired = async {
            begun.await;
            let _ = began.set(Instant::now());
            if timeout.is_zero() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(timeout).await;
        };
        let result = tokio::select! {
            biased;
            done = &mut work => done,
            () = expired => {
                let _ = self.control.kill(9, true).await;
                let ended = shim.wait_process(&id, &exec_id);
                let _ = tokio::time::timeout(AFTER_KILL, ended).await;
                // A process that it left may still write, and nobody waits for that.
                tokio::spawn(async move {
                    let _ = tokio::time::timeout(AFTER_KILL, work).await;
                    let _ = shim.delete_process(&id, &exec_id).await;
                });
                return Err(ShimError::Timeout(timeout));
            }
        };
        let late = !timeout.is_zero() && began.get().is_some_and(|at| at.elapsed() >= timeout);
        let result = match result {
            // We were so late that the shim came before us.
            Ok(output) if late && output.code == KILLED => Err(ShimError::Timeout(timeout)),
            other => other,
        };
        if !exec_id.is_empty() {
            // The result need not wait for the shim to forget it.
            tokio::spawn(async move {
                let _ = shim.delete_process(&id, &exec_id).await;
            });
        }
        result
    }
}

async fn drain(stream: Option<ReadHalf>, limit: usize) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut stream) = stream else {
        return kept;
    };
    let mut buf = vec![0; 32 * 1024];
    while let Ok(n @ 1..) = stream.read(&mut buf).await {
        let room = limit.saturating_sub(kept.len()).min(n);
        kept.extend_from_slice(buf.get(..room).unwrap_or_default());
    }
    kept
}

/// A connection whose request was granted.
pub(super) struct Opened {
    pub(super) socket: BufReader<UnixStream>,
    pub(super) reply: Reply,
}

/// How long an answer may take of whoever serves the streams: a process that is stopped gives none, ever.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Asks whoever serves the streams at an address.
///
/// # Errors
/// When there is no answer within [`ANSWER_TIMEOUT`]; a drain is answered when the streams have ended, however long that takes.
pub(super) async fn hello(address: &str, message: &Hello) -> Result<Opened, ShimError> {
    if matches!(message, Hello::Drain { .. }) {
        return ask(address, message).await;
    }
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, ask(address, message)).await;
    answer.unwrap_or_else(|_| {
        Err(ShimError::Stream {
            path: stream_socket(address),
            source: std::io::ErrorKind::TimedOut.into(),
        })
    })
}

async fn ask(address: &str, message: &Hello) -> Result<Opened, ShimError> {
    let path: PathBuf = stream_socket(address);
    let failed = |source| ShimError::Stream {
        path: path.clone(),
        source,
    };
    let mut socket = BufReader::new(UnixStream::connect(&path).await.map_err(failed)?);
    stream::write_line(&mut socket, message)
        .await
        .map_err(failed)?;
    let reply: Reply = stream::read_line(&mut socket).await.map_err(failed)?;
    match reply.error {
        None => Ok(Opened { socket, reply }),
        Some(e) if e.contains("not found") => Err(ShimError::NotFound(e)),
        Some(e) => Err(ShimError::Failed(e)),
    }
}

/// Claims or joins the streams of a process.
pub(super) async fn open(control: Control, streams: AttachStreams) -> Result<Session, ShimError> {
    let message = Hello::Attach {
        id: control.id.clone(),
        exec_id: control.exec_id.clone(),
        stdin: streams.stdin,
        stdout: streams.stdout,
        stderr: streams.stderr,
    };
    let Opened { socket, reply } = control.shim.hello(&message).await?;
    // A stranger's shim has to be told of the end itself.
    let closing = (reply.stdin_once && control.shim.0.keeper.is_some()).then(|| control.clone());
    let (from_shim, mut to_shim) = tokio::io::split(socket);
    let stdin = streams.stdin.then(|| {
        let (ours, mut theirs) = tokio::io::duplex(BUFFER);
        tokio::spawn(async move {
            let mut buf = vec![0; BUFFER.min(MAX_FRAME)];
            loop {
                let n = theirs.read(&mut buf).await.unwrap_or(0);
                let bytes = buf.get(..n).unwrap_or_default();
                if stream::write_frame(&mut to_shim, Kind::Stdin, bytes)
                    .await
                    .is_err()
                    || n == 0
                {
                    // The half that writes stays until the reading half ends: closing it would mean leaving.
                    return;
                }
            }
        });
        Box::new(ours) as WriteHalf
    });
    let (stdout, out_writer) = pipe(streams.stdout);
    let (stderr, err_writer) = pipe(streams.stderr);
    tokio::spawn(demultiplex(from_shim, out_writer, err_writer, closing));
    Ok(Session {
        stdin,
        stdout,
        stderr,
        control,
    })
}

/// A stream on its way to whoever reads the session.
pub(super) fn pipe(wanted: bool) -> (Option<ReadHalf>, Option<WriteHalf>) {
    if !wanted {
        return (None, None);
    }
    let (reader, writer) = tokio::io::duplex(BUFFER);
    (Some(Box::new(reader)), Some(Box::new(writer)))
}

/// Hands the outputs out, and passes on that stdin is at its end.
async fn demultiplex(
    mut from: impl AsyncRead + Unpin,
    mut out: Option<WriteHalf>,
    mut err: Option<WriteHalf>,
    mut closing: Option<Control>,
) {
    let mut buf = Vec::new();
    while out.is_some() || err.is_some() || closing.is_some() {
        let Ok(Some(kind)) = stream::read_frame(&mut from, &mut buf).await else {
            return;
        };
        let target = match kind {
            Kind::Stdout => &mut out,
            Kind::Stderr => &mut err,
            Kind::Stdin => {
                if let Some(control) = closing.take() {
                    // The shim may take until the process has read all of it, and the outputs must go on meanwhile.
                    tokio::spawn(async move {
                        let _ = control.close_stdin().await;
                    });
                }
                continue;
            }
        };
        let gone = match target {
            Some(writer) if !buf.is_empty() => writer.write_all(&buf).await.is_err(),
            Some(_) => true,
            None => false,
        };
        if gone {
            *target = None;
        }
    }
}
