//! Hands a process' output to its log and to all who are attached.
//!
//! The log always comes first and never waits for anybody. A client that does not read holds the process up, as a
//! full pipe would: one that merely attached for [`PATIENCE`] at most, then it is dropped; the one that owns an
//! exec's streams without limit.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::crilog::CriLog;
use crate::stream::Kind;

const PATIENCE: Duration = Duration::from_secs(10);
/// Chunks that may be under way to one client.
const DEPTH: usize = 2;

pub(crate) type Chunk = (Kind, Bytes);

#[derive(Debug, Default)]
pub(crate) struct Hub {
    inner: Mutex<Inner>,
    /// Whether a slow client may hold the process up forever.
    patient: bool,
}

#[derive(Debug, Default)]
struct Inner {
    log: Option<CriLog>,
    log_failed: bool,
    clients: Vec<Client>,
    serial: u64,
    stdout_ended: bool,
    stderr_ended: bool,
}

#[derive(Debug)]
struct Client {
    serial: u64,
    stdout: bool,
    stderr: bool,
    tx: mpsc::Sender<Chunk>,
}

impl Client {
    fn wants(&self, kind: Kind) -> bool {
        match kind {
            Kind::Stdout => self.stdout,
            Kind::Stderr => self.stderr,
            Kind::Stdin => false,
        }
    }
}

impl Hub {
    pub(crate) fn new(log: Option<&Path>, patient: bool) -> std::io::Result<Self> {
        let log = log.map(CriLog::open).transpose()?;
        Ok(Self {
            inner: Mutex::new(Inner {
                log,
                ..Inner::default()
            }),
            patient,
        })
    }

    pub(crate) fn reopen_log(&self) -> std::io::Result<()> {
        match &mut self.inner.lock().log {
            Some(log) => log.reopen(),
            None => Ok(()),
        }
    }

    /// Joins. What has ended already ends at once for the new client.
    pub(crate) fn attach(&self, stdout: bool, stderr: bool) -> (u64, mpsc::Receiver<Chunk>) {
        let (tx, rx) = mpsc::channel(DEPTH);
        let mut inner = self.inner.lock();
        inner.serial += 1;
        let serial = inner.serial;
        let ended = [
            (Kind::Stdout, stdout && inner.stdout_ended),
            (Kind::Stderr, stderr && inner.stderr_ended),
        ];
        for (kind, ended) in ended {
            if ended {
                // The channel is new and has room for both.
                let _ = tx.try_send((kind, Bytes::new()));
            }
        }
        inner.clients.push(Client {
            serial,
            stdout,
            stderr,
            tx,
        });
        (serial, rx)
    }

    pub(crate) fn detach(&self, serial: u64) {
        self.inner.lock().clients.retain(|c| c.serial != serial);
    }

    pub(crate) async fn deliver(&self, kind: Kind, data: &[u8]) {
        {
            let mut inner = self.inner.lock();
            if let Some(log) = &mut inner.log {
                let failed = log.write(kind, data).err();
                if let Some(e) = &failed
                    && !inner.log_failed
                {
                    tracing::warn!(error = %e, "log can't be written, lines are lost");
                }
                inner.log_failed = failed.is_some();
            }
        }
        self.send(kind, data).await;
    }

    /// Ends a stream: for the log, and for all clients.
    pub(crate) async fn finish(&self, kind: Kind) {
        {
            let mut inner = self.inner.lock();
            let ended = match kind {
                Kind::Stderr => &mut inner.stderr_ended,
                Kind::Stdout | Kind::Stdin => &mut inner.stdout_ended,
            };
            if std::mem::replace(ended, true) {
                return;
            }
            if let Some(Err(e)) = inner.log.as_mut().map(|l| l.finish(kind)) {
                tracing::warn!(error = %e, "log can't be finished");
            }
        }
        self.send(kind, &[]).await;
    }

    async fn send(&self, kind: Kind, data: &[u8]) {
        let clients: Vec<(u64, mpsc::Sender<Chunk>)> = {
            let inner = self.inner.lock();
            inner
                .clients
                .iter()
                .filter(|c| c.wants(kind))
                .map(|c| (c.serial, c.tx.clone()))
                .collect()
        };
        if clients.is_empty() {
            return;
        }
        let bytes = Bytes::copy_from_slice(data);
        for (serial, tx) in clients {
            let sent = if self.patient {
                tx.send((kind, bytes.clone())).await.is_ok()
            } else {
                tx.send_timeout((kind, bytes.clone()), PATIENCE)
                    .await
                    .is_ok()
            };
            if !sent {
                self.detach(serial);
            }
        }
    }
}
