//! Objects by id, and the names they hold.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::error::CriError;

/// How many objects are remembered after their end.
const GONE_MAX: usize = 1024;

/// All sandboxes, or all containers.
pub(crate) struct Registry<T> {
    kind: &'static str,
    items: RwLock<BTreeMap<String, Arc<T>>>,
    names: Mutex<HashMap<String, String>>,
    /// The ids of those that were removed last.
    gone: Mutex<VecDeque<String>>,
}

impl<T> Registry<T> {
    pub(crate) fn new(kind: &'static str) -> Self {
        Self {
            kind,
            items: RwLock::default(),
            names: Mutex::default(),
            gone: Mutex::default(),
        }
    }

    /// Whether an id is that of an object that is being made, or was removed not long ago.
    pub(crate) fn is_made_or_gone(&self, id: &str) -> bool {
        let gone = self.gone.lock().iter().any(|gone| gone == id);
        gone || self.names.lock().values().any(|holder| holder == id)
    }

    /// By full id, or by a beginning of one that fits only one.
    pub(crate) fn get(&self, id: &str) -> Result<Arc<T>, CriError> {
        let items = self.items.read();
        if let Some(item) = items.get(id) {
            return Ok(Arc::clone(item));
        }
        let mut matches = items
            .range(id.to_owned()..)
            .take_while(|(key, _)| key.starts_with(id));
        match (matches.next(), matches.next()) {
            (Some((_, item)), None) if !id.is_empty() => Ok(Arc::clone(item)),
            (Some(_), Some(_)) if !id.is_empty() => Err(CriError::Ambiguous {
                kind: self.kind,
                id: id.to_owned(),
            }),
            _ => Err(CriError::NotFound {
                kind: self.kind,
                id: id.to_owned(),
            }),
        }
    }

    pub(crate) fn all(&self) -> Vec<Arc<T>> {
        self.items.read().values().cloned().collect()
    }

    pub(crate) fn insert(&self, id: &str, item: Arc<T>) {
        self.items.write().insert(id.to_owned(), item);
    }

    /// Forgets an object and gives its name free.
    pub(crate) fn remove(&self, id: &str) {
        self.items.write().remove(id);
        self.names.lock().retain(|_, holder| holder != id);
        let mut gone = self.gone.lock();
        gone.push_back(id.to_owned());
        if gone.len() > GONE_MAX {
            gone.pop_front();
        }
    }

    /// Takes a name for an id; a name is held until [`Registry::remove`].
    pub(crate) fn reserve(&self, name: &str, id: &str) -> Result<(), CriError> {
        let mut names = self.names.lock();
        if let Some(holder) = names.get(name) {
            return Err(CriError::NameInUse {
                kind: self.kind,
                name: name.to_owned(),
                id: holder.clone(),
            });
        }
        names.insert(name.to_owned(), id.to_owned());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_by_a_beginning_that_fits_only_one() {
        let registry = Registry::new("thing");
        for id in ["abc1", "abd2"] {
            registry.insert(id, Arc::new(id));
        }
        assert_eq!(*registry.get("abc").unwrap(), "abc1");
        assert_eq!(*registry.get("abd2").unwrap(), "abd2");
        assert!(matches!(
            registry.get("ab"),
            Err(CriError::Ambiguous { .. })
        ));
        assert!(matches!(registry.get("x"), Err(CriError::NotFound { .. })));
        assert!(matches!(registry.get(""), Err(CriError::NotFound { .. })));
    }

    #[test]
    fn a_name_is_held_until_its_object_is_removed() {
        let registry: Registry<()> = Registry::new("thing");
        registry.reserve("n", "1").unwrap();
        assert!(matches!(
            registry.reserve("n", "2"),
            Err(CriError::NameInUse { .. })
        ));
        registry.remove("1");
        registry.reserve("n", "2").unwrap();
    }

    #[test]
    fn the_last_ones_that_went_are_remembered() {
        let registry: Registry<()> = Registry::new("thing");
        assert!(!registry.is_made_or_gone("0"));
        registry.reserve("n", "0").unwrap();
        assert!(registry.is_made_or_gone("0"));
        for id in 0..=GONE_MAX {
            registry.remove(&id.to_string());
        }
        assert!(!registry.is_made_or_gone("0"));
        assert!(registry.is_made_or_gone("1"));
        assert!(registry.is_made_or_gone(&GONE_MAX.to_string()));
    }
}
