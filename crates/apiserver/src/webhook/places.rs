//! How much may wait for one webhook, and how much of it may come back.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::heavy::LARGE_BYTES;

/// KiB of requests that may wait for one webhook at a time.
const WAITING_KIB: u32 = 64 << 10;
/// What a request counts at least: 256 may wait at a time.
const LEAST_KIB: u32 = 256;
/// What a request counts at least that has a thread of its own ([`crate::heavy`]): 16 may wait at a time.
const LARGE_KIB: u32 = 4 << 10;
/// Bytes of an answer that nobody waits for.
pub(super) const SMALL_ANSWER: usize = 64 << 10;
/// Most bytes of an answer: a patch that replaces the largest object, in base64.
pub(super) const MAX_ANSWER: usize = 6 << 20;
/// Larger answers of one webhook that are held at a time.
const LARGE_ANSWERS: usize = 2;

/// The places of one webhook.
#[derive(Debug)]
pub(super) struct Places {
    waiting: Arc<Semaphore>,
    answers: Semaphore,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            waiting: Arc::new(Semaphore::new(WAITING_KIB as usize)),
            answers: Semaphore::new(LARGE_ANSWERS),
        }
    }
}

impl Places {
    /// A place for a request of so many bytes; none when too much waits already. Nobody waits for a place: who has none
    /// gives the seat of the flow control to others.
    pub(super) fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let kib = u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX);
        let least = if bytes > LARGE_BYTES {
            LARGE_KIB
        } else {
            LEAST_KIB
        };
        let kib = kib.clamp(least, WAITING_KIB);
        Arc::clone(&self.waiting).try_acquire_many_owned(kib).ok()
    }

    /// The right to hold a large answer.
    pub(super) async fn large_answer(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        self.answers.acquire().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_wait_for_one_webhook() {
        let count = |bytes: usize| {
            let places = Places::default();
            let taken: Vec<_> = std::iter::from_fn(|| places.take(bytes)).collect();
            assert!(places.take(1).is_none());
            taken.len()
        };
        assert_eq!(count(1), 256);
        assert_eq!(count(LARGE_BYTES), 256);
        assert_eq!(count(LARGE_BYTES + 1), 16);
        assert_eq!(count(16 << 20), 4);
        assert_eq!(count(usize::MAX), 1);
    }
}
