//! The objects of one storage name, and their recent history for watches.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use berth_store::{Event, KeyValue, Revision};
use bytes::Bytes;
use parking_lot::RwLock;
use tokio::sync::watch;

use super::owners::Owners;
use super::{Stored, key};
use crate::strategy::FieldLabel;

/// Most events that are kept for watches to resume from.
const HISTORY_EVENTS: usize = 1024;
/// Most bytes of objects that the history holds.
const HISTORY_BYTES: usize = 2 << 20;

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
}

#[derive(Default)]
struct Inner {
    items: BTreeMap<Box<str>, Arc<Stored>>,
    /// Who owns the items.
    owners: Owners,
    history: VecDeque<Change>,
    history_bytes: usize,
    /// Every change after this revision is in `history`.
    history_start: Revision,
    changed_at: Revision,
}

/// Objects of one storage name, by `namespace/name` or `name`.
pub struct ResourceCache {
    storage: Arc<str>,
    labels: &'static [FieldLabel],
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
    pub(super) fn new(storage: String, labels: &'static [FieldLabel], start: Revision) -> Self {
        Self {
            storage: storage.into(),
            labels,
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
    pub fn field_labels(&self) -> &'static [FieldLabel] {
        self.labels
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

    /// The changes after `revision`, oldest first.
    ///
    /// # Errors
    /// The oldest revision that can be resumed from, when `revision` is before it.
    pub fn since(&self, revision: Revision) -> Result<Vec<Change>, Revision> {
        let inner = self.inner.read();
        if revision < inner.history_start {
            return Err(inner.history_start);
        }
        let from = inner.history.partition_point(|c| c.revision <= revision);
        Ok(inner.history.range(from..).cloned().collect())
    }

    /// Whether an object of a namespace (or of all) names this UID as an owner.
    #[must_use]
    pub fn has_dependents(&self, uid: &str, namespace: Option<&str>) -> bool {
        self.inner.read().owners.has_dependents(uid, namespace)
    }

    pub(super) fn parse(&self, key: &str, value: &Bytes, revision: Revision) -> Stored {
        Stored::parse(&self.storage, key, value, revision, self.labels)
    }

    /// Puts the state at a revision in place of what is held; watches cannot resume across it.
    pub(super) fn reset(&self, items: &[KeyValue], revision: Revision) {
        let mut fresh = Inner {
            history_start: revision,
            ..Inner::default()
        };
        for kv in items {
            if let Some(tail) = key::tail_of(&kv.key, &self.storage) {
                let stored = self.parse(&kv.key, &kv.value, kv.revision);
                fresh.changed_at = fresh.changed_at.max(kv.revision);
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
                    inner.owners.add(&object);
                    let previous = inner.items.insert(tail.into(), Arc::clone(&object));
                    if let Some(previous) = &previous {
                        inner.owners.remove(previous);
                    }
                    Change {
                        revision: event.revision,
                        object,
                        previous,
                        deleted: false,
                    }
                }
                None => {
                    let Some(previous) = inner.items.remove(tail) else {
                        return;
                    };
                    inner.owners.remove(&previous);
                    Change {
                        revision: event.revision,
                        object: Arc::new(previous.at(event.revision)),
                        previous: Some(previous),
                        deleted: true,
                    }
                }
            };
            inner.history_bytes += change.object.bytes.len();
            inner.history.push_back(change);
            while inner.history.len() > HISTORY_EVENTS || inner.history_bytes > HISTORY_BYTES {
                let Some(old) = inner.history.pop_front() else {
                    break;
                };
                inner.history_bytes -= old.object.bytes.len();
                inner.history_start = old.revision;
            }
        }
        self.changed.send_replace(event.revision);
    }
}
