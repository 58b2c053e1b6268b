//! Writes that count what others write at the same time, also where several servers write.
//!
//! A guard is a key that every such write of a namespace changes, in the transaction of the write itself, from the
//! revision that the caches had when the count began. If another server was faster, the transaction fails as a whole:
//! the caches then catch up, what is there is counted again, and the write is tried again. So no two writes are judged
//! by the same state. A store that only this process writes to needs none: there a lock is enough.

use std::collections::HashMap;

use berth_store::{Event, Expect, KeyValue, Revision, Write};
use bytes::Bytes;
use parking_lot::RwLock;

use super::{Storage, key};

/// The guards that there are, with their revisions.
#[derive(Default)]
pub(super) struct Guards(RwLock<HashMap<String, Revision>>);

impl Guards {
    pub(super) fn apply(&self, event: &Event) {
        if !key::is_guard(&event.key) {
            return;
        }
        let mut guards = self.0.write();
        match event.value {
            Some(_) => guards.insert(event.key.clone(), event.revision),
            None => guards.remove(&event.key),
        };
    }

    pub(super) fn reset(&self, found: &[KeyValue]) {
        *self.0.write() = found
            .iter()
            .map(|kv| (kv.key.clone(), kv.revision))
            .collect();
    }

    fn expect(&self, key: &str) -> Expect {
        match self.0.read().get(key) {
            Some(revision) => Expect::Revision(*revision),
            None => Expect::Absent,
        }
    }
}

/// The guard of a namespace as it was before something was counted.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    key: String,
    expect: Expect,
}

impl Guard {
    /// Whether this is its key.
    pub(super) fn is(&self, key: &str) -> bool {
        self.key == key
    }

    pub(super) fn write(&self) -> Write {
        Write {
            key: self.key.clone(),
            expect: self.expect,
            value: Some(Bytes::from_static(b"{}")),
        }
    }
}

impl Storage {
    /// The guard of a namespace, to be taken before anything is counted; none where a lock is enough.
    pub(crate) fn guard(&self, namespace: &str) -> Option<Guard> {
        let key = key::guard(namespace);
        self.store.is_shared().then(|| Guard {
            expect: self.guards.expect(&key),
            key,
        })
    }

    /// Takes what is now the guard's revision.
    pub(super) fn renew(&self, guard: &mut Guard) {
        guard.expect = self.guards.expect(&guard.key);
    }

    /// Removes the guards of namespaces that are gone.
    pub(crate) async fn remove_unused_guards(&self, is_there: impl Fn(&str) -> bool) {
        let unused: Vec<(String, Revision)> = {
            let guards = self.guards.0.read();
            let unused = guards
                .iter()
                .filter(|(key, _)| key::guarded(key).is_some_and(|namespace| !is_there(namespace)));
            unused.map(|(key, at)| (key.clone(), *at)).collect()
        };
        for (key, revision) in unused {
            let write = Write {
                key,
                expect: Expect::Revision(revision),
                value: None,
            };
            if let Err(error) = self.store.transact(vec![write]).await {
                tracing::warn!(%error, "the guard of a namespace that is gone could not be removed");
                return;
            }
        }
    }
}
