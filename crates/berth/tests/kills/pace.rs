//! How fast the kills follow each other: on a busy machine slower, since parts that are killed before they have begun show nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::net::UnixStream;

/// Milliseconds after which a runtime serves on a quiet machine.
const QUIET: u64 = 250;
/// Milliseconds between two kills on a quiet machine, in the mean of [`crate::plan::pause`].
const MEAN: u64 = 190;
/// How long all pauses together may be, where the machine is slow.
const ALL: Duration = Duration::from_secs(60);
const MOST: u64 = 8;

pub(crate) struct Pace {
    begun: Instant,
    /// Milliseconds that the runtime took the last time.
    start: Arc<AtomicU64>,
}

impl Pace {
    pub(crate) fn new() -> Self {
        let start = Arc::new(AtomicU64::new(QUIET));
        let begun = Instant::now();
        Self { begun, start }
    }

    /// Looks how long a runtime takes that has just been started.
    pub(crate) fn measure(&self, socket: PathBuf) {
        let (start, begun) = (Arc::clone(&self.start), Instant::now());
        tokio::spawn(async move {
            while begun.elapsed() < ALL && UnixStream::connect(&socket).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            start.store(took, Ordering::Relaxed);
        });
    }

    /// The next pause, of so many milliseconds on a quiet machine, before `left` more kills.
    pub(crate) fn pause(&self, quiet: u64, left: usize) -> Duration {
        let wanted = self.start.load(Ordering::Relaxed) / QUIET;
        let rest = ALL.saturating_sub(self.begun.elapsed()).as_millis();
        let rest = u64::try_from(rest).unwrap_or(0);
        let possible = rest / (MEAN * u64::try_from(left.max(1)).unwrap_or(1));
        Duration::from_millis(quiet * wanted.min(possible).clamp(1, MOST))
    }
}
