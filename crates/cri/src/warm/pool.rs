//! Which sandboxes wait, and what became of those that did.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// What a sandbox is booted with that can't be changed any more, in the CRI's units; 0 where there is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// Bytes.
    pub(crate) memory: i64,
    pub(crate) cpu_period: i64,
    pub(crate) cpu_quota: i64,
}

/// Where one of the pool is in its life.
///
/// ```text
/// Making -> Waiting -> Taking -> (a pod's)
///     \________|__________\___-> Discarding -> (removed)
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Making,
    Waiting,
    Taking,
    Discarding,
}

impl Stage {
    /// Its name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Making => "making",
            Self::Waiting => "waiting",
            Self::Taking => "taking",
            Self::Discarding => "discarding",
        }
    }
}

/// One of the pool.
pub(crate) struct Entry<T> {
    pub(crate) sandbox: Arc<T>,
    pub(crate) handler: String,
    pub(crate) size: Size,
    pub(crate) stage: Stage,
    pub(crate) since: Instant,
}

impl<T> Clone for Entry<T> {
    fn clone(&self) -> Self {
        Self {
            sandbox: Arc::clone(&self.sandbox),
            handler: self.handler.clone(),
            ..*self
        }
    }
}

/// What is known of a handler's.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts {
    /// How many are wanted now.
    pub(crate) wanted: usize,
    /// Why none can wait, where that is so.
    pub(crate) refused: Option<String>,
    /// Why the last one could not be made, until one was.
    pub(crate) failed: Option<String>,
    pub(crate) taken: u64,
    pub(crate) made: u64,
    /// Pods that started cold, by reason.
    pub(crate) cold: BTreeMap<&'static str, u64>,
    /// Those that were removed without a pod, by reason.
    pub(crate) discarded: BTreeMap<&'static str, u64>,
    /// The sizes that were asked for last, newest first.
    asked: VecDeque<Size>,
}

struct State<T> {
    entries: BTreeMap<String, Entry<T>>,
    handlers: BTreeMap<String, Counts>,
}

/// The sandboxes that wait for pods, of all handlers.
pub(crate) struct Pool<T> {
    state: Mutex<State<T>>,
    /// Told when one is taken or lost, or a size is asked for.
    changed: Notify,
    /// Requests under way that start pods.
    busy: AtomicUsize,
    /// When the last of them ended.
    last: Mutex<Option<Instant>>,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                entries: BTreeMap::new(),
                handlers: BTreeMap::new(),
            }),
            changed: Notify::new(),
            busy: AtomicUsize::new(0),
            last: Mutex::default(),
        }
    }
}

/// A request that starts a pod, as long as it is held.
pub(crate) struct Busy<'a, T>(&'a Pool<T>);

impl<T> Drop for Busy<'_, T> {
    fn drop(&mut self) {
        *self.0.last.lock() = Some(Instant::now());
        self.0.busy.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<T> Pool<T> {
    /// Notes that a pod is being started.
    pub(crate) fn busy(&self) -> Busy<'_, T> {
        self.busy.fetch_add(1, Ordering::AcqRel);
        Busy(self)
    }

    /// Whether no pod was started for so long.
    pub(crate) fn is_quiet(&self, since: Duration) -> bool {
        self.busy.load(Ordering::Acquire) == 0
            && self.last.lock().is_none_or(|last| last.elapsed() >= since)
    }

    /// Takes one in that is being made, or that an earlier server has made.
    pub(crate) fn add(&self, id: &str, sandbox: Arc<T>, handler: &str, size: Size, stage: Stage) {
        let entry = Entry {
            sandbox,
            handler: handler.to_owned(),
            size,
            stage,
            since: Instant::now(),
        };
        self.state.lock().entries.insert(id.to_owned(), entry);
    }

    /// One is booted, and can be taken from now on.
    pub(crate) fn ready(&self, id: &str) {
        let mut state = self.state.lock();
        let State { entries, handlers } = &mut *state;
        if let Some(entry) = entries.get_mut(id) {
            (entry.stage, entry.since) = (Stage::Waiting, Instant::now());
            let counts = handlers.entry(entry.handler.clone()).or_default();
            counts.made += 1;
            counts.failed = None;
        }
    }

    /// Forgets one: it is a pod's now, or removed.
    pub(crate) fn release(&self, id: &str) {
        self.state.lock().entries.remove(id);
        self.changed.notify_one();
    }

    /// Takes the one that has waited longest among those of a handler and size that are fine; nobody else gets it.
    pub(crate) fn take(
        &self,
        handler: &str,
        size: Size,
        fine: impl Fn(&T) -> bool,
    ) -> Option<Arc<T>> {
        let mut state = self.state.lock();
        let chosen = state
            .entries
            .values_mut()
            .filter(|entry| {
                entry.stage == Stage::Waiting
                    && entry.handler == handler
                    && entry.size == size
                    && fine(&entry.sandbox)
            })
            .min_by_key(|entry| entry.since)?;
        (chosen.stage, chosen.since) = (Stage::Taking, Instant::now());
        Some(Arc::clone(&chosen.sandbox))
    }

    /// Gives back one that was taken and not touched.
    pub(crate) fn put_back(&self, id: &str) {
        if let Some(entry) = self.state.lock().entries.get_mut(id) {
            entry.stage = Stage::Waiting;
        }
    }

    /// Marks one as to be removed, for a reason; false when somebody else has it.
    pub(crate) fn discard(&self, id: &str, from: Stage, reason: &'static str) -> bool {
        let mut state = self.state.lock();
        let State { entries, handlers } = &mut *state;
        let Some(entry) = entries.get_mut(id).filter(|entry| entry.stage == from) else {
            return false;
        };
        (entry.stage, entry.since) = (Stage::Discarding, Instant::now());
        let counts = handlers.entry(entry.handler.clone()).or_default();
        *counts.discarded.entry(reason).or_default() += 1;
        true
    }

    /// Whether it is of the pool, in whatever stage.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.state.lock().entries.contains_key(id)
    }

    pub(crate) fn all(&self) -> Vec<Arc<T>> {
        let state = self.state.lock();
        let all = state.entries.values();
        all.map(|entry| Arc::clone(&entry.sandbox)).collect()
    }

    pub(crate) fn entries(&self) -> Vec<(String, Entry<T>)> {
        let state = self.state.lock();
        let all = state.entries.iter();
        all.map(|(id, entry)| (id.clone(), entry.clone())).collect()
    }

    pub(crate) fn counts(&self) -> BTreeMap<String, Counts> {
        self.state.lock().handlers.clone()
    }

    /// Changes what is known of a handler's.
    pub(crate) fn note(&self, handler: &str, change: impl FnOnce(&mut Counts)) {
        change(
            self.state
                .lock()
                .handlers
                .entry(handler.to_owned())
                .or_default(),
        );
    }

    /// Notes a size that a pod was asked for: the next ones will be of it.
    pub(crate) fn ask(&self, handler: &str, size: Size) {
        self.note(handler, |counts| {
            counts.asked.push_front(size);
            counts.asked.truncate(ASKED_MAX);
        });
        self.changed.notify_one();
    }

    /// The sizes that a handler's should have: those asked for last, and no limit where there were fewer.
    pub(crate) fn wished(&self, handler: &str, count: usize) -> Vec<Size> {
        let state = self.state.lock();
        let asked = state.handlers.get(handler).map(|counts| &counts.asked);
        let asked = asked.into_iter().flatten().copied();
        asked
            .chain(std::iter::repeat(Size::default()))
            .take(count)
            .collect()
    }

    /// Waits until something has changed.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// As many sizes as one handler's can wait.
const ASKED_MAX: usize = crate::handlers::WARM_MAX;

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Size = Size {
        memory: 1,
        cpu_period: 0,
        cpu_quota: 0,
    };

    fn pool(ids: &[&str]) -> Pool<String> {
        let pool = Pool::default();
        for id in ids {
            let sandbox = Arc::new((*id).to_owned());
            pool.add(id, sandbox, "h", Size::default(), Stage::Making);
            pool.ready(id);
        }
        pool
    }

    #[test]
    fn one_is_taken_once_in_the_order_of_waiting() {
        let pool = pool(&["b", "a"]);
        let take = || pool.take("h", Size::default(), |_| true);
        assert_eq!(*take().unwrap(), "b");
        assert_eq!(*take().unwrap(), "a");
        assert!(take().is_none());
        pool.put_back("a");
        assert_eq!(*take().unwrap(), "a");
        pool.release("a");
        assert!(!pool.has("a") && pool.has("b"));
    }

    #[test]
    fn only_what_fits_is_taken() {
        let pool = pool(&["a"]);
        assert!(pool.take("other", Size::default(), |_| true).is_none());
        assert!(pool.take("h", SMALL, |_| true).is_none());
        assert!(pool.take("h", Size::default(), |_| false).is_none());
        assert!(pool.discard("a", Stage::Waiting, "network"));
        assert!(pool.take("h", Size::default(), |_| true).is_none());
        assert!(!pool.discard("a", Stage::Waiting, "network"));
        assert_eq!(pool.counts()["h"].discarded["network"], 1);
    }

    #[test]
    fn many_take_each_another_one() {
        let ids: Vec<String> = (0..32).map(|number| number.to_string()).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let pool = pool(&ids);
        let taken = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..40 {
                scope.spawn(|| {
                    let got = pool.take("h", Size::default(), |_| true);
                    taken.lock().extend(got.map(|id| (*id).clone()));
                });
            }
        });
        let mut taken = taken.into_inner();
        taken.sort();
        taken.dedup();
        assert_eq!(taken.len(), ids.len());
    }

    #[test]
    fn the_sizes_asked_for_last_are_wished() {
        let pool = pool(&[]);
        assert_eq!(pool.wished("h", 2), [Size::default(); 2]);
        pool.ask("h", SMALL);
        assert_eq!(pool.wished("h", 2), [SMALL, Size::default()]);
        for _ in 0..100 {
            pool.ask("h", Size::default());
        }
        assert_eq!(pool.wished("h", 2), [Size::default(); 2]);
        assert_eq!(pool.counts()["h"].asked.len(), ASKED_MAX);
    }

    #[test]
    fn it_is_quiet_when_nothing_starts_and_nothing_has_just_started() {
        let pool = pool(&[]);
        assert!(pool.is_quiet(Duration::from_secs(60)));
        let busy = pool.busy();
        assert!(!pool.is_quiet(Duration::ZERO));
        drop(busy);
        assert!(pool.is_quiet(Duration::ZERO));
        assert!(!pool.is_quiet(Duration::from_secs(60)));
    }
}
