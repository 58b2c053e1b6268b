//! How the caches follow the store, and how it is known that they do.
//!
//! [`Storage::run`] does two things at once: it applies the store's watch to the caches, and it asks the store once a
//! second for its newest revision, to see the caches reach it. With a store that others write to, too, an answer of this
//! server is right only as far as its caches are: roles, bindings, quotas, accounts. When it could not see that for
//! [`STALENESS_LIMIT`], [`Storage::check_fresh`] refuses every request until it can again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use berth_api::status::ApiError;
use berth_store::{Batch, StoreError};
use futures::StreamExt;
use tokio::time::Instant;

use super::{ResourceCache, Storage, key};
use crate::log_limit::LogLimit;

/// How long a server goes on to answer without having seen that its caches are up to date.
pub const STALENESS_LIMIT: Duration = Duration::from_secs(10);
/// How often it looks.
const CONFIRM_EVERY: Duration = Duration::from_secs(1);
/// Before a watch that has ended begins again.
const PAUSE: Duration = Duration::from_millis(200);

impl Storage {
    /// Follows the store until it closes. Reads block until this runs.
    pub async fn run(self: Arc<Self>) {
        tokio::select! {
            () = self.follow() => {}
            () = self.confirm() => {}
        }
    }

    async fn follow(&self) {
        let limit = LogLimit::default();
        loop {
            let from = self.applied() + 1;
            let ended = match self.store.watch(key::ROOT.to_owned(), from).await {
                Ok(mut stream) => {
                    self.following.store(true, Ordering::Relaxed);
                    let mut late = Late::default();
                    loop {
                        tokio::select! {
                            batch = stream.next() => match batch {
                                Some(Ok(batch)) => self.apply(&batch, &mut late),
                                Some(Err(error)) => break Some(error),
                                None => break None,
                            },
                            now = late.wait() => late.tell(now),
                            () = self.reload.notified() => break Some(StoreError::PutBack),
                        }
                    }
                }
                Err(error) => Some(error),
            };
            self.following.store(false, Ordering::Relaxed);
            match ended {
                Some(StoreError::Closed) => return,
                Some(error) => self.recover(&error, &limit).await,
                None => {}
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// After the watch broke: it is begun again where it was, unless that past is gone or was another; then everything
    /// is read anew, and clients' watches end and begin again too.
    async fn recover(&self, error: &StoreError, limit: &LogLimit) {
        if let Some(suppressed) = limit.pass() {
            tracing::error!(%error, suppressed, "the store's watch broke; starting it again");
        }
        let anew = matches!(
            error,
            StoreError::Compacted { .. } | StoreError::PutBack | StoreError::Gap { .. }
        );
        // As it is now, not a little in the past as at the start: requests are judged by it at once.
        if anew
            && let Err(error) = self.load_now().await
            && let Some(suppressed) = limit.pass()
        {
            tracing::error!(%error, suppressed, "the objects cannot be read again");
        }
    }

    pub(super) async fn load_now(&self) -> Result<(), StoreError> {
        let now = self.store.revision().await?;
        self.load_at(now).await?;
        tracing::info!(revision = now, "all objects were read anew");
        Ok(())
    }

    fn apply(&self, batch: &Batch, late: &mut Late) {
        for event in &batch.events {
            if let Some(storage) = key::storage_of(&event.key) {
                let cache = self.cache(storage);
                if let Some(due) = cache.apply(event) {
                    late.add(due, cache);
                }
            } else {
                self.guards.apply(event);
            }
        }
        if batch.revision > self.applied() {
            self.applied.send_replace(batch.revision);
        }
    }

    /// Looks again and again whether the caches are up to date.
    async fn confirm(&self) {
        let limit = LogLimit::default();
        loop {
            let asked = Instant::now();
            match self.store.revision().await {
                Ok(revision) => {
                    if self.wait_for(revision).await.is_ok() {
                        self.confirm_at(asked);
                    }
                }
                Err(StoreError::PutBack) => self.reload.notify_one(),
                Err(error) => {
                    if let Some(suppressed) = limit.pass() {
                        tracing::error!(%error, suppressed, "the store does not answer");
                    }
                }
            }
            tokio::time::sleep(CONFIRM_EVERY).await;
        }
    }

    /// Where others write to the store, too: waits until reads see everything that was written before now, so that
    /// nothing is refused because this server is behind.
    ///
    /// # Errors
    /// When the store cannot be asked, or that takes too long.
    pub async fn catch_up(&self) -> Result<(), ApiError> {
        if !self.store.is_shared() {
            return Ok(());
        }
        let asked = Instant::now();
        self.wait_for(self.current_revision().await?).await?;
        self.confirm_at(asked);
        Ok(())
    }

    /// At this moment nothing was written that the caches do not have by now.
    fn confirm_at(&self, asked: Instant) {
        let mut confirmed = self.confirmed.lock();
        *confirmed = Some(confirmed.map_or(asked, |before| before.max(asked)));
    }

    /// Refuses when it is not known that the caches were up to date a short while ago.
    ///
    /// # Errors
    /// `ServiceUnavailable`, with what is wrong.
    pub fn check_fresh(&self) -> Result<(), ApiError> {
        if self.is_fresh() {
            return Ok(());
        }
        Err(ApiError::ServiceUnavailable(format!(
            "this server could not see for {} s whether it is up to date with etcd, so it would judge by roles and objects \
             that may have changed; see its /readyz/etcd",
            STALENESS_LIMIT.as_secs()
        )))
    }

    /// Whether it is known that the caches were up to date a short while ago.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        // Nobody else writes to a store of our own.
        let confirmed = *self.confirmed.lock();
        !self.store.is_shared() || confirmed.is_some_and(|at| at.elapsed() <= STALENESS_LIMIT)
    }

    /// Whether the caches follow the store.
    #[must_use]
    pub fn is_following(&self) -> bool {
        self.following.load(Ordering::Relaxed)
    }
}

/// Kinds whose many watches are still to be told of changes. Whoever looks sees them already.
#[derive(Default)]
struct Late {
    /// When the first is to be told.
    due: Option<Instant>,
    caches: Vec<Arc<ResourceCache>>,
}

impl Late {
    fn add(&mut self, due: Instant, cache: Arc<ResourceCache>) {
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
        if !self.caches.iter().any(|other| Arc::ptr_eq(other, &cache)) {
            self.caches.push(cache);
        }
    }

    /// Until somebody is to be told.
    async fn wait(&self) -> Instant {
        match self.due {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
        Instant::now()
    }

    fn tell(&mut self, now: Instant) {
        self.due = None;
        for cache in self.caches.drain(..) {
            cache.tell(now);
        }
    }
}

/// However the following ends.
impl Drop for Late {
    fn drop(&mut self) {
        self.tell(Instant::now());
    }
}
