//! Objects decoded once for each of their changes: who may write some of a kind must not make every request of everybody
//! decode all of them.

use std::collections::HashMap;
use std::sync::Arc;

use berth_store::Revision;
use serde::de::DeserializeOwned;

use super::Stored;

/// Namespace and name.
type Key = (Arc<str>, Arc<str>);

/// The objects of a kind at their last revisions; none for what cannot be decoded.
pub(crate) struct Decoded<T>(HashMap<Key, (Revision, Option<Arc<T>>)>);

impl<T> Default for Decoded<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: DeserializeOwned> Decoded<T> {
    /// All objects that can be decoded; only what has changed since the last time is.
    pub(crate) fn of(&mut self, stored: Vec<Arc<Stored>>) -> Vec<Arc<T>> {
        let pairs = self.pairs(stored).into_iter();
        pairs.map(|(_, decoded)| decoded).collect()
    }

    /// The same, each with what it was decoded from.
    pub(crate) fn pairs(&mut self, stored: Vec<Arc<Stored>>) -> Vec<(Arc<Stored>, Arc<T>)> {
        let mut before = std::mem::take(&mut self.0);
        self.0.reserve(stored.len());
        let mut all = Vec::with_capacity(stored.len());
        for object in stored {
            let key = (Arc::clone(&object.namespace), Arc::clone(&object.name));
            let known = before.remove(&key);
            let known = known.filter(|(revision, _)| *revision == object.revision);
            let (revision, decoded) = known.unwrap_or_else(|| {
                let decoded = object.decode().ok().map(Arc::new);
                (object.revision, decoded)
            });
            if let Some(decoded) = &decoded {
                all.push((object, Arc::clone(decoded)));
            }
            self.0.insert(key, (revision, decoded));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    static DECODED: AtomicUsize = AtomicUsize::new(0);

    struct Counted;

    impl<'de> serde::Deserialize<'de> for Counted {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            serde::de::IgnoredAny::deserialize(deserializer)?;
            DECODED.fetch_add(1, Ordering::Relaxed);
            Ok(Self)
        }
    }

    fn stored(name: &str, revision: Revision) -> Arc<Stored> {
        Arc::new(Stored {
            storage: "rbac.authorization.k8s.io/roles".into(),
            namespace: "a".into(),
            name: name.into(),
            revision,
            bytes: "{}".into(),
            labels: Arc::default(),
            fields: Arc::default(),
            owners: Arc::default(),
            uid: Box::default(),
            deletion_timestamp: None,
            corrupt: false,
            stale: false,
            memo: crate::storage::Memo::default(),
        })
    }

    #[test]
    fn what_has_not_changed_is_not_decoded_again() {
        let mut decoded = Decoded::<Counted>::default();
        let many = |changed: Revision| -> Vec<_> {
            let all = (0..100).map(|n| stored(&format!("r{n}"), 1));
            all.chain([stored("mine", changed)]).collect()
        };
        assert_eq!(decoded.of(many(2)).len(), 101);
        assert_eq!(decoded.of(many(3)).len(), 101);
        assert_eq!(DECODED.load(Ordering::Relaxed), 102);
        // What is gone is not kept.
        assert_eq!(decoded.of(vec![stored("mine", 3)]).len(), 1);
        assert_eq!(decoded.0.len(), 1);
        assert_eq!(DECODED.load(Ordering::Relaxed), 102);
    }
}
