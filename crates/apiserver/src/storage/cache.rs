//! The objects of one storage name, and their recent history for watches.

mod history;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use berth_store::{Event, KeyValue, Revision};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio::time::Instant;

use super::encryption::Transformer;
use super::owners::Owners;
use super::parts::Parts;
use super::{Stored, key};
use crate::field_label::FieldLabel;
pub use history::Change;
use history::History;

/// From so many watches of a kind on they are not woken for each change.
const MANY_WATCHES: usize = 64;
/// How often they are woken then: each is sent what has gathered in one piece, and a thousand of them one after the other.
const GATHER: Duration = Duration::from_millis(20);
#[derive(Default)]
struct Inner {
    items: BTreeMap<Box<str>, Arc<Stored>>,
    /// Bytes of all items.
    bytes: usize,
    /// Who owns the items.
    owners: Owners,
    history: History,
    changed_at: Revision,
}

/// Objects of one storage name, by `namespace/name` or `name`.
pub struct ResourceCache {
    storage: Arc<str>,
    labels: RwLock<Arc<[FieldLabel]>>,
    transformer: ArcSwap<Transformer>,
    inner: RwLock<Inner>,
    changed: watch::Sender<Revision>,
    /// When many watches were last woken.
    told: Mutex<Option<Instant>>,
    parts: Parts,
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
                history: History::new(start),
                changed_at: start,
                ..Inner::default()
            }),
            changed: watch::Sender::new(start),
            told: Mutex::default(),
            parts: Parts::default(),
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
        let revision = applied.max(inner.changed_at).max(inner.history.start());
        (items_of(&inner, namespace), revision)
    }

    /// The first objects of a namespace (empty: of all) behind a key, how many there are after these, and the revision as
    /// [`ResourceCache::snapshot`] has it: a page costs no more when there are many. What is corrupt is left out.
    #[must_use]
    pub fn first(
        &self,
        namespace: &str,
        after: Option<&str>,
        limit: usize,
        applied: Revision,
    ) -> (Vec<Arc<Stored>>, usize, Revision) {
        let inner = self.inner.read();
        let revision = applied.max(inner.changed_at).max(inner.history.start());
        let prefix = item_key(namespace, "");
        let from = match after {
            Some(after) => Bound::Excluded(after),
            None => Bound::Included(prefix.as_str()),
        };
        let is_within = |key: &str| key.starts_with(&prefix);
        let mut range = inner
            .items
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(key, _)| is_within(key));
        let mut items = Vec::new();
        let mut seen = 0;
        while items.len() < limit
            && let Some((_, object)) = range.next()
        {
            seen += 1;
            if !object.corrupt {
                items.push(Arc::clone(object));
            }
        }
        let ends = [inner.items.first_key_value(), inner.items.last_key_value()];
        let is_whole = after.is_none() && ends.into_iter().flatten().all(|(key, _)| is_within(key));
        let left = if is_whole {
            inner.items.len() - seen
        } else {
            range.count()
        };
        (items, left, revision)
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

    /// Whether so many watch that they are woken together.
    #[must_use]
    pub(crate) fn has_many_watches(&self) -> bool {
        self.changed.receiver_count() >= MANY_WATCHES
    }

    /// What watches have in common.
    pub(crate) fn parts(&self) -> &Parts {
        &self.parts
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
        inner.history.since(revision, limit, limit_bytes)
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
            history: History::new(revision),
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
        self.parts.clear();
        self.changed.send_replace(revision);
    }

    /// Takes a change over. When it is not for watches to hear of at once: when it is.
    pub(super) fn apply(&self, event: &Event) -> Option<Instant> {
        let tail = key::tail_of(&event.key, &self.storage)?;
        let now = Instant::now();
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
                        at: now,
                    }
                }
                None => {
                    let previous = inner.items.remove(tail)?;
                    inner.bytes -= previous.bytes.len();
                    inner.owners.remove(&previous);
                    Change {
                        revision: event.revision,
                        object: Arc::new(previous.at(event.revision)),
                        previous: Some(previous),
                        deleted: true,
                        emptied: false,
                        at: now,
                    }
                }
            };
            inner.history.remember(change);
        }
        if self.has_many_watches() {
            let due = self.told.lock().map(|told| told + GATHER);
            if due.is_some_and(|due| due > now) {
                return due;
            }
        }
        self.tell(now);
        None
    }

    /// Wakes the watches.
    pub(super) fn tell(&self, now: Instant) {
        *self.told.lock() = Some(now);
        self.changed.send_replace(self.changed_at());
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

    fn put(cache: &ResourceCache, revision: Revision, name: &str, size: usize) -> Option<Instant> {
        let data = "x".repeat(size);
        let object =
            serde_json::json!({"metadata": {"name": name, "namespace": "a"}, "data": {"x": data}});
        cache.apply(&Event {
            key: key::object("core/configmaps", "a", name),
            revision,
            value: Some(object.to_string().into()),
        })
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
    fn many_watches_are_woken_once_for_what_has_gathered() {
        let cache = cache();
        let mut watches: Vec<_> = (0..MANY_WATCHES).map(|_| cache.subscribe()).collect();
        assert_eq!(put(&cache, 1, "a", 1), None);
        assert!(watches.iter().all(|w| w.has_changed().unwrap()), "at once");
        for watch in &mut watches {
            watch.mark_unchanged();
        }
        let told = Instant::now() + Duration::from_secs(3600);
        *cache.told.lock() = Some(told);
        assert_eq!(put(&cache, 2, "a", 1), Some(told + GATHER));
        assert_eq!(put(&cache, 3, "a", 1), Some(told + GATHER));
        assert!(!watches[0].has_changed().unwrap());
        let seen = cache.since(1, 9, 99).unwrap();
        assert_eq!(seen.len(), 2, "who looks sees them");
        cache.tell(told);
        assert_eq!(*watches[0].borrow_and_update(), 3);
        watches.truncate(MANY_WATCHES - 1);
        assert_eq!(put(&cache, 4, "a", 1), None, "a few are woken each time");
        assert!(watches[0].has_changed().unwrap());
    }

    #[test]
    fn the_first_objects_are_found_with_the_number_of_the_others() {
        let cache = cache();
        for (revision, name) in (1..).zip(["a", "b", "c", "d"]) {
            put(&cache, revision, name, 1);
        }
        let first = |namespace, after, limit| {
            let (items, left, revision) = cache.first(namespace, after, limit, 9);
            assert_eq!(revision, 9);
            let names = items.iter().map(|item| item.name.to_string());
            (names.collect::<Vec<_>>().join(","), left)
        };
        assert_eq!(first("", None, 3), ("a,b,c".to_owned(), 1));
        assert_eq!(first("a", None, 4), ("a,b,c,d".to_owned(), 0));
        assert_eq!(first("a", Some("a/b"), 1), ("c".to_owned(), 1));
        assert_eq!(first("b", None, 1), (String::new(), 0));
        let other = Event {
            key: key::object("core/configmaps", "b", "z"),
            revision: 5,
            value: Some(Bytes::from_static(
                br#"{"metadata":{"name":"z","namespace":"b"}}"#,
            )),
        };
        cache.apply(&other);
        assert_eq!(first("a", None, 3), ("a,b,c".to_owned(), 1));
        assert_eq!(first("", Some("a/d"), 3), ("z".to_owned(), 0));
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
