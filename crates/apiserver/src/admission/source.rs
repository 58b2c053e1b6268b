//! What others have written, read once for each of its changes.

use std::collections::HashMap;
use std::sync::Arc;

use berth_api::status::ApiError;
use berth_store::Revision;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;

use crate::storage::{Storage, Unreadable};

/// The objects of one kind, each made into something that can be used.
pub(super) struct Source<T, C> {
    storage: Arc<Storage>,
    name: &'static str,
    make: Box<dyn Fn(&T) -> C + Send + Sync>,
    state: Mutex<State<C>>,
}

struct State<C> {
    /// Revision of the last change of the kind that was seen.
    seen: Option<Revision>,
    made: HashMap<Arc<str>, (Revision, Arc<C>)>,
    all: Result<Arc<[Arc<C>]>, Unreadable>,
}

impl<T: DeserializeOwned, C> Source<T, C> {
    /// The objects with this storage name.
    pub(super) fn new(
        storage: &Arc<Storage>,
        name: &'static str,
        make: impl Fn(&T) -> C + Send + Sync + 'static,
    ) -> Self {
        Self {
            storage: Arc::clone(storage),
            name,
            make: Box::new(make),
            state: Mutex::new(State {
                seen: None,
                made: HashMap::new(),
                all: Ok(Arc::new([])),
            }),
        }
    }

    /// Revision of the last change of the kind.
    pub(super) fn changed_at(&self) -> Revision {
        self.storage.changed_at(self.name)
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.storage.cache(self.name).len() == 0
    }

    /// All of them, by name.
    ///
    /// # Errors
    /// When one cannot be decoded: nobody knows what it would have refused.
    pub(super) fn all(&self) -> Result<Arc<[Arc<C>]>, ApiError> {
        let mut state = self.state.lock();
        let changed_at = self.changed_at();
        if state.seen != Some(changed_at) {
            let mut before = std::mem::take(&mut state.made);
            let mut all = Vec::new();
            let mut failed = None;
            for object in self.storage.list(self.name, None) {
                let known = before.remove(&object.name);
                let known = known.filter(|(revision, _)| *revision == object.revision);
                let made = match known {
                    Some((_, made)) => made,
                    None => match object.decode::<T>() {
                        Ok(decoded) => Arc::new((self.make)(&decoded)),
                        Err(unreadable) => {
                            failed = failed.or(Some(unreadable));
                            continue;
                        }
                    },
                };
                let kept = (object.revision, Arc::clone(&made));
                state.made.insert(Arc::clone(&object.name), kept);
                all.push(made);
            }
            state.all = match failed {
                Some(unreadable) => Err(unreadable),
                None => Ok(all.into()),
            };
            state.seen = Some(changed_at);
        }
        match &state.all {
            Ok(all) => Ok(Arc::clone(all)),
            Err(unreadable) => Err(unreadable.clone().into()),
        }
    }
}
