//! Writes of an object together with what belongs to it: all of them at one revision, or none.
//!
//! So what a Service gets (addresses, node ports) is taken in the moment in which the Service is stored, and given back in
//! the moment in which it goes. Nothing is left over when a request breaks off, and no server has to remember anything.

use std::sync::Arc;

use berth_api::status::ApiError;
use berth_store::{Expect, Outcome, Write};
use serde_json::Value;

use super::{Guard, Measures, Storage, Stored, Written, check_size, encoded, key};
use crate::object::Object;

/// How often a write that other servers keep overtaking is tried.
const TRIES: usize = 50;

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

    /// [`Beside::put`] of a decoded object.
    ///
    /// # Errors
    /// `RequestEntityTooLarge` past 1.5 MiB.
    pub(crate) fn put_object(
        storage: &str,
        namespace: &str,
        name: &str,
        expect: Expect,
        object: &mut dyn Object,
    ) -> Result<Self, ApiError> {
        let metadata = object.metadata_mut();
        metadata.resource_version = None;
        metadata.self_link = None;
        let value = object.to_bytes()?;
        check_size(storage, name, &value)?;
        Ok(Self {
            value: Some(value),
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
        self.commit_guarded(main, others, None, || Ok(())).await
    }

    /// [`Storage::commit`] under a guard; `recount` judges again after another server was faster.
    ///
    /// # Errors
    /// As there, and what `recount` refuses with.
    pub(crate) async fn commit_guarded(
        &self,
        main: Beside,
        others: Vec<Beside>,
        mut guard: Option<Guard>,
        recount: impl Fn() -> Result<(), ApiError> + Send,
    ) -> Result<Committed, ApiError> {
        let cache = self.cache(&main.storage);
        let key = key::object(&main.storage, &main.namespace, &main.name);
        let previous = cache.get(&main.namespace, &main.name);
        let (namespace, name) = (main.namespace.clone(), main.name.clone());
        let operation = Measures::operation(main.value.is_some(), &main.expect);
        let storage = main.storage.clone();
        let first = self.sealed(main)?;
        let value = first.value.clone();
        let mut writes = vec![first];
        for other in others {
            writes.push(self.sealed(other)?);
        }
        for _ in 0..TRIES {
            let mut all = writes.clone();
            all.extend(guard.as_ref().map(Guard::write));
            let begun = std::time::Instant::now();
            let outcome = self.transact(all).await;
            self.measures.request(operation, &storage, begun, &outcome);
            match outcome? {
                Outcome::Committed(revision) => {
                    // It is durable: whoever asked must not hear that it failed.
                    if let Err(error) = self.wait_for(revision).await {
                        tracing::warn!(%error, key, "a write is durable that reads do not see yet");
                    }
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
                    return Ok(Committed::Written(Written::Done(stored)));
                }
                Outcome::Failed {
                    key: failed,
                    current,
                } if failed == key => {
                    let current = current.map(|kv| cache.parse(&kv.key, &kv.value, kv.revision));
                    return Ok(Committed::Written(Written::Changed(current.map(Arc::new))));
                }
                Outcome::Failed {
                    key: failed,
                    current,
                } => {
                    // Whoever tries again must see what was in the way.
                    let newer = match current {
                        Some(newer) => newer.revision,
                        None => self.current_revision().await?,
                    };
                    self.wait_for(newer).await?;
                    match &mut guard {
                        Some(guard) if guard.is(&failed) => {
                            self.renew(guard);
                            recount()?;
                        }
                        Some(_) | None => return Ok(Committed::Overtaken),
                    }
                }
            }
        }
        Err(ApiError::TooManyRequests {
            message: format!(
                "other servers write to namespace {namespace:?}, which has a quota, faster than this one; try again"
            ),
            retry_after_seconds: 1,
        })
    }

    /// A write as the store gets it: encrypted where that is configured.
    fn sealed(&self, write: Beside) -> Result<Write, ApiError> {
        let key = key::object(&write.storage, &write.namespace, &write.name);
        let value = match write.value {
            Some(value) => {
                let cache = self.cache(&write.storage);
                let sealed = cache.transformer().seal(&key, value);
                Some(sealed.map_err(ApiError::Internal)?)
            }
            None => None,
        };
        Ok(Write {
            key,
            expect: write.expect,
            value,
        })
    }
}
