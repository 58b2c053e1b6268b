//! Looks at objects by their key: each once however often it changed, several at a time, later and later when it fails.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use berth_supervise::measures::WorkQueue;
use berth_supervise::{Brief, Tasks};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::Key;
use crate::server::is_code;
use crate::work::Work;

/// How many objects of a kind are looked at together.
pub(super) const WORKERS: usize = 8;
/// With nothing to do, it looks at its queue again after this time; what is added wakes it.
const IDLE: Duration = Duration::from_secs(60);

/// What one look at an object came to: when to look again although nothing changed.
pub(super) type Looked = Result<Option<Duration>, kube::Error>;

/// The keys of one kind that are to be looked at; cheap to clone.
#[derive(Clone)]
pub(super) struct Keys {
    shared: Arc<Shared>,
}

struct Shared {
    work: Mutex<Work>,
    added: Notify,
}

impl Keys {
    /// None yet; `queue` is the name of the stock controller's queue.
    pub(super) fn new(queue: &'static str) -> Self {
        let shared = Shared {
            work: Mutex::new(Work::new(WorkQueue::new(queue))),
            added: Notify::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Has an object looked at now.
    pub(super) fn add(&self, key: &Key) {
        self.shared.work.lock().add(key.text());
        self.shared.added.notify_one();
    }

    /// Looks at objects until the tasks are to stop.
    pub(super) async fn work<F>(&self, tasks: Tasks, kind: &'static str, look: impl Fn(Key) -> F)
    where
        F: Future<Output = Looked>,
    {
        let shutdown = tasks.stop_token();
        let mut running = FuturesUnordered::new();
        loop {
            while running.len() < WORKERS
                && let Some(key) = self.take()
            {
                let looking = look(key.clone());
                running.push(async move { (key, looking.await) });
            }
            let due = self.shared.work.lock().next();
            let due = due.filter(|_| running.len() < WORKERS);
            let due = due.unwrap_or_else(|| Instant::now() + IDLE);
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.shared.added.notified() => {}
                () = tokio::time::sleep_until(due) => {}
                Some((key, looked)) = running.next() => self.finish(&key, looked, kind),
            }
        }
    }

    fn take(&self) -> Option<Key> {
        let namespace_of = |text: &str| Some(Key::parse(text).namespace);
        let text = self.shared.work.lock().take(namespace_of)?;
        Some(Key::parse(&text))
    }

    fn finish(&self, key: &Key, looked: Looked, kind: &'static str) {
        let mut work = self.shared.work.lock();
        match looked {
            Ok(next) => {
                work.done(key.text());
                if let Some(next) = next {
                    work.add_at(key.text(), Instant::now() + next);
                }
            }
            Err(error) => {
                let (namespace, name) = (&key.namespace, &key.name);
                // Somebody else wrote meanwhile, or it is gone: the watch says so soon.
                if is_code(&error, &[404, 409]) {
                    debug!(kind, namespace, name, error = %Brief(&error), "an object has changed; looking again");
                } else {
                    warn!(kind, namespace, name, error = %Brief(&error), "cannot bring an object to its state yet");
                }
                work.failed(key.text());
            }
        }
    }
}

/// The outcome of several writes: the first failure of them.
pub(super) fn first_error<T, E: Display>(
    results: impl IntoIterator<Item = Result<T, E>>,
) -> Option<E> {
    results.into_iter().find_map(Result::err)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test]
    async fn one_look_at_a_time_and_none_lost() {
        let stop = CancellationToken::new();
        let (keys, key) = (Keys::new("test"), Key::new("n", "a"));
        let (now, most, looks) = (
            AtomicUsize::new(0),
            AtomicUsize::new(0),
            AtomicUsize::new(0),
        );
        keys.add(&key);
        let working = keys.work(Tasks::new(&stop), "Thing", async |_| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            match looks.fetch_add(1, Ordering::SeqCst) {
                // It changes while it is looked at.
                0 => {
                    keys.add(&key);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                _ => stop.cancel(),
            }
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(None)
        });
        working.await;
        assert_eq!(looks.load(Ordering::SeqCst), 2);
        assert_eq!(most.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn later_and_later_when_it_fails_and_when_it_says_so() {
        let stop = CancellationToken::new();
        let (keys, start) = (Keys::new("test"), Instant::now());
        let times = Mutex::new(Vec::new());
        keys.add(&Key::new("n", "a"));
        let working = keys.work(Tasks::new(&stop), "Thing", async |_| {
            let mut times = times.lock();
            times.push(start.elapsed().as_millis());
            match times.len() {
                1..4 => Err(kube::Error::TlsRequired),
                4 => Ok(Some(Duration::from_millis(300))),
                _ => {
                    stop.cancel();
                    Ok(None)
                }
            }
        });
        working.await;
        // 50, 100 and 200 ms after a failure, and what it said itself.
        let times = times.into_inner();
        let not_before = |(seen, wanted): (&u128, u128)| *seen >= wanted;
        let wanted = [0, 50, 150, 350, 650];
        assert_eq!(times.len(), wanted.len());
        assert!(times.iter().zip(wanted).all(not_before), "{times:?}");
    }
}
