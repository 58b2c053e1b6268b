//! Writes of an object together with what belongs to it: all of them at one revision, or none.
//!
//! So what a Service gets (addresses, node ports) is taken in the moment in which the Service is stored, and given back in
//! the moment in which it goes. Nothing is left over when a request breaks off, and no server has to remember anything.

use std::sync::Arc;

use berth_api::status::ApiError;
use berth_store::{Expect, Outcome, Write};
use serde_json::Value;

use super::{Storage, Stored, Written, encoded, key, store_error};

/// A write of one object.
#[derive(Clone, Debug)]
pub(crate) struct Beside {
    pub(super) storage: String,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) expect: Expect,
    /// None removes it.
    pub(super) value: Option<bytes::Bytes>,
}

impl Beside {
    /// Writes an object if it still is as expected.
    ///
    /// # Errors
    /// `RequestEntityTooLarge` past 1.5 MiB.
    pub(crate) fn put(
        storage: &str,
        namespace: &str,
        name: &str,
        expect: Expect,
        object: Value,
    ) -> Result<Self, ApiError> {
        Ok(Self {
            value: Some(encoded(storage, name, object)?),
            ..Self::remove(storage, namespace, name, expect)
        })
    }

    /// Removes an object if it still is as expected.
    pub(crate) fn remove(storage: &str, namespace: &str, name: &str, expect: Expect) -> Self {
        Self {
            storage: storage.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            expect,
            value: None,
        }
    }
}

/// How a write with others ended.
#[derive(Debug)]
pub(crate) enum Committed {
    /// As a write of the object alone.
    Written(Written),
    /// Nothing was written: one of the others was changed by somebody else. Reads see by now what it was.
    Overtaken,
}

impl Storage {
    /// [`Storage::put`] or [`Storage::remove`] (with no object), together with others.
    ///
    /// # Errors
    /// As theirs.
    pub(crate) async fn commit(
        &self,
        main: Beside,
        others: Vec<Beside>,
    ) -> Result<Committed, ApiError> {
        self.transact(main, others).await
    }

    pub(super) async fn transact(
        &self,
        main: Beside,
        others: Vec<Beside>,
    ) -> Result<Committed, ApiError> {
        let cache = self.cache(&main.storage);
        let key = key::object(&main.storage, &main.namespace, &main.name);
        let previous = cache.get(&main.namespace, &main.name);
        let value = main.value.clone();
        let (namespace, name) = (main.namespace.clone(), main.name.clone());
        let writes = std::iter::once(main).chain(others).map(|write| Write {
            key: key::object(&write.storage, &write.namespace, &write.name),
            expect: write.expect,
            value: write.value,
        });
        match self
            .store
            .transact(writes.collect())
            .await
            .map_err(store_error)?
        {
            Outcome::Committed(revision) => {
                self.wait_for(revision).await?;
                let stored = match value {
                    Some(value) => cache
                        .get(&namespace, &name)
                        .filter(|s| s.revision == revision)
                        .or_else(|| Some(Arc::new(cache.parse(&key, &value, revision)))),
                    None => previous.map(|p| Arc::new(Stored::at(&p, revision))),
                };
                let stored = stored.ok_or_else(|| {
                    ApiError::Internal("the written object cannot be read back".to_owned())
                })?;
                Ok(Committed::Written(Written::Done(stored)))
            }
            Outcome::Failed {
                key: failed,
                current,
            } if failed == key => {
                let current = current.map(|kv| cache.parse(&kv.key, &kv.value, kv.revision));
                Ok(Committed::Written(Written::Changed(current.map(Arc::new))))
            }
            Outcome::Failed { .. } => {
                // Whoever tries again must see what was in the way.
                self.wait_for(self.current_revision().await?).await?;
                Ok(Committed::Overtaken)
            }
        }
    }
}
