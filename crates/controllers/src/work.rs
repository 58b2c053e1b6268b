//! What a controller is to look at: each once at a time, several together, later and later when it fails, and counted.

use std::collections::HashMap;

use berth_supervise::measures::WorkQueue;
use tokio::time::Instant;

use crate::queue::Queue;

/// What is to be looked at, by UID or another key.
pub(crate) struct Work {
    measures: WorkQueue,
    queue: Queue,
    /// Since when each of those in the queue waits.
    waiting: HashMap<String, Instant>,
    /// Being looked at.
    busy: HashMap<String, Busy>,
}

/// Something that is being looked at.
struct Busy {
    /// It has changed meanwhile.
    again: bool,
    since: Instant,
}

impl Work {
    pub(crate) fn new(measures: WorkQueue) -> Self {
        Self {
            measures,
            queue: Queue::default(),
            waiting: HashMap::new(),
            busy: HashMap::new(),
        }
    }

    /// Has it looked at now.
    pub(crate) fn add(&mut self, key: String) {
        self.measures.added();
        self.enqueue(key, Queue::add);
    }

    /// Has it looked at then, if it is not due sooner.
    pub(crate) fn add_at(&mut self, key: String, at: Instant) {
        self.queue.add_at(key, at);
    }

    fn enqueue(&mut self, key: String, enqueue: fn(&mut Queue, String, Instant)) {
        let now = Instant::now();
        self.waiting.entry(key.clone()).or_insert(now);
        enqueue(&mut self.queue, key, now);
        self.measures.depth(self.waiting.len());
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.queue.next()
    }

    /// What is due; what is being looked at is looked at once more after that. `namespace_of` tells where an object is.
    pub(crate) fn take(&mut self, namespace_of: impl Fn(&str) -> Option<String>) -> Option<String> {
        while let Some(key) = self.queue.take(Instant::now(), &namespace_of) {
            let now = Instant::now();
            if let Some(since) = self.waiting.remove(&key) {
                self.measures.taken(now - since);
                self.measures.depth(self.waiting.len());
            }
            match self.busy.get_mut(&key) {
                Some(busy) => busy.again = true,
                None => {
                    let busy = Busy {
                        again: false,
                        since: now,
                    };
                    self.busy.insert(key.clone(), busy);
                    return Some(key);
                }
            }
        }
        None
    }

    /// It has been looked at. What has changed meanwhile is looked at once more.
    pub(crate) fn done(&mut self, key: String) {
        let again = self.finish(&key);
        self.queue.forget(&key);
        if again {
            self.add(key);
        }
    }

    /// It has been looked at, and has to be looked at again later.
    pub(crate) fn failed(&mut self, key: String) {
        self.finish(&key);
        self.measures.retried();
        self.enqueue(key, Queue::add_failed);
    }

    fn finish(&mut self, key: &str) -> bool {
        let busy = self.busy.remove(key);
        if let Some(busy) = &busy {
            self.measures.done(busy.since.elapsed());
        }
        busy.is_some_and(|busy| busy.again)
    }

    /// Its failures count no more.
    pub(crate) fn forget(&mut self, key: &str) {
        self.queue.forget(key);
    }
}
