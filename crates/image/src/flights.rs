//! Single flight: two pulls that need the same thing do it once, the second waits for the first.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

use crate::digest::Digest;

/// One async mutex a digest, for as long as somebody holds or awaits it.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    locks: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
}

impl Flights {
    /// Waits until nobody else works on it. Take several in the order of their layers, lowest first:
    /// images that share a layer share all below it, so nobody waits in a circle.
    pub(crate) async fn take(&self, digest: &Digest) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock();
            locks.retain(|_, lock| lock.strong_count() > 0);
            match locks.get(digest).and_then(Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    let lock = Arc::new(tokio::sync::Mutex::new(()));
                    locks.insert(digest.clone(), Arc::downgrade(&lock));
                    lock
                }
            }
        };
        lock.lock_owned().await
    }
}
