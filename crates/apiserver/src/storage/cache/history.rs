//! The recent changes of a kind, from which watches are served.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use berth_store::Revision;
use tokio::time::Instant;

use crate::storage::Stored;

/// How long changes are kept for watches to resume from, while they are many: a watch that is behind for a moment must not
/// have to begin again, just when there is most to do.
const FRESH: Duration = Duration::from_secs(30);
/// Most events that are kept, and as long as they are fresh.
const HISTORY_EVENTS: usize = 1024;
const FRESH_EVENTS: usize = 16 << 10;
/// Most bytes of objects that the history holds, and as long as they are fresh.
const HISTORY_BYTES: usize = 4 << 20;
const FRESH_BYTES: usize = 16 << 20;
/// A change of more bytes is the first to be given up when there are too many: one large object must not push the small
/// changes of all others out of the history.
const LARGE: usize = 32 << 10;

/// A change of one object.
#[derive(Clone, Debug)]
pub struct Change {
    /// Revision of the change.
    pub revision: Revision,
    /// The object after the change; for a deletion, its last state at the deletion's revision.
    pub object: Arc<Stored>,
    /// The object before the change.
    pub previous: Option<Arc<Stored>>,
    /// Whether the object is gone.
    pub deleted: bool,
    /// Whether the bytes of the objects were given up to save memory. Names, labels and fields are still there: a watch
    /// that selects the object cannot resume across this change, any other can.
    pub emptied: bool,
    /// When it was seen.
    pub(super) at: Instant,
}

impl Change {
    /// Bytes that the change holds. Those of the object before count too: once that is no longer the present state,
    /// the history alone keeps it.
    fn size(&self) -> usize {
        self.object.bytes.len() + self.previous.as_ref().map_or(0, |p| p.bytes.len())
    }

    fn empty(&mut self) {
        self.object = Arc::new(self.object.without_bytes());
        self.previous = self.previous.as_ref().map(|p| Arc::new(p.without_bytes()));
        self.emptied = true;
    }
}

/// See the module.
#[derive(Default)]
pub(super) struct History {
    changes: VecDeque<Change>,
    bytes: usize,
    /// How many of them are large.
    large: usize,
    /// Every change after this revision is in `changes`.
    start: Revision,
}

impl History {
    /// An empty one, which begins after a revision.
    pub(super) fn new(start: Revision) -> Self {
        Self {
            start,
            ..Self::default()
        }
    }

    /// Every change after this revision is there.
    pub(super) fn start(&self) -> Revision {
        self.start
    }

    /// Adds a change, and gives up what is too much of it: the oldest large changes lose their bytes, and
    /// only without them the oldest of all go.
    pub(super) fn remember(&mut self, change: Change) {
        let now = change.at;
        self.bytes += change.size();
        self.large += usize::from(change.size() > LARGE);
        self.changes.push_back(change);
        while self.changes.len() > FRESH_EVENTS {
            self.forget_oldest();
        }
        while self.changes.len() > HISTORY_EVENTS && !self.is_oldest_fresh(now) {
            self.forget_oldest();
        }
        if self.bytes > HISTORY_BYTES {
            self.empty_large();
        }
        while self.bytes > HISTORY_BYTES && !self.is_oldest_fresh(now) {
            self.forget_oldest();
        }
        while self.bytes > FRESH_BYTES && self.forget_oldest() {}
    }

    fn is_oldest_fresh(&self, now: Instant) -> bool {
        let oldest = self.changes.front();
        oldest.is_some_and(|change| now.saturating_duration_since(change.at) < FRESH)
    }

    /// Takes the bytes of the oldest large changes, as many as are too much.
    fn empty_large(&mut self) {
        for change in &mut self.changes {
            if self.bytes <= HISTORY_BYTES || self.large == 0 {
                return;
            }
            let size = change.size();
            if size > LARGE {
                change.empty();
                self.bytes -= size;
                self.large -= 1;
            }
        }
    }

    fn forget_oldest(&mut self) -> bool {
        let Some(old) = self.changes.pop_front() else {
            return false;
        };
        self.bytes -= old.size();
        self.large -= usize::from(old.size() > LARGE);
        self.start = old.revision;
        true
    }

    /// The changes after `revision`, oldest first: at most `limit`, and no more after `limit_bytes`.
    ///
    /// # Errors
    /// The oldest revision that can be resumed from, when `revision` is before it.
    pub(super) fn since(
        &self,
        revision: Revision,
        limit: usize,
        limit_bytes: usize,
    ) -> Result<Vec<Change>, Revision> {
        if revision < self.start {
            return Err(self.start);
        }
        let from = self.changes.partition_point(|c| c.revision <= revision);
        let mut changes: Vec<Change> = Vec::new();
        let mut bytes = 0;
        for change in self.changes.range(from..) {
            let enough = changes.len() >= limit || bytes >= limit_bytes;
            // Changes of one revision are never split: who goes on after it would miss the rest.
            if enough
                && changes
                    .last()
                    .is_some_and(|c| c.revision != change.revision)
            {
                break;
            }
            bytes += change.object.bytes.len();
            changes.push(change.clone());
        }
        Ok(changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use serde_json::json;

    /// A change of an object with so many bytes of data.
    fn change(at: Instant, revision: Revision, name: &str, size: usize) -> Change {
        let storage: Arc<str> = "core/configmaps".into();
        let key = format!("/registry/core/configmaps/a/{name}");
        let object =
            json!({"metadata": {"name": name, "namespace": "a"}, "data": {"x": "x".repeat(size)}});
        let value = Bytes::from(object.to_string());
        let stored = || Arc::new(Stored::parse(&storage, &key, &value, revision, &[]));
        Change {
            revision,
            object: stored(),
            previous: Some(stored()),
            deleted: false,
            emptied: false,
            at,
        }
    }

    #[test]
    fn one_large_object_does_not_push_out_the_history_of_others() {
        let (mut history, now) = (History::default(), Instant::now());
        for revision in 1..=200 {
            history.remember(change(now, revision, &format!("small{revision}"), 100));
        }
        for revision in 201..=220 {
            history.remember(change(now, revision, "large", 1 << 20));
        }
        let changes = history.since(0, usize::MAX, usize::MAX).unwrap();
        assert_eq!(changes.len(), 220);
        assert!(changes[..200].iter().all(|c| !c.emptied));
        assert!(changes[200].emptied, "the oldest large one goes first");
        assert!(!changes[219].emptied, "the newest is kept");
        assert_eq!(changes[200].object.name.as_ref(), "large");
        assert!(history.bytes <= HISTORY_BYTES);
        let held: usize = history.changes.iter().map(Change::size).sum();
        assert_eq!(history.bytes, held);
        let large = history.changes.iter().filter(|c| c.size() > LARGE).count();
        assert_eq!(history.large, large);
    }

    #[test]
    fn small_changes_go_when_they_are_too_many() {
        let (mut history, now) = (History::default(), Instant::now());
        for revision in 1..=2000 {
            history.remember(change(now, revision, "same", 10_000));
        }
        assert!(history.bytes <= FRESH_BYTES && history.bytes > FRESH_BYTES / 2);
        assert!(history.since(1, 10, 10).is_err());
        assert!(history.since(1500, 10, 10).is_ok(), "a watch may be behind");
        history.remember(change(now + FRESH, 2001, "same", 10_000));
        assert!(history.bytes <= HISTORY_BYTES && history.bytes > HISTORY_BYTES / 2);
        assert!(history.since(1500, 10, 10).is_err());
    }

    #[test]
    fn fresh_changes_are_kept_in_numbers() {
        let (mut history, now) = (History::default(), Instant::now());
        for revision in 1..=5000 {
            history.remember(change(now, revision, "same", 10));
        }
        assert!(history.since(0, 1, 1).is_ok());
        history.remember(change(now + FRESH, 5001, "same", 10));
        assert_eq!(history.changes.len(), HISTORY_EVENTS);
        assert!(history.since(0, 1, 1).is_err());
    }
}
