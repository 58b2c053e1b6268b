//! The queue to the one thread that writes.
//!
//! The thread takes what has come, writes it at once and says how it went. A queue is bounded by the bytes in it: a request
//! that may wait does so for room; what may not wait is dropped, counted and logged.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::batch::{MAX_WAITING_KIB, kib};
use super::file::Log;
use super::measures::Measures;
use crate::log_limit::LogLimit;

/// How this is named in `apiserver_audit_error_total`.
const PLUGIN: &str = "log";
/// Bytes that are written at once, unless one event has more.
const MAX_WRITE: usize = 1 << 20;
/// How long a request waits for its event. After that it goes on; the event stays in the queue.
const MAX_WAIT: Duration = Duration::from_secs(10);

enum Message {
    Line {
        line: Bytes,
        /// Events in it.
        events: u64,
        room: OwnedSemaphorePermit,
        written: Option<oneshot::Sender<bool>>,
    },
    Flush(oneshot::Sender<bool>),
}

/// Where events go.
pub(super) struct Sink {
    queue: mpsc::UnboundedSender<Message>,
    room: Arc<Semaphore>,
    measures: Measures,
    dropped: LogLimit,
}

impl Sink {
    /// Starts the thread; it ends with the last handle.
    pub(super) fn start(log: Box<dyn Log>, measures: Measures) -> io::Result<Self> {
        Self::with_room(log, measures, MAX_WAITING_KIB)
    }

    fn with_room(log: Box<dyn Log>, measures: Measures, kib: usize) -> io::Result<Self> {
        // The semaphore bounds it.
        let (queue, waiting) = mpsc::unbounded_channel();
        let own = measures.clone();
        std::thread::Builder::new()
            .name("audit-log".to_owned())
            .spawn(move || write(log, waiting, &own))?;
        Ok(Self {
            queue,
            room: Arc::new(Semaphore::new(kib)),
            measures,
            dropped: LogLimit::default(),
        })
    }

    /// Writes one line or several and waits for them. False: they are not, or not yet, in the log.
    pub(super) async fn write(&self, line: Bytes, events: u64) -> bool {
        // A client that leaves while its event waits for room does not take it along unseen.
        let mut waiting = Waiting(Some((self, events)));
        let waited = tokio::time::timeout(MAX_WAIT, async {
            let room = Arc::clone(&self.room);
            let room = room.acquire_many_owned(kib(&line)).await.ok()?;
            let (told, written) = oneshot::channel();
            let sent = self.queue.send(Message::Line {
                line,
                events,
                room,
                written: Some(told),
            });
            sent.ok()?;
            Some(written)
        });
        match waited.await {
            Ok(Some(written)) => {
                waiting.0 = None;
                let written = tokio::time::timeout(MAX_WAIT, written).await;
                matches!(written, Ok(Ok(true)))
            }
            // It never got into the queue.
            Ok(None) | Err(_) => false,
        }
    }

    /// Queues a line, if there is room.
    pub(super) fn push(&self, line: Bytes) {
        let room = Arc::clone(&self.room).try_acquire_many_owned(kib(&line));
        let sent = room.ok().and_then(|room| {
            let message = Message::Line {
                line,
                events: 1,
                room,
                written: None,
            };
            self.queue.send(message).ok()
        });
        if sent.is_none() {
            self.lose(1);
        }
    }

    /// Waits until all that is queued is written.
    pub(super) async fn flush(&self) {
        let (told, written) = oneshot::channel();
        if self.queue.send(Message::Flush(told)).is_ok() {
            let _ = written.await;
        }
    }

    fn lose(&self, events: u64) {
        self.measures.lost(PLUGIN, events);
        if let Some(suppressed) = self.dropped.pass() {
            tracing::error!(
                events,
                suppressed,
                "audit events were dropped: the queue is full"
            );
        }
    }
}

/// Counts an event as lost when it did not get into the queue.
struct Waiting<'a>(Option<(&'a Sink, u64)>);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some((sink, events)) = self.0 {
            sink.lose(events);
        }
    }
}

fn write(
    mut log: Box<dyn Log>,
    mut waiting: mpsc::UnboundedReceiver<Message>,
    measures: &Measures,
) {
    let limit = LogLimit::default();
    let mut lines = Vec::new();
    while let Some(first) = waiting.blocking_recv() {
        let mut next = Some(first);
        let (mut told, mut rooms) = (Vec::new(), Vec::new());
        let mut events = 0;
        while let Some(message) = next.take() {
            match message {
                Message::Line {
                    line,
                    events: more,
                    room,
                    written,
                } => {
                    events += more;
                    lines.extend_from_slice(&line);
                    rooms.push(room);
                    told.extend(written);
                }
                Message::Flush(written) => told.push(written),
            }
            if lines.len() < MAX_WRITE {
                next = waiting.try_recv().ok();
            }
        }
        let written = if lines.is_empty() {
            Ok(())
        } else {
            log.write(&lines)
        };
        let good = written.is_ok();
        if let Err(error) = written {
            measures.lost(PLUGIN, events);
            if let Some(suppressed) = limit.pass() {
                tracing::error!(
                    %error,
                    events,
                    suppressed,
                    "audit events were lost: the audit log cannot be written (is its disk full?)"
                );
            }
        }
        lines.clear();
        lines.shrink_to(MAX_WRITE);
        drop(rooms);
        for told in told {
            // Who has asked may have gone.
            let _ = told.send(good);
        }
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Memory {
        written: Arc<Mutex<Vec<u8>>>,
        full: Arc<Mutex<bool>>,
        /// Held by a test that lets the disk hang.
        hangs: Arc<Mutex<()>>,
    }

    impl Log for Memory {
        fn write(&mut self, lines: &[u8]) -> io::Result<()> {
            let _turn = self.hangs.lock();
            if *self.full.lock() {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            self.written.lock().extend_from_slice(lines);
            Ok(())
        }
    }

    fn lost(measures: &Measures) -> u64 {
        measures.lost_by(PLUGIN)
    }

    #[tokio::test]
    async fn a_full_disk_is_told_and_counted() {
        let (log, measures) = (Memory::default(), Measures::default());
        let sink = Sink::start(Box::new(log.clone()), measures.clone()).unwrap();
        assert!(sink.write(Bytes::from_static(b"one\n"), 1).await);
        *log.full.lock() = true;
        assert!(!sink.write(Bytes::from_static(b"two\n"), 2).await);
        *log.full.lock() = false;
        assert!(sink.write(Bytes::from_static(b"three\n"), 1).await);
        assert_eq!(*log.written.lock(), b"one\nthree\n");
        assert_eq!(lost(&measures), 2);
    }

    #[tokio::test]
    async fn what_finds_no_room_is_dropped_and_counted() {
        let (log, measures) = (Memory::default(), Measures::default());
        let sink = Sink::with_room(Box::new(log.clone()), measures.clone(), 2).unwrap();
        {
            let _hangs = log.hangs.lock();
            for _ in 0..10 {
                sink.push(Bytes::from(vec![b'\n'; 1000]));
            }
        }
        sink.flush().await;
        let lines = u64::try_from(log.written.lock().len() / 1000).unwrap();
        assert_eq!(lines + lost(&measures), 10);
        assert!(lost(&measures) >= 8, "{}", lost(&measures));
    }

    #[tokio::test]
    async fn the_end_waits_for_what_is_queued() {
        let log = Memory::default();
        let sink = Sink::start(Box::new(log.clone()), Measures::default()).unwrap();
        for n in 0..1000 {
            sink.push(Bytes::from(format!("{n}\n")));
        }
        sink.flush().await;
        let text = String::from_utf8(log.written.lock().clone()).unwrap();
        assert_eq!(text.lines().count(), 1000);
    }
}
