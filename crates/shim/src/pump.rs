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

/// One output's task.
pub(crate) struct Pump {
    pub(crate) kind: Kind,
    pub(crate) pipe: Arc<AsyncPipe>,
    pub(crate) target: Target,
    pub(crate) hub: Arc<Hub>,
    pub(crate) exited: watch::Receiver<bool>,
    pub(crate) undrained: watch::Sender<usize>,
    pub(crate) terminal: bool,
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
                    if self.terminal {
                        deadline = Some(Instant::now() + TERMINAL_END);
                        continue;
                    }
                    // All that the process wrote is in the pipe: once that is out, others may go on writing.
                    let ended = self.empty(&mut buf).await;
                    self.mark(&mut drained);
                    if ended {
                        break;
                    }
                    deadline = self.linger.map(|l| Instant::now() + l);
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
