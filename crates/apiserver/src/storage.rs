//! Objects between the store and the handlers: every object is held in memory once, serialized,
//! and reads and watches never touch the disk.
//!
//! One task ([`Storage::run`], in `follow`) follows the store's watch and applies it to the caches. A write
//! waits until its own revision has been applied, so that a client reads what it wrote.

pub mod cache;
mod commit;
mod decoded;
pub mod encryption;
mod follow;
mod guard;
pub mod key;
mod measures;
mod migrate;
mod owners;
mod parts;
mod scan;
mod stored;
mod unreadable;
mod values;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use berth_api::status::ApiError;
use berth_store::{Expect, KeyValue, Outcome, Range, Revision, Store, StoreError, Write};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::field_label::FieldLabel;
use crate::object::Object;
pub use cache::ResourceCache;
pub(crate) use commit::{Beside, Committed};
pub(crate) use decoded::Decoded;
pub use encryption::{Encryption, EncryptionError};
pub use follow::STALENESS_LIMIT;
pub(crate) use guard::Guard;
pub(crate) use measures::Measures;
pub(crate) use parts::Part;
pub(crate) use stored::Memo;
pub use stored::Stored;
pub use unreadable::Unreadable;
pub(crate) use unreadable::{OPTION as READ_ERRORS_OPTION, VERB as READ_ERRORS_VERB};
pub use values::StoredValues;

/// How long a read waits for the cache to reach a revision.
const FRESHNESS_TIMEOUT: Duration = Duration::from_secs(3);
/// The same for a server that starts, on however busy a machine.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// How many revisions before the present a start brings back for watches to resume from.
const REPLAY: Revision = 500;

/// Most bytes of an object: as much as etcd takes by default (`--max-request-bytes`). Each is held in memory, and again
/// by each watch that hasn't been read.
const OBJECT_MAX: usize = 3 << 19;

/// All objects, by storage name (`group/plural`, e.g. `core/pods`).
pub struct Storage {
    store: Arc<dyn Store>,
    caches: RwLock<HashMap<String, Arc<ResourceCache>>>,
    fields: RwLock<HashMap<String, Arc<[FieldLabel]>>>,
    applied: watch::Sender<Revision>,
    following: AtomicBool,
    /// When the store was last asked for a revision that the caches then had.
    confirmed: Mutex<Option<Instant>>,
    /// Where the past begins that lists go on in.
    history: AtomicI64,
    /// Everything is to be read anew.
    reload: Notify,
    guards: guard::Guards,
    encryption: ArcSwap<Encryption>,
    measures: Measures,
}

/// How a conditional write ended.
#[derive(Debug)]
pub enum Written {
    /// Durable, and visible to reads.
    Done(Arc<Stored>),
    /// Somebody else changed the object; this is its state now, none when it does not exist.
    Changed(Option<Arc<Stored>>),
}

impl Storage {
    /// Storage over a store; [`Storage::load`] must follow.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self::encrypted(store, Encryption::default())
    }

    /// Storage over a store in which objects are encrypted; [`Storage::load`] must follow.
    #[must_use]
    pub fn encrypted(store: Arc<dyn Store>, encryption: Encryption) -> Self {
        Self {
            store,
            caches: RwLock::default(),
            fields: RwLock::default(),
            applied: watch::Sender::new(0),
            following: AtomicBool::new(false),
            confirmed: Mutex::default(),
            history: AtomicI64::new(0),
            reload: Notify::new(),
            guards: guard::Guards::default(),
            encryption: ArcSwap::from_pointee(encryption),
            measures: Measures::default(),
        }
    }

    /// Encrypts and decrypts in another way from now on. Objects that could not be read so far are read again.
    pub fn set_encryption(&self, encryption: Encryption) {
        let encryption = Arc::new(encryption);
        // A cache that is made from now on has it already.
        self.encryption.store(Arc::clone(&encryption));
        let mut anew = false;
        for (storage, cache) in self.caches.read().iter() {
            anew |= cache.set_transformer(encryption.of(storage));
        }
        if anew {
            self.reload.notify_one();
        }
    }

    /// What the store is asked, for `/metrics`.
    pub(crate) fn measures(&self) -> &Measures {
        &self.measures
    }

    /// Tells which field labels the objects of a storage name have.
    pub fn declare(&self, storage: &str, labels: &[FieldLabel]) {
        let labels: Arc<[FieldLabel]> = labels.into();
        self.fields
            .write()
            .insert(storage.to_owned(), Arc::clone(&labels));
        self.cache(storage).set_field_labels(&labels);
    }

    /// The cache of a storage name; made when there is none.
    #[must_use]
    pub fn cache(&self, storage: &str) -> Arc<ResourceCache> {
        if let Some(cache) = self.caches.read().get(storage) {
            return Arc::clone(cache);
        }
        let labels = self.fields.read().get(storage).cloned().unwrap_or_default();
        let mut caches = self.caches.write();
        Arc::clone(caches.entry(storage.to_owned()).or_insert_with(|| {
            Arc::new(ResourceCache::new(
                storage.to_owned(),
                labels,
                self.encryption.load().of(storage),
                *self.applied.borrow(),
            ))
        }))
    }

    /// An object, as the cache has it. `namespace` is empty for cluster-scoped kinds.
    #[must_use]
    pub fn get(&self, storage: &str, namespace: &str, name: &str) -> Option<Arc<Stored>> {
        self.cache(storage).get(namespace, name)
    }

    /// All objects of a namespace, or of all namespaces.
    #[must_use]
    pub fn list(&self, storage: &str, namespace: Option<&str>) -> Vec<Arc<Stored>> {
        self.cache(storage).list(namespace)
    }

    /// An object, decoded; none when there is none.
    ///
    /// # Errors
    /// [`Unreadable`] for an object that does not fit the type.
    pub fn read<T: DeserializeOwned>(
        &self,
        storage: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<T>, Unreadable> {
        self.get(storage, namespace, name)
            .map(|stored| stored.decode())
            .transpose()
    }

    /// [`Storage::read`] of an object that many ask for: decoded once for each of its changes.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn read_shared<T: DeserializeOwned + Send + Sync + 'static>(
        &self,
        storage: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<T>>, Unreadable> {
        self.get(storage, namespace, name)
            .map(|stored| stored.shared())
            .transpose()
    }

    /// All objects of a namespace or of all namespaces, decoded.
    ///
    /// # Errors
    /// [`Unreadable`] for the first that does not fit the type: a check over the others would not hold.
    pub fn read_all<T: DeserializeOwned>(
        &self,
        storage: &str,
        namespace: Option<&str>,
    ) -> Result<Vec<T>, Unreadable> {
        self.list(storage, namespace)
            .iter()
            .map(|stored| stored.decode())
            .collect()
    }

    /// An object that can be decoded, where one that is missing gives nobody anything. Another is logged.
    #[must_use]
    pub fn find<T: DeserializeOwned>(
        &self,
        storage: &str,
        namespace: &str,
        name: &str,
    ) -> Option<T> {
        self.get(storage, namespace, name)?.decode().ok()
    }

    /// All objects that can be decoded, where one that is missing gives nobody anything: roles and bindings, what is
    /// printed. The others are logged.
    #[must_use]
    pub fn readable<T: DeserializeOwned>(&self, storage: &str, namespace: Option<&str>) -> Vec<T> {
        self.list(storage, namespace)
            .iter()
            .filter_map(|stored| stored.decode().ok())
            .collect()
    }

    /// Revision of the last change of any object of a storage name; what was computed from them
    /// stays right while it does not change.
    #[must_use]
    pub fn changed_at(&self, storage: &str) -> Revision {
        self.cache(storage).changed_at()
    }

    /// The revision up to which reads are complete.
    #[must_use]
    pub fn applied(&self) -> Revision {
        *self.applied.borrow()
    }

    /// Follows [`Storage::applied`].
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Revision> {
        self.applied.subscribe()
    }

    /// The store's own revision, for reads that must see everything written before them.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn current_revision(&self) -> Result<Revision, ApiError> {
        let revision = self.store.revision().await;
        if matches!(revision, Err(StoreError::PutBack)) {
            self.reload.notify_one();
        }
        revision.map_err(store_error)
    }

    /// Waits until reads are complete up to `revision`.
    ///
    /// # Errors
    /// `TooLargeResourceVersion` when that takes too long.
    pub async fn wait_for(&self, revision: Revision) -> Result<(), ApiError> {
        self.wait_within(FRESHNESS_TIMEOUT, revision).await
    }

    /// Waits until reads are complete up to what the store holds now. A start that writes its first objects has to: before, each of its
    /// writes would wait for all that is still to be read.
    ///
    /// # Errors
    /// When the store cannot be asked, or `TooLargeResourceVersion` when that takes too long.
    pub async fn begin(&self) -> Result<(), ApiError> {
        let revision = self.current_revision().await?;
        self.wait_within(START_TIMEOUT, revision).await
    }

    async fn wait_within(&self, limit: Duration, revision: Revision) -> Result<(), ApiError> {
        if self.applied() >= revision {
            return Ok(());
        }
        let mut applied = self.applied.subscribe();
        let fresh = applied.wait_for(|at| *at >= revision);
        match tokio::time::timeout(limit, fresh).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(ApiError::TooLargeResourceVersion {
                asked: revision,
                current: self.applied(),
            }),
        }
    }

    /// A page of the past, straight from the store.
    ///
    /// # Errors
    /// `Expired` when that past is gone.
    pub async fn range_at(
        &self,
        storage: &str,
        range: Range,
    ) -> Result<(Vec<Arc<Stored>>, Revision, bool), ApiError> {
        let cache = self.cache(storage);
        let begun = std::time::Instant::now();
        let page = self.store.range(range).await;
        self.measures.request("list", storage, begun, &page);
        let page = page.map_err(store_error)?;
        let mut items = Vec::with_capacity(page.items.len());
        for kv in page.items {
            items.push(Arc::new(cache.parse(&kv.key, &kv.value, kv.revision)));
        }
        Ok((items, page.revision, page.more))
    }

    /// Writes an object if it still is as expected, and waits until reads see it.
    ///
    /// # Errors
    /// `RequestEntityTooLarge` past 1.5 MiB; when the store fails.
    pub async fn put(
        &self,
        storage: &str,
        namespace: &str,
        name: &str,
        expect: Expect,
        object: Value,
    ) -> Result<Written, ApiError> {
        let value = encoded(storage, name, object)?;
        self.write(storage, namespace, name, expect, Some(value))
            .await
    }

    /// [`Storage::put`] of a decoded object.
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn put_object(
        &self,
        storage: &str,
        namespace: &str,
        name: &str,
        expect: Expect,
        object: &mut dyn Object,
    ) -> Result<Written, ApiError> {
        let main = Beside::put_object(storage, namespace, name, expect, object)?;
        self.write_alone(main).await
    }

    /// Removes an object if it still is as expected, and waits until reads see it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn remove(
        &self,
        storage: &str,
        namespace: &str,
        name: &str,
        expect: Expect,
    ) -> Result<Written, ApiError> {
        self.write(storage, namespace, name, expect, None).await
    }

    async fn write(
        &self,
        storage: &str,
        namespace: &str,
        name: &str,
        expect: Expect,
        value: Option<Bytes>,
    ) -> Result<Written, ApiError> {
        let main = Beside {
            storage: storage.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            expect,
            value,
        };
        self.write_alone(main).await
    }

    async fn write_alone(&self, main: Beside) -> Result<Written, ApiError> {
        let cache = self.cache(&main.storage);
        let (namespace, name) = (main.namespace.clone(), main.name.clone());
        match self.commit(main, Vec::new()).await? {
            Committed::Written(written) => Ok(written),
            // There is nothing that could be.
            Committed::Overtaken => Ok(Written::Changed(cache.get(&namespace, &name))),
        }
    }

    /// Writes to the store; one that was put back to an older state is read anew.
    async fn transact(&self, writes: Vec<Write>) -> Result<Outcome, ApiError> {
        let outcome = self.store.transact(writes).await;
        if matches!(outcome, Err(StoreError::PutBack)) {
            self.reload.notify_one();
        }
        outcome.map_err(store_error)
    }

    /// Moves the objects that older versions kept under other keys; must precede `load`. `built_in` are the storage
    /// names of built-in kinds.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn migrate(&self, built_in: &BTreeSet<String>) -> Result<(), StoreError> {
        let moved = migrate::custom_resources(self.store.as_ref(), built_in).await?;
        if moved > 0 {
            tracing::info!(moved, "custom resources were moved to keys of their own");
        }
        Ok(())
    }

    /// Reads everything, and a little of the past so that watches can resume.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn load(&self) -> Result<(), StoreError> {
        let now = self.store.revision().await?;
        let past = (now - REPLAY).max(1);
        match self.load_at(past.min(now)).await {
            Err(StoreError::Compacted { .. } | StoreError::Future { .. }) => {
                self.load_at(now).await
            }
            other => other,
        }
    }

    /// Puts the state at a revision in place of whatever the caches hold.
    async fn load_at(&self, revision: Revision) -> Result<(), StoreError> {
        let mut loaded: HashMap<String, Vec<KeyValue>> = HashMap::new();
        let mut guards = Vec::new();
        let mut after = None;
        let mut more = revision > 0;
        while more {
            let page = self
                .store
                .range(Range {
                    prefix: key::ROOT.to_owned(),
                    after: after.take(),
                    limit: 500,
                    revision,
                })
                .await?;
            after = page.items.last().map(|kv| kv.key.clone());
            more = page.more;
            for kv in page.items {
                if let Some(storage) = key::storage_of(&kv.key) {
                    loaded.entry(storage.to_owned()).or_default().push(kv);
                } else if key::is_guard(&kv.key) {
                    guards.push(kv);
                }
            }
        }
        for storage in loaded.keys() {
            let _ = self.cache(storage);
        }
        let caches: Vec<_> = self.caches.read().clone().into_iter().collect();
        for (storage, cache) in caches {
            cache.reset(&loaded.remove(&storage).unwrap_or_default(), revision);
        }
        self.guards.reset(&guards);
        self.applied.send_replace(revision);
        Ok(())
    }

    /// How many objects there are of each storage name.
    #[must_use]
    pub fn counts(&self) -> Vec<(String, usize)> {
        self.caches
            .read()
            .iter()
            .map(|(storage, cache)| (storage.clone(), cache.len()))
            .collect()
    }

    /// The first revision that lists go on in.
    #[must_use]
    pub fn history(&self) -> Revision {
        self.history.load(Ordering::Relaxed)
    }

    /// Lists go on in nothing before `revision` any more, though the store may have more of it.
    pub fn end_lists_before(&self, revision: Revision) {
        self.history.fetch_max(revision, Ordering::Relaxed);
    }

    /// Forgets history before `revision`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.store.compact(revision).await
    }
}

/// An object as it is stored.
///
/// # Errors
/// `RequestEntityTooLarge` past 1.5 MiB.
fn encoded(storage: &str, name: &str, object: Value) -> Result<Bytes, ApiError> {
    let value = stored::encode(object);
    check_size(storage, name, &value)?;
    Ok(value)
}

fn check_size(storage: &str, name: &str, value: &Bytes) -> Result<(), ApiError> {
    if value.len() > OBJECT_MAX {
        return Err(ApiError::RequestEntityTooLarge(format!(
            "etcdserver: request is too large: {storage} {name:?} has {} bytes, limit is {OBJECT_MAX}",
            value.len()
        )));
    }
    Ok(())
}

/// What a client is told of a store's error.
pub(crate) fn store_error(error: StoreError) -> ApiError {
    match error {
        StoreError::Compacted { .. } => {
            ApiError::Expired("The resourceVersion for the provided list is too old.".to_owned())
        }
        StoreError::Future { asked, current } => {
            ApiError::TooLargeResourceVersion { asked, current }
        }
        StoreError::DiskFull { .. } => ApiError::InsufficientStorage(error.to_string()),
        StoreError::Closed => {
            ApiError::ServiceUnavailable("the server is shutting down".to_owned())
        }
        StoreError::EtcdFull => ApiError::InsufficientStorage(error.to_string()),
        StoreError::TooLarge { .. } => ApiError::RequestEntityTooLarge(error.to_string()),
        StoreError::Unavailable { .. }
        | StoreError::Lost
        | StoreError::PutBack
        | StoreError::Gap { .. } => ApiError::ServiceUnavailable(error.to_string()),
        StoreError::Interrupted { .. } => ApiError::Timeout(error.to_string()),
        StoreError::Corrupt { .. } | StoreError::Sqlite { .. } | StoreError::Refused { .. } => {
            let source =
                std::error::Error::source(&error).map_or_else(String::new, ToString::to_string);
            tracing::error!(%error, source, "the store failed");
            let source = if source.is_empty() {
                source
            } else {
                format!(": {source}")
            };
            ApiError::Internal(format!("{error}{source}"))
        }
    }
}

/// Reads any bytes as the stored value of a secret.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_stored(data: &[u8]) {
    let key = key::object("core/secrets", "n", "s");
    for transformer in encryption::fuzz_transformers() {
        let seals = transformer.seal(&key, Bytes::copy_from_slice(data));
        let labels: Arc<[FieldLabel]> = Arc::default();
        let cache = ResourceCache::new(
            "core/secrets".to_owned(),
            labels,
            Arc::clone(&transformer),
            0,
        );
        let stored = cache.parse(&key, &Bytes::copy_from_slice(data), 1);
        assert_eq!(
            (stored.namespace.as_ref(), stored.name.as_ref()),
            ("n", "s")
        );
        if !stored.corrupt {
            assert!(stored.value().is_ok(), "taken, and can't be read");
        }
        // What was sealed is opened, and nothing that was changed.
        let Ok(sealed) = seals else { continue };
        let opened = transformer.open(&key, &sealed);
        let plain = !sealed.starts_with(encryption::SEALED);
        match opened {
            Ok(opened) => assert!(plain || opened.value.as_ref() == data),
            Err(error) => assert!(plain, "what was sealed can't be opened: {error}"),
        }
        if sealed.starts_with(b"k8s:enc:aesgcm:") {
            let mut changed = sealed.to_vec();
            if let Some(last) = changed.last_mut() {
                *last ^= 1;
            }
            assert!(transformer.open(&key, &changed.into()).is_err());
            let other = key::object("core/secrets", "n", "t");
            assert!(
                transformer.open(&other, &sealed).is_err(),
                "opened under another key"
            );
        }
    }
}
