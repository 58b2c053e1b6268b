//! The objects of one storage name, and their recent history for watches.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use arc_swap::ArcSwap;
use berth_store::{Event, KeyValue, Revision};
use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::watch;

use super::encryption::Transformer;
use super::owners::Owners;
use super::{Stored, key};
use crate::field_label::FieldLabel;

/// Most events that are kept for watches to resume from.
const HISTORY_EVENTS: usize = 1024;
/// Most bytes of objects that the history holds.
const HISTORY_BYTES: usize = 4 << 20;
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

#[derive(Default)]
struct Inner {
    items: BTreeMap<Box<str>, Arc<Stored>>,
    /// Bytes of all items.
    bytes: usize,
    /// Who owns the items.
    owners: Owners,
    history: VecDeque<Change>,
    history_bytes: usize,
    /// Every change after this revision is in `history`.
    history_start: Revision,
    changed_at: Revision,
}

impl Inner {
    /// Adds a change to the history, and gives up what is too much of it: the oldest large changes lose their bytes, and
    /// only without them the oldest of all go.
    fn remember(&mut self, change: Change) {
        self.history_bytes += change.size();
        self.history.push_back(change);
        while self.history.len() > HISTORY_EVENTS {
            self.forget_oldest();
        }
        if self.history_bytes <= HISTORY_BYTES {
            return;
        }
        for change in &mut self.history {
            if self.history_bytes <= HISTORY_BYTES {
                return;
            }
            let size = change.size();
            if size > LARGE {
                change.empty();
                self.history_bytes -= size;
            }
        }
        while self.history_bytes > HISTORY_BYTES && self.forget_oldest() {}
    }

    fn forget_oldest(&mut self) -> bool {
        let Some(old) = self.history.pop_front() else {
            return false;
        };
        self.history_bytes -= old.size();
        self.history_start = old.revision;
        true
    }
}

/// Objects of one storage name, by `namespace/name` or `name`.
pub struct ResourceCache {
    storage: Arc<str>,
    labels: RwLock<Arc<[FieldLabel]>>,
    transformer: ArcSwap<Transformer>,
    inner: RwLock<Inner>,
    changed: watch::Sender<Revision>,
}

fn item_key(namespace: &str, name: &str) -> String {
    if namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}/{name}")
    }
}

fn items_of(inner: &Inner, namespace: Option<&str>) -> Vec<Arc<Stored>> {
    match namespace {
        None | Some("") => inner.items.values().cloned().collect(),
        Some(namespace) => {
            let prefix = format!("{namespace}/");
            let from = (Bound::Included(prefix.as_str()), Bound::Unbounded);
            inner
                .items
                .range::<str, _>(from)
                .take_while(|(key, _)| key.starts_with(&prefix))
                .map(|(_, object)| Arc::clone(object))
                .collect()
        }
    }
}

impl ResourceCache {
    pub(super) fn new(
        storage: String,
        labels: Arc<[FieldLabel]>,
        transformer: Arc<Transformer>,
        start: Revision,
    ) -> Self {
        Self {
            storage: storage.into(),
            labels: RwLock::new(labels),
            transformer: ArcSwap::new(transformer),
            inner: RwLock::new(Inner {
                history_start: start,
                changed_at: start,
                ..Inner::default()
            }),
            changed: watch::Sender::new(start),
        }
    }

    /// The field labels that `Stored::fields` follows.
    #[must_use]
    pub fn field_labels(&self) -> Arc<[FieldLabel]> {
        Arc::clone(&self.labels.read())
    }

    /// Changes the field labels. What is held is read again; what a watch that resumes may still be sent is not.
    pub(super) fn set_field_labels(&self, labels: &Arc<[FieldLabel]>) {
        if **labels == **self.labels.read() {
            return;
        }
        let mut inner = self.inner.write();
        *self.labels.write() = Arc::clone(labels);
        for object in inner.items.values_mut() {
            *object = Arc::new(object.with_fields(labels));
        }
    }

    /// One object.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Stored>> {
        self.inner
            .read()
            .items
            .get(item_key(namespace, name).as_str())
            .cloned()
    }

    /// Objects of a namespace or of all, in key order.
    #[must_use]
    pub fn list(&self, namespace: Option<&str>) -> Vec<Arc<Stored>> {
        items_of(&self.inner.read(), namespace)
    }

    /// Objects of a namespace or of all, in key order, and the revision of the whole store at which
    /// they are complete; `applied` is up to where the caches are known to be.
    #[must_use]
    pub fn snapshot(
        &self,
        namespace: Option<&str>,
        applied: Revision,
    ) -> (Vec<Arc<Stored>>, Revision) {
        let inner = self.inner.read();
        let revision = applied.max(inner.changed_at).max(inner.history_start);
        (items_of(&inner, namespace), revision)
    }

    /// How many objects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.read().items.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all objects.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.inner.read().bytes
    }

    /// Revision of the last change.
    #[must_use]
    pub fn changed_at(&self) -> Revision {
        self.inner.read().changed_at
    }

    /// Tells of changes of this storage name only.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Revision> {
        self.changed.subscribe()
    }

    /// The changes after `revision`, oldest first: at most `limit`, and no more after `limit_bytes`.
    ///
    /// # Errors
    /// The oldest revision that can be resumed from, when `revision` is before it.
    pub fn since(
        &self,
        revision: Revision,
        limit: usize,
        limit_bytes: usize,
    ) -> Result<Vec<Change>, Revision> {
        let inner = self.inner.read();
        if revision < inner.history_start {
            return Err(inner.history_start);
        }
        let from = inner.history.partition_point(|c| c.revision <= revision);
        let mut changes: Vec<Change> = Vec::new();
        let mut bytes = 0;
        for change in inner.history.range(from..) {
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

    /// Whether an object of a namespace (or of all) names this UID as an owner.
    #[must_use]
    pub fn has_dependents(&self, uid: &str, namespace: Option<&str>) -> bool {
        self.inner.read().owners.has_dependents(uid, namespace)
    }

    pub(super) fn parse(&self, key: &str, value: &Bytes, revision: Revision) -> Stored {
        let labels = self.labels.read();
        match self.transformer.load().open(key, value) {
            Ok(opened) => Stored {
                stale: opened.stale,
                ..Stored::parse(&self.storage, key, &opened.value, revision, &labels)
            },
            // Not even its bytes are shown to anybody.
            Err(error) => {
                Stored::corrupt(&self.storage, key, Bytes::new(), revision, &labels, &error)
            }
        }
    }

    /// How the objects are written.
    pub(super) fn transformer(&self) -> Arc<Transformer> {
        self.transformer.load_full()
    }

    /// Changes how the objects are written and read. What is held counts as written in another way until it is written
    /// again: whether it is can only be seen of its bytes in the store. The answer: whether some of it could not be read
    /// so far.
    pub(super) fn set_transformer(&self, transformer: Arc<Transformer>) -> bool {
        let mut inner = self.inner.write();
        let changes = !(transformer.is_plain() && self.transformer.load().is_plain());
        self.transformer.store(transformer);
        let mut corrupt = false;
        for object in inner.items.values_mut().filter(|_| changes) {
            corrupt |= object.corrupt;
            *object = Arc::new(Stored {
                stale: true,
                ..object.as_ref().clone()
            });
        }
        corrupt
    }

    /// Puts the state at a revision in place of what is held; watches cannot resume across it.
    pub(super) fn reset(&self, items: &[KeyValue], revision: Revision) {
        // Something that was there may be gone: what was made from the objects before holds no longer, even if all that
        // are left are old.
        let mut fresh = Inner {
            history_start: revision,
            changed_at: revision,
            ..Inner::default()
        };
        for kv in items {
            if let Some(tail) = key::tail_of(&kv.key, &self.storage) {
                let stored = self.parse(&kv.key, &kv.value, kv.revision);
                fresh.bytes += stored.bytes.len();
                fresh.owners.add(&stored);
                fresh.items.insert(tail.into(), Arc::new(stored));
            }
        }
        *self.inner.write() = fresh;
        self.changed.send_replace(revision);
    }

    pub(super) fn apply(&self, event: &Event) {
        let Some(tail) = key::tail_of(&event.key, &self.storage) else {
            return;
        };
        let parsed = event
            .value
            .as_ref()
            .map(|value| Arc::new(self.parse(&event.key, value, event.revision)));
        {
            let mut inner = self.inner.write();
            inner.changed_at = event.revision;
            let change = match parsed {
                Some(object) => {
                    inner.bytes += object.bytes.len();
                    inner.owners.add(&object);
                    let previous = inner.items.insert(tail.into(), Arc::clone(&object));
                    if let Some(previous) = &previous {
                        inner.bytes -= previous.bytes.len();
                        inner.owners.remove(previous);
                    }
                    Change {
                        revision: event.revision,
                        object,
                        previous,
                        deleted: false,
                        emptied: false,
                    }
                }
                None => {
                    let Some(previous) = inner.items.remove(tail) else {
                        return;
                    };
                    inner.bytes -= previous.bytes.len();
                    inner.owners.remove(&previous);
                    Change {
                        revision: event.revision,
                        object: Arc::new(previous.at(event.revision)),
                        previous: Some(previous),
                        deleted: true,
                        emptied: false,
                    }
                }
            };
            inner.remember(change);
        }
        self.changed.send_replace(event.revision);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> ResourceCache {
        ResourceCache::new(
            "core/configmaps".to_owned(),
            Arc::default(),
            Arc::default(),
            0,
        )
    }

    fn put(cache: &ResourceCache, revision: Revision, name: &str, size: usize) {
        let data = "x".repeat(size);
        let object =
            serde_json::json!({"metadata": {"name": name, "namespace": "a"}, "data": {"x": data}});
        cache.apply(&Event {
            key: key::object("core/configmaps", "a", name),
            revision,
            value: Some(object.to_string().into()),
        });
    }

    #[test]
    fn one_large_object_does_not_push_out_the_history_of_others() {
        let cache = cache();
        for revision in 1..=200 {
            put(&cache, revision, &format!("small{revision}"), 100);
        }
        for revision in 201..=220 {
            put(&cache, revision, "large", 1 << 20);
        }
        let changes = cache.since(0, usize::MAX, usize::MAX).unwrap();
        assert_eq!(changes.len(), 220);
        assert!(changes[..200].iter().all(|c| !c.emptied));
        assert!(changes[200].emptied, "the oldest large one goes first");
        assert!(!changes[219].emptied, "the newest is kept");
        assert_eq!(changes[200].object.name.as_ref(), "large");
        let inner = cache.inner.read();
        assert!(inner.history_bytes <= HISTORY_BYTES);
        let held: usize = inner.history.iter().map(Change::size).sum();
        assert_eq!(inner.history_bytes, held);
        let items: usize = inner.items.values().map(|i| i.bytes.len()).sum();
        assert_eq!(inner.bytes, items);
    }

    #[test]
    fn small_changes_go_when_they_are_too_many() {
        let cache = cache();
        for revision in 1..=2000 {
            put(&cache, revision, "same", 10_000);
        }
        let inner = cache.inner.read();
        assert!(inner.history_bytes <= HISTORY_BYTES && inner.history_bytes > HISTORY_BYTES / 2);
        assert!(inner.history_start > 1000);
        drop(inner);
        assert!(cache.since(1, 10, 10).is_err());
    }

    #[test]
    fn what_was_removed_unseen_is_a_change() {
        let cache = cache();
        put(&cache, 1, "a", 1);
        put(&cache, 2, "b", 1);
        let before = cache.changed_at();
        let key = key::object("core/configmaps", "a", "b");
        let value = Bytes::from_static(br#"{"metadata": {"name": "b", "namespace": "a"}}"#);
        let left = KeyValue {
            key,
            value,
            revision: 2,
        };
        cache.reset(&[left], 7);
        assert_eq!(cache.len(), 1);
        assert!(cache.changed_at() > before);
    }

    #[test]
    fn changes_are_read_in_parts() {
        let cache = cache();
        for revision in 1..=10 {
            put(&cache, revision, "a", 1000);
        }
        let count = |limit, bytes| cache.since(0, limit, bytes).unwrap().len();
        assert_eq!(count(3, usize::MAX), 3);
        assert_eq!(count(100, 2500), 3);
        assert_eq!(count(100, 1), 1);
        assert_eq!(cache.since(10, 100, 1).unwrap().len(), 0);
    }
}
