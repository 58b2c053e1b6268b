//! Where events go, and whether a request waits for that.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::AuditMode;
use super::batch::{BatchConfig, Batcher, Delegate, MAX_WAITING_KIB, kib};
use super::measures::Measures;
use super::sink::Sink;
use super::webhook::{self, Webhook};

/// How long a request waits for its event. After that it goes on; the event is still sent.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// Takes events.
pub(super) struct Backend {
    to: To,
    /// Whether a request whose first event isn't taken is refused.
    is_strict: bool,
}

enum To {
    /// Straight to the file.
    Log(Sink),
    /// Straight to the webhook.
    Webhook(Direct),
    /// Whichever it is, by way of a queue.
    Batched(Batcher),
}

/// A webhook that requests wait for.
struct Direct {
    webhook: Arc<Webhook>,
    room: Arc<Semaphore>,
    sending: TaskTracker,
    measures: Measures,
}

impl Backend {
    /// A file.
    pub(super) fn log(
        sink: Sink,
        mode: AuditMode,
        batch: &BatchConfig,
        measures: Measures,
    ) -> Self {
        let to = if mode == AuditMode::Batch {
            To::Batched(Batcher::start(Arc::new(sink), batch, measures))
        } else {
            To::Log(sink)
        };
        Self {
            to,
            is_strict: mode == AuditMode::BlockingStrict,
        }
    }

    /// A webhook.
    pub(super) fn webhook(
        webhook: Webhook,
        mode: AuditMode,
        batch: &BatchConfig,
        measures: Measures,
    ) -> Self {
        let webhook = Arc::new(webhook);
        let to = if mode == AuditMode::Batch {
            To::Batched(Batcher::start(webhook, batch, measures))
        } else {
            To::Webhook(Direct {
                webhook,
                room: Arc::new(Semaphore::new(MAX_WAITING_KIB)),
                sending: TaskTracker::new(),
                measures,
            })
        };
        Self {
            to,
            is_strict: mode == AuditMode::BlockingStrict,
        }
    }

    /// Takes an event, and waits for it where that is wanted. False: it isn't taken, and has to be.
    pub(super) async fn write(&self, line: Bytes) -> bool {
        let taken = match &self.to {
            To::Log(sink) => sink.write(line, 1).await,
            To::Webhook(direct) => match direct.start(line) {
                Some(sent) => {
                    let sent = tokio::time::timeout(MAX_WAIT, sent).await;
                    matches!(sent, Ok(Ok(true)))
                }
                None => false,
            },
            To::Batched(batcher) => {
                batcher.push(line);
                true
            }
        };
        taken || !self.is_strict
    }

    /// Takes an event that nobody waits for.
    pub(super) fn push(&self, line: Bytes) {
        match &self.to {
            To::Log(sink) => sink.push(line),
            To::Webhook(direct) => {
                direct.start(line);
            }
            To::Batched(batcher) => batcher.push(line),
        }
    }

    /// Waits until everything is sent or given up.
    pub(super) async fn close(&self) {
        match &self.to {
            To::Log(sink) => sink.flush().await,
            To::Webhook(direct) => {
                direct.sending.close();
                direct.sending.wait().await;
            }
            To::Batched(batcher) => batcher.close().await,
        }
    }
}

impl Direct {
    /// Sends an event, whether or not somebody stays to wait for it; none: there was no room.
    fn start(&self, line: Bytes) -> Option<tokio::task::JoinHandle<bool>> {
        let room = Arc::clone(&self.room).try_acquire_many_owned(kib(&line));
        let Ok(room) = room else {
            self.measures.lost(webhook::PLUGIN, 1);
            return None;
        };
        let webhook = Arc::clone(&self.webhook);
        Some(self.sending.spawn(async move {
            let sent = webhook.deliver(&[line]).await;
            drop(room);
            sent
        }))
    }
}

impl Delegate for Sink {
    fn send(&self, lines: Vec<Bytes>) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let events = u64::try_from(lines.len()).unwrap_or(u64::MAX);
            self.write(Bytes::from(lines.concat()), events).await;
        })
    }

    fn is_parallel(&self) -> bool {
        false
    }
}
