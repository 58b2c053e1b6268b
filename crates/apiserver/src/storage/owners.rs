//! Who owns the objects of one storage name, so that a deletion need not look at each of them.

use std::collections::HashMap;
use std::sync::Arc;

use super::Stored;

/// How many objects of each namespace name a UID as their owner.
#[derive(Debug, Default)]
pub(super) struct Owners {
    dependents: HashMap<Box<str>, HashMap<Arc<str>, usize>>,
}

impl Owners {
    /// Counts an object that has come.
    pub(super) fn add(&mut self, object: &Stored) {
        for uid in object.owners.iter() {
            let of_uid = self.dependents.entry(uid.clone()).or_default();
            *of_uid.entry(Arc::clone(&object.namespace)).or_default() += 1;
        }
    }

    /// No longer counts an object that is gone or was replaced.
    pub(super) fn remove(&mut self, object: &Stored) {
        for uid in object.owners.iter() {
            let Some(of_uid) = self.dependents.get_mut(uid) else {
                continue;
            };
            if let Some(count) = of_uid.get_mut(&object.namespace) {
                *count -= 1;
                if *count == 0 {
                    of_uid.remove(&object.namespace);
                }
            }
            if of_uid.is_empty() {
                self.dependents.remove(uid);
            }
        }
    }

    /// Whether an object of a namespace (or of any) is counted for a UID.
    pub(super) fn has_dependents(&self, uid: &str, namespace: Option<&str>) -> bool {
        self.dependents
            .get(uid)
            .is_some_and(|of_uid| namespace.is_none_or(|namespace| of_uid.contains_key(namespace)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn owned(namespace: &str, name: &str, uid: &str) -> Stored {
        let value = serde_json::json!({"metadata": {"name": name, "namespace": namespace,
            "ownerReferences": [{"uid": uid}]}});
        let key = format!("/registry/core/pods/{namespace}/{name}");
        let value = Bytes::from(value.to_string());
        Stored::parse(&"core/pods".into(), &key, &value, 1, &[])
    }

    #[test]
    fn dependents_come_and_go() {
        let mut owners = Owners::default();
        let (a, b) = (owned("n", "a", "u"), owned("n", "b", "u"));
        owners.add(&a);
        owners.add(&b);
        owners.remove(&a);
        assert!(owners.has_dependents("u", Some("n")));
        assert!(owners.has_dependents("u", None));
        assert!(!owners.has_dependents("u", Some("m")));
        assert!(!owners.has_dependents("v", None));
        owners.remove(&b);
        assert!(!owners.has_dependents("u", None));
        assert!(owners.dependents.is_empty());
    }
}
