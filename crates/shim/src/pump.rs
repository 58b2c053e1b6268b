//! Moves bytes from a process to where they belong, and notices when all of them are there.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::fd::AsyncPipe;
use crate::hub::Hub;
use crate::stream::Kind;

/// A read's size; the pipe holds twice as much.
const CHUNK: usize = 32 * 1024;
/// A terminal passes its last bytes on by a kernel thread: its end is waited for this long after the exit.
const TERMINAL_END: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(crate) enum Target {
    Hub,
    Fifo(AsyncPipe),
    File(File),
}

/// What the end of a process says of its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// A pipe of the process' own: all that it wrote is in there by then. Others may hold it open and go on writing.
    Pipe,
    /// A terminal, which passes the last bytes on a little later.
    Terminal,
    /// A FIFO that a stranger's shim fills. It may tell of the end while it still copies: only the FIFO's own end says
    /// that all is there.
    Fifo,
}

/// One output's task.
pub(crate) struct Pump {
    pub(crate) kind: Kind,
    pub(crate) pipe: Arc<AsyncPipe>,
    pub(crate) target: Target,
    pub(crate) hub: Arc<Hub>,
    pub(crate) exited: watch::Receiver<bool>,
    pub(crate) undrained: watch::Sender<usize>,
    pub(crate) source: Source,
    pub(crate) linger: Option<Duration>,
}

impl Pump {
    pub(crate) async fn run(mut self) {
        let mut buf = Vec::new();
        let mut exited = self.exited.clone();
        let mut drained = false;
        let mut deadline: Option<Instant> = None;
        let mut seen_exit = false;
        loop {
            buf.resize(CHUNK, 0);
            let wake = deadline.unwrap_or_else(Instant::now);
            let got = tokio::select! {
                biased;
                got = self.pipe.read(&mut buf) => got.unwrap_or(0),
                _ = async { drop(exited.wait_for(|e| *e).await) }, if !seen_exit => {
                    seen_exit = true;
                    if self.source == Source::Terminal {
                        deadline = Some(Instant::now() + TERMINAL_END);
                        continue;
                    }
                    // A FIFO that nobody holds open has ended, even if nobody ever did.
                    let ended = self.empty(&mut buf).await;
                    if self.source == Source::Pipe {
                        self.mark(&mut drained);
                        deadline = self.linger.map(|l| Instant::now() + l);
                    }
                    if ended {
                        break;
                    }
                    continue;
                }
                () = tokio::time::sleep_until(wake), if deadline.is_some() => {
                    self.mark(&mut drained);
                    if self.linger.is_some() {
                        break;
                    }
                    deadline = None;
                    continue;
                }
            };
            if got == 0 {
                break;
            }
            self.deliver(buf.get(..got).unwrap_or_default()).await;
        }
        self.hub.finish(self.kind).await;
        self.mark(&mut drained);
    }

    /// Reads until nothing is left for now; true at the end.
    async fn empty(&mut self, buf: &mut [u8]) -> bool {
        loop {
            match self.pipe.try_read(buf) {
                Ok(0) => return true,
                Ok(n) => self.deliver(buf.get(..n).unwrap_or_default()).await,
                Err(e) => return e.kind() != std::io::ErrorKind::WouldBlock,
            }
        }
    }

    async fn deliver(&mut self, data: &[u8]) {
        let failed = match &mut self.target {
            Target::Hub => {
                self.hub.deliver(self.kind, data).await;
                None
            }
            Target::Fifo(fifo) => fifo.write_all(data).await.err(),
            Target::File(file) => file.write_all(data).err(),
        };
        if let Some(e) = failed {
            tracing::warn!(error = %e, "output is lost");
        }
    }

    fn mark(&self, drained: &mut bool) {
        if !std::mem::replace(drained, true) {
            self.undrained.send_modify(|n| *n = n.saturating_sub(1));
        }
    }
}

/// Feeds stdin from a FIFO until its writers have left.
pub(crate) async fn feed(from: AsyncPipe, to: Arc<AsyncPipe>) {
    let mut buf = vec![0; CHUNK];
    while let Ok(n @ 1..) = from.read(&mut buf).await {
        if to
            .write_all(buf.get(..n).unwrap_or_default())
            .await
            .is_err()
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::OFlags;

    /// containerd's shim tells of an exit while its copying goes on.
    #[tokio::test]
    async fn a_fifo_is_drained_to_its_end_and_not_to_its_bottom() {
        let dir = tempfile::tempdir().unwrap();
        let (fifo, log) = (dir.path().join("1"), dir.path().join("0.log"));
        let exited = watch::Sender::new(false);
        let undrained = watch::Sender::new(1);
        let pump = Pump {
            kind: Kind::Stdout,
            pipe: Arc::new(AsyncPipe::open_fifo(&fifo, OFlags::RDONLY).unwrap()),
            target: Target::Hub,
            hub: Arc::new(Hub::new(Some(&log), false).unwrap()),
            exited: exited.subscribe(),
            undrained: undrained.clone(),
            source: Source::Fifo,
            linger: None,
        };
        let running = tokio::spawn(pump.run());
        let writer = AsyncPipe::open_fifo(&fifo, OFlags::WRONLY).unwrap();
        writer.write_all(b"line\nre").await.unwrap();
        exited.send_replace(true);
        // The pump sees both before anything else happens.
        while std::fs::read_to_string(&log).unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        tokio::task::yield_now().await;
        assert_eq!(*undrained.borrow(), 1);
        writer.write_all(b"st").await.unwrap();
        drop(writer);
        running.await.unwrap();
        assert_eq!(*undrained.borrow(), 0);
        let text = std::fs::read_to_string(&log).unwrap();
        let texts: Vec<&str> = text
            .lines()
            .filter_map(|l| l.split_once(' '))
            .map(|l| l.1)
            .collect();
        assert_eq!(texts, ["stdout F line", "stdout P rest"]);
    }

    /// A keeper that was started after the end of a container, for one that had died.
    #[tokio::test]
    async fn a_fifo_that_nobody_writes_to_any_more_ends_with_the_exit() {
        let dir = tempfile::tempdir().unwrap();
        let exited = watch::Sender::new(false);
        let undrained = watch::Sender::new(1);
        let fifo = dir.path().join("1");
        let pump = Pump {
            kind: Kind::Stdout,
            pipe: Arc::new(AsyncPipe::open_fifo(&fifo, OFlags::RDONLY).unwrap()),
            target: Target::Hub,
            hub: Arc::new(Hub::new(None, false).unwrap()),
            exited: exited.subscribe(),
            undrained: undrained.clone(),
            source: Source::Fifo,
            linger: None,
        };
        let running = tokio::spawn(pump.run());
        tokio::task::yield_now().await;
        assert!(!running.is_finished(), "a writer may still come");
        exited.send_replace(true);
        running.await.unwrap();
        assert_eq!(*undrained.borrow(), 0);
    }
}
