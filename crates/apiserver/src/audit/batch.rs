//! Events that nobody waits for: a queue, and a task that takes batches from it.
//!
//! A queue is bounded by its events and by their bytes, those that are being sent included: a backend that is slow or gone
//! costs a bounded part of the memory, and what finds no room is dropped, counted and logged.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::measures::Measures;
use crate::log_limit::LogLimit;

/// KiB of events that wait for a backend.
pub(super) const MAX_WAITING_KIB: usize = 64 << 10;
/// Batches that are sent at a time, where a backend takes several.
const MAX_SENDING: usize = 32;
/// How this is named in `apiserver_audit_error_total`.
const PLUGIN: &str = "buffered";

/// What a line takes of the room; one that is larger than half of it takes that.
pub(super) fn kib(line: &[u8]) -> u32 {
    let kib = line.len().div_ceil(1024).min(MAX_WAITING_KIB / 2);
    u32::try_from(kib.max(1)).unwrap_or(u32::MAX)
}

/// How many batches a second there may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Throttle {
    /// `--audit-*-batch-throttle-qps`: on average.
    pub qps: f32,
    /// `--audit-*-batch-throttle-burst`: at once, after a while without.
    pub burst: u32,
}

/// The `--audit-*-batch-*` flags: how events are gathered with the mode `batch`.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchConfig {
    /// `buffer-size`: events that may wait.
    pub buffer_size: u32,
    /// `max-size`: events of a batch.
    pub max_size: u32,
    /// `max-wait`: how long a batch waits for more.
    pub max_wait: Duration,
    /// `throttle-enable`, `throttle-qps` and `throttle-burst`.
    pub throttle: Option<Throttle>,
}

impl BatchConfig {
    /// The stock defaults for a file.
    #[must_use]
    pub fn for_log() -> Self {
        Self {
            buffer_size: 10_000,
            max_size: 1,
            max_wait: Duration::ZERO,
            throttle: None,
        }
    }

    /// The stock defaults for a webhook.
    #[must_use]
    pub fn for_webhook() -> Self {
        Self {
            buffer_size: 10_000,
            max_size: 400,
            max_wait: Duration::from_secs(30),
            throttle: Some(Throttle {
                qps: 10.0,
                burst: 15,
            }),
        }
    }

    /// Why it cannot be followed.
    pub(super) fn misfit(&self) -> Option<&'static str> {
        let throttle = self.throttle;
        if self.buffer_size == 0 {
            Some("batch-buffer-size must be a positive number")
        } else if self.max_size == 0 {
            Some("batch-max-size must be a positive number")
        } else if throttle.is_some_and(|t| t.qps.is_nan() || t.qps <= 0.0 || t.burst == 0) {
            Some("batch-throttle-qps and batch-throttle-burst must be positive numbers")
        } else {
            None
        }
    }
}

/// Where batches go.
pub(super) trait Delegate: Send + Sync + 'static {
    /// Takes events, one JSON line each. What it can't take, it counts and logs itself.
    fn send(&self, lines: Vec<Bytes>) -> BoxFuture<'_, ()>;

    /// Whether several batches may be sent at a time.
    fn is_parallel(&self) -> bool;
}

struct Queued {
    line: Bytes,
    room: OwnedSemaphorePermit,
}

/// The queue before a backend.
pub(super) struct Batcher {
    queue: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
    measures: Measures,
    dropped: LogLimit,
    ending: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Batcher {
    /// Starts the task; it ends with [`Self::close`], or when this goes.
    pub(super) fn start(
        delegate: Arc<dyn Delegate>,
        config: &BatchConfig,
        measures: Measures,
    ) -> Self {
        let size = usize::try_from(config.buffer_size.max(1)).unwrap_or(usize::MAX);
        let (queue, waiting) = mpsc::channel(size.min(Semaphore::MAX_PERMITS));
        let ending = CancellationToken::new();
        let task = tokio::spawn(run(waiting, delegate, config.clone(), ending.clone()));
        Self {
            queue,
            room: Arc::new(Semaphore::new(MAX_WAITING_KIB)),
            measures,
            dropped: LogLimit::default(),
            ending,
            task: Mutex::new(Some(task)),
        }
    }

    /// Queues an event, if there is room.
    pub(super) fn push(&self, line: Bytes) {
        let room = Arc::clone(&self.room).try_acquire_many_owned(kib(&line));
        let queued = room
            .ok()
            .is_some_and(|room| self.queue.try_send(Queued { line, room }).is_ok());
        if !queued {
            self.measures.lost(PLUGIN, 1);
            if let Some(suppressed) = self.dropped.pass() {
                tracing::error!(suppressed, "an audit event was dropped: the queue is full");
            }
        }
    }

    /// Waits until all that is queued is sent. Nothing is taken afterwards.
    pub(super) async fn close(&self) {
        self.ending.cancel();
        let task = self.task.lock().take();
        if let Some(task) = task {
            // It panics with its backend only, which has said so.
            let _ = task.await;
        }
    }
}

impl Drop for Batcher {
    fn drop(&mut self) {
        self.ending.cancel();
    }
}

async fn run(
    mut waiting: mpsc::Receiver<Queued>,
    delegate: Arc<dyn Delegate>,
    config: BatchConfig,
    ending: CancellationToken,
) {
    let most = if delegate.is_parallel() {
        MAX_SENDING
    } else {
        1
    };
    let mut sending = JoinSet::new();
    let mut bucket = config.throttle.map(Bucket::new);
    loop {
        let batch = collect(&mut waiting, &config, &ending).await;
        if batch.is_empty() {
            break;
        }
        if let Some(bucket) = &mut bucket {
            let pause = bucket.take(Instant::now());
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = ending.cancelled() => {}
            }
        }
        while sending.len() >= most {
            sending.join_next().await;
        }
        let delegate = Arc::clone(&delegate);
        sending.spawn(async move {
            let (lines, rooms): (Vec<_>, Vec<_>) =
                batch.into_iter().map(|q| (q.line, q.room)).unzip();
            delegate.send(lines).await;
            drop(rooms);
        });
    }
    while sending.join_next().await.is_some() {}
}

/// The next batch; an empty one at the end.
async fn collect(
    waiting: &mut mpsc::Receiver<Queued>,
    config: &BatchConfig,
    ending: &CancellationToken,
) -> Vec<Queued> {
    let most = usize::try_from(config.max_size).unwrap_or(usize::MAX);
    let mut batch = Vec::new();
    let first = tokio::select! {
        first = waiting.recv() => first,
        () = ending.cancelled() => {
            waiting.close();
            waiting.try_recv().ok()
        }
    };
    batch.extend(first);
    let wait = tokio::time::sleep(config.max_wait);
    tokio::pin!(wait);
    while !batch.is_empty() && batch.len() < most {
        if let Ok(next) = waiting.try_recv() {
            batch.push(next);
            continue;
        }
        tokio::select! {
            next = waiting.recv() => match next {
                Some(next) => batch.push(next),
                None => break,
            },
            () = &mut wait => break,
            () = ending.cancelled() => break,
        }
    }
    batch
}

/// A token bucket.
struct Bucket {
    throttle: Throttle,
    tokens: f64,
    at: Option<Instant>,
}

impl Bucket {
    fn new(throttle: Throttle) -> Self {
        Self {
            throttle,
            tokens: f64::from(throttle.burst),
            at: None,
        }
    }

    /// Takes a token; how long until there is one.
    fn take(&mut self, now: Instant) -> Duration {
        let qps = f64::from(self.throttle.qps);
        let passed = self.at.map_or(Duration::ZERO, |at| now.duration_since(at));
        let most = f64::from(self.throttle.burst);
        self.tokens = (self.tokens + passed.as_secs_f64() * qps).min(most) - 1.0;
        self.at = Some(now);
        if self.tokens >= 0.0 {
            return Duration::ZERO;
        }
        Duration::try_from_secs_f64(-self.tokens / qps).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keeps what it gets, when it may.
    struct Kept {
        got: Arc<Mutex<Vec<usize>>>,
        open: Arc<Semaphore>,
    }

    impl Delegate for Kept {
        fn send(&self, lines: Vec<Bytes>) -> BoxFuture<'_, ()> {
            Box::pin(async move {
                let turn = self.open.acquire().await;
                turn.unwrap().forget();
                self.got.lock().push(lines.len());
            })
        }

        fn is_parallel(&self) -> bool {
            false
        }
    }

    type Got = Arc<Mutex<Vec<usize>>>;

    fn batcher(config: &BatchConfig, turns: usize) -> (Batcher, Got, Arc<Semaphore>, Measures) {
        let (got, open) = (Arc::default(), Arc::new(Semaphore::new(turns)));
        let measures = Measures::default();
        let kept = Kept {
            got: Arc::clone(&got),
            open: Arc::clone(&open),
        };
        let batcher = Batcher::start(Arc::new(kept), config, measures.clone());
        (batcher, got, open, measures)
    }

    fn config() -> BatchConfig {
        BatchConfig {
            buffer_size: 5,
            max_size: 3,
            throttle: None,
            ..BatchConfig::for_webhook()
        }
    }

    fn line() -> Bytes {
        Bytes::from_static(b"{}\n")
    }

    /// Waits until so much has been sent.
    async fn sent(got: &Got, wanted: &[usize]) {
        let begun = Instant::now();
        while *got.lock() != wanted {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "{:?}",
                got.lock()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn a_batch_goes_when_it_is_full_or_has_waited() {
        let waits = Duration::from_millis(200);
        let short = BatchConfig {
            max_wait: waits,
            ..config()
        };
        let (batcher, got, _, _) = batcher(&short, 100);
        let begun = Instant::now();
        for _ in 0..4 {
            batcher.push(line());
        }
        sent(&got, &[3, 1]).await;
        assert!(begun.elapsed() >= waits, "the second waits for more");
    }

    #[tokio::test]
    async fn the_end_does_not_wait_for_more() {
        let (batcher, got, _, _) = batcher(&config(), 100);
        for _ in 0..4 {
            batcher.push(line());
        }
        sent(&got, &[3]).await;
        let closing = tokio::time::timeout(Duration::from_secs(10), batcher.close());
        closing.await.expect("in time");
        assert_eq!(*got.lock(), [3, 1]);
    }

    #[tokio::test]
    async fn a_backend_that_hangs_costs_the_queue_and_no_more() {
        let (batcher, got, open, measures) = batcher(&config(), 0);
        for _ in 0..100 {
            batcher.push(line());
            tokio::task::yield_now().await;
        }
        let lost = measures.lost_by(PLUGIN);
        // One batch that is being sent, one that waits for its turn, and the queue.
        assert!((86..=95).contains(&lost), "{lost}");
        open.add_permits(100);
        batcher.close().await;
        let sent: usize = got.lock().iter().sum();
        assert_eq!(u64::try_from(sent).unwrap() + lost, 100);
        batcher.push(line());
        assert_eq!(
            measures.lost_by(PLUGIN),
            lost + 1,
            "nothing is taken after the end"
        );
    }

    #[tokio::test]
    async fn batches_are_throttled() {
        let throttled = BatchConfig {
            max_size: 1,
            buffer_size: 100,
            throttle: Some(Throttle {
                qps: 20.0,
                burst: 3,
            }),
            ..config()
        };
        let (batcher, got, _, _) = batcher(&throttled, 100);
        let begun = Instant::now();
        for _ in 0..10 {
            batcher.push(line());
        }
        sent(&got, &[1; 10]).await;
        // Three at once, and seven more at twenty a second.
        assert!(begun.elapsed() >= Duration::from_millis(300));
    }

    #[test]
    fn a_bucket_fills_up_to_its_burst() {
        let mut bucket = Bucket::new(Throttle { qps: 2.0, burst: 3 });
        let now = Instant::now();
        let pauses: Vec<u128> = (0..5).map(|_| bucket.take(now).as_millis()).collect();
        assert_eq!(pauses, [0, 0, 0, 500, 1000]);
        let later = now + Duration::from_secs(100);
        let pauses: Vec<u128> = (0..4).map(|_| bucket.take(later).as_millis()).collect();
        assert_eq!(pauses, [0, 0, 0, 500]);
    }

    #[test]
    fn what_cannot_be_followed_is_said() {
        assert_eq!(BatchConfig::for_log().misfit(), None);
        assert_eq!(BatchConfig::for_webhook().misfit(), None);
        let throttle = |qps, burst| BatchConfig {
            throttle: Some(Throttle { qps, burst }),
            ..config()
        };
        for bad in [
            BatchConfig {
                buffer_size: 0,
                ..config()
            },
            BatchConfig {
                max_size: 0,
                ..config()
            },
            throttle(0.0, 1),
            throttle(f32::NAN, 1),
            throttle(1.0, 0),
        ] {
            assert!(bad.misfit().is_some(), "{bad:?}");
        }
    }
}
