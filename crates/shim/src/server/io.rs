//! The streams of one process: its ends of pipes or a terminal, and the tasks that pump them. In a keeper the FIFOs of
//! a stranger's shim stand in for the process' ends.
//!
//! Tasks: one pump for each of stdout and stderr (one for a terminal), and one that feeds stdin from a FIFO when a
//! stranger drives us. All are owned by [`Io`] and end with it.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;
use rustix::termios::Winsize;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::error::Error;
use crate::fd::AsyncPipe;
use crate::hub::Hub;
use crate::pump::{self, Source, Target};
use crate::stdio::{Input, Output};
use crate::stream::Kind;

/// Longest time for which an exit waits until the output before it is in the log.
const DRAIN: Duration = Duration::from_secs(2);
/// The same for FIFOs, which end only when their shim has copied all of it. More than the hub's patience with a client
/// that does not read, and less than `berth cri` waits for a killed container.
const DRAIN_FIFOS: Duration = Duration::from_secs(15);

/// Where the streams are to go.
#[derive(Debug)]
pub(super) struct Wiring {
    pub(super) stdin: Input,
    pub(super) stdout: Output,
    pub(super) stderr: Output,
    pub(super) terminal: bool,
}

impl Wiring {
    pub(super) fn new(stdin: &str, stdout: &str, stderr: &str, terminal: bool) -> Self {
        let stdout = Output::parse(stdout);
        let stderr = match &stdout {
            Output::Log(_) | Output::Stream => stdout.clone(),
            Output::Null | Output::Fifo(_) | Output::File(_) => Output::parse(stderr),
        };
        Self {
            stdin: Input::parse(stdin),
            stdout,
            stderr,
            terminal,
        }
    }
}

/// The process' ends; none where it gets /dev/null.
#[derive(Debug, Default)]
pub(super) struct ChildStdio {
    pub(super) stdin: Option<OwnedFd>,
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
}

impl ChildStdio {
    /// Gives them to root of the container's user namespace, who may open `/dev/stdout` then.
    pub(super) fn belong_to(&self, root: Option<u32>) {
        let Some(root) = root else { return };
        for fd in [&self.stdin, &self.stdout, &self.stderr]
            .into_iter()
            .flatten()
        {
            // Without it only opening them anew fails.
            let _ = std::os::unix::fs::fchown(fd, Some(root), None);
        }
    }
}

#[derive(Debug)]
pub(super) struct Io {
    pub(super) hub: Arc<Hub>,
    wiring: Wiring,
    stdin: Mutex<Option<Arc<AsyncPipe>>>,
    console: Mutex<Option<Arc<AsyncPipe>>>,
    outputs: Mutex<Vec<(Kind, Arc<AsyncPipe>, Target)>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    exited: watch::Sender<bool>,
    undrained: watch::Sender<usize>,
    source: Source,
    /// After the exit, how long others may keep an exec's pipes open; none for containers.
    linger: Option<Duration>,
}

impl Io {
    /// Opens everything on our side and gives the process' ends. Nothing is pumped before [`Io::run`].
    pub(super) fn new(
        wiring: Wiring,
        linger: Option<Duration>,
    ) -> Result<(Self, ChildStdio), Error> {
        let (log, patient) = match &wiring.stdout {
            Output::Log(path) => (path.as_deref(), false),
            Output::Stream => (None, true),
            Output::Null | Output::Fifo(_) | Output::File(_) => (None, false),
        };
        let source = if wiring.terminal {
            Source::Terminal
        } else {
            Source::Pipe
        };
        let hub = hub(log, patient)?;
        let mut io = Self::over(hub, wiring, source, linger);
        let mut child = ChildStdio::default();
        if !io.wiring.terminal {
            if io.wiring.stdin != Input::Null {
                let (reader, writer) = pipe()?;
                *io.stdin.get_mut() = Some(Arc::new(
                    AsyncPipe::new(writer).map_err(Error::io("stdin"))?,
                ));
                child.stdin = Some(reader);
            }
            child.stdout = io.output(Kind::Stdout)?;
            child.stderr = io.output(Kind::Stderr)?;
        }
        Ok((io, child))
    }

    /// The streams of a process that a stranger's shim serves by these FIFOs: our end of stdin (if any), and its outputs.
    pub(super) fn of_fifos(
        wiring: Wiring,
        stdin: Option<AsyncPipe>,
        outputs: Vec<(Kind, AsyncPipe)>,
    ) -> Result<Self, Error> {
        let log = match &wiring.stdout {
            Output::Log(path) => path.as_deref(),
            Output::Null | Output::Stream | Output::Fifo(_) | Output::File(_) => None,
        };
        let hub = hub(log, false)?;
        let mut io = Self::over(hub, wiring, Source::Fifo, None);
        *io.stdin.get_mut() = stdin.map(Arc::new);
        let outputs = outputs.into_iter();
        *io.outputs.get_mut() = outputs
            .map(|(kind, pipe)| (kind, Arc::new(pipe), Target::Hub))
            .collect();
        Ok(io)
    }

    fn over(hub: Hub, wiring: Wiring, source: Source, linger: Option<Duration>) -> Self {
        Self {
            hub: Arc::new(hub),
            wiring,
            stdin: Mutex::default(),
            console: Mutex::default(),
            outputs: Mutex::default(),
            tasks: Mutex::default(),
            exited: watch::Sender::new(false),
            undrained: watch::Sender::new(0),
            source,
            linger,
        }
    }

    fn output(&mut self, kind: Kind) -> Result<Option<OwnedFd>, Error> {
        let output = if kind == Kind::Stderr {
            &self.wiring.stderr
        } else {
            &self.wiring.stdout
        };
        let Some(target) = target(output)? else {
            return Ok(None);
        };
        let (reader, writer) = pipe()?;
        let reader = Arc::new(AsyncPipe::new(reader).map_err(Error::io("output"))?);
        self.outputs.get_mut().push((kind, reader, target));
        Ok(Some(writer))
    }

    /// Takes the terminal's master, once the runtime has sent it.
    pub(super) fn set_console(&self, master: OwnedFd) -> Result<(), Error> {
        let master = Arc::new(AsyncPipe::new(master).map_err(Error::io("terminal"))?);
        if let Some(target) = target(&self.wiring.stdout)? {
            self.outputs
                .lock()
                .push((Kind::Stdout, Arc::clone(&master), target));
        }
        *self.stdin.lock() = Some(Arc::clone(&master));
        *self.console.lock() = Some(master);
        Ok(())
    }

    /// Starts the pumps.
    pub(super) fn run(&self) -> Result<(), Error> {
        let outputs = std::mem::take(&mut *self.outputs.lock());
        self.undrained.send_modify(|n| *n += outputs.len());
        let mut tasks = self.tasks.lock();
        for (kind, pipe, target) in outputs {
            let job = pump::Pump {
                kind,
                pipe,
                target,
                hub: Arc::clone(&self.hub),
                exited: self.exited.subscribe(),
                undrained: self.undrained.clone(),
                source: self.source,
                linger: self.linger,
            };
            tasks.push(tokio::spawn(job.run()));
        }
        let stdin = self.stdin.lock().clone();
        if let (Input::Fifo(path), Some(to)) = (&self.wiring.stdin, stdin) {
            let failed = |source: io::Error| Error::File {
                what: "stdin FIFO",
                path: path.clone(),
                source,
            };
            let fd = rustix::fs::open(
                path,
                OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
                Mode::empty(),
            )
            .map_err(|e| failed(e.into()))?;
            let from = AsyncPipe::new(fd).map_err(failed)?;
            // The feeder's reference goes with it, so that the end of the FIFO closes the process' stdin.
            if !self.wiring.terminal {
                *self.stdin.lock() = None;
            }
            tasks.push(tokio::spawn(pump::feed(from, to)));
        }
        Ok(())
    }

    /// The process has ended: waits until what it wrote has been delivered.
    pub(super) async fn drain(&self) {
        self.exited.send_replace(true);
        if self.wiring.stdout == Output::Stream {
            // The client reads the streams to their end itself.
            return;
        }
        let limit = match self.source {
            Source::Pipe | Source::Terminal => DRAIN,
            Source::Fifo => DRAIN_FIFOS,
        };
        let mut undrained = self.undrained.subscribe();
        let _ = tokio::time::timeout(limit, undrained.wait_for(|n| *n == 0)).await;
    }

    /// Ends all tasks and streams; for a process that is deleted. Claimed streams may still be on their way to
    /// their client: those tasks end by themselves.
    pub(super) async fn close(&self) {
        self.close_stdin();
        *self.console.lock() = None;
        let tasks = std::mem::take(&mut *self.tasks.lock());
        if self.wiring.stdout == Output::Stream && !tasks.is_empty() {
            return;
        }
        for task in tasks {
            task.abort();
        }
        self.outputs.lock().clear();
        self.hub.finish(Kind::Stdout).await;
        self.hub.finish(Kind::Stderr).await;
    }

    /// Whether a client's leaving closes stdin.
    pub(super) fn stdin_once(&self) -> bool {
        self.wiring.stdin == Input::Stream { once: true }
    }

    /// Whether stdin was closed by us.
    pub(super) fn stdin_ended(&self) -> bool {
        self.has_stdin() && self.stdin.lock().is_none()
    }

    pub(super) fn has_stdin(&self) -> bool {
        self.wiring.stdin != Input::Null
    }

    pub(super) fn terminal(&self) -> bool {
        self.wiring.terminal
    }

    /// Writes to the process; an error when it has closed or lost its stdin.
    pub(super) async fn write_stdin(&self, bytes: &[u8]) -> io::Result<()> {
        let stdin = self.stdin.lock().clone();
        match stdin {
            Some(stdin) => stdin.write_all(bytes).await,
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    pub(super) fn close_stdin(&self) {
        if self.console.lock().is_none() {
            *self.stdin.lock() = None;
            if let Input::Fifo(_) = self.wiring.stdin {
                // The feeder is the last task: outputs come first.
                if let Some(feeder) = self.tasks.lock().last() {
                    feeder.abort();
                }
            }
        }
    }

    pub(super) fn resize(&self, width: u32, height: u32) -> Result<(), Error> {
        let console = self.console.lock().clone();
        let console =
            console.ok_or_else(|| Error::Invalid("the process has no terminal".to_owned()))?;
        let size = Winsize {
            ws_col: u16::try_from(width).unwrap_or(u16::MAX),
            ws_row: u16::try_from(height).unwrap_or(u16::MAX),
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(console.fd(), size).map_err(Error::errno("resize"))
    }
}

fn hub(log: Option<&Path>, patient: bool) -> Result<Hub, Error> {
    Hub::new(log, patient).map_err(|source| Error::File {
        what: "log file",
        path: log.map(ToOwned::to_owned).unwrap_or_default(),
        source,
    })
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(Error::errno("pipe"))
}

/// Our end of an output; none when it goes nowhere.
fn target(output: &Output) -> Result<Option<Target>, Error> {
    Ok(match output {
        Output::Null => None,
        Output::Log(_) | Output::Stream => Some(Target::Hub),
        Output::Fifo(path) => {
            // Both ways: opening never waits, and a reader that leaves for a while (a restart) is no broken pipe.
            let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let failed = |source: io::Error| Error::File {
                what: "output FIFO",
                path: path.clone(),
                source,
            };
            let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
            Some(Target::Fifo(AsyncPipe::new(fd).map_err(failed)?))
        }
        Output::File(path) => {
            let file = File::options().append(true).create(true).open(path);
            let failed = |source| Error::File {
                what: "output file",
                path: path.clone(),
                source,
            };
            Some(Target::File(file.map_err(failed)?))
        }
    })
}
