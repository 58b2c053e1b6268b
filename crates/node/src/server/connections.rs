//! How many connections the node's server takes, so that those who have not said who they are leave room for the API
//! server.
//!
//! ```text
//!   accepted -> handshake (few, and few from one address) -> with a certificate: a place among many
//!                                                          -> without one:       a place among few
//! ```

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Connections in their TLS handshake, in all and from one address.
const HANDSHAKES: usize = 256;
const HANDSHAKES_OF_ONE: usize = 128;
/// Connections of clients that showed a certificate of the cluster, and of those that did not.
const KNOWN: usize = 2048;
const UNKNOWN: usize = 128;

/// The places.
pub(super) struct Limits {
    shaking: Arc<Mutex<HashMap<IpAddr, usize>>>,
    known: Arc<Semaphore>,
    unknown: Arc<Semaphore>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            shaking: Arc::default(),
            known: Arc::new(Semaphore::new(KNOWN)),
            unknown: Arc::new(Semaphore::new(UNKNOWN)),
        }
    }
}

impl Limits {
    /// A place for a handshake with this address; `None` when there is none left.
    pub(super) fn newcomer(&self, peer: IpAddr) -> Option<Newcomer> {
        let mut shaking = self.shaking.lock();
        let all: usize = shaking.values().sum();
        let own = shaking.get(&peer).copied().unwrap_or(0);
        if all >= HANDSHAKES || own >= HANDSHAKES_OF_ONE {
            return None;
        }
        shaking.insert(peer, own + 1);
        Some(Newcomer {
            peer,
            shaking: Arc::clone(&self.shaking),
            known: Arc::clone(&self.known),
            unknown: Arc::clone(&self.unknown),
        })
    }
}

/// A connection in its handshake; dropping it gives the place back.
pub(super) struct Newcomer {
    peer: IpAddr,
    shaking: Arc<Mutex<HashMap<IpAddr, usize>>>,
    known: Arc<Semaphore>,
    unknown: Arc<Semaphore>,
}

impl Newcomer {
    /// The handshake is over: a place for the connection's life; `None` when there is none left.
    pub(super) fn admit(self, has_certificate: bool) -> Option<OwnedSemaphorePermit> {
        let places = if has_certificate {
            &self.known
        } else {
            &self.unknown
        };
        Arc::clone(places).try_acquire_owned().ok()
    }
}

/// A client that takes nothing of an answer for so many milliseconds is cut off; a log that somebody looks at in a pager may rest.
pub(super) const ANSWER_STALL: u64 = 15 * 60 * 1000;
/// A stream may rest longer: as long as `streamingConnectionIdleTimeout` of the stock kubelet.
const STREAM_STALL: u64 = 4 * 60 * 60 * 1000;

/// A connection that was let in: its place, held until the last one who knows it is gone, and how long its client may
/// take nothing.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    _place: Arc<OwnedSemaphorePermit>,
    stall: Arc<AtomicU64>,
}

impl Connection {
    pub(super) fn new(place: OwnedSemaphorePermit, stall: Arc<AtomicU64>) -> Self {
        Self {
            _place: Arc::new(place),
            stall,
        }
    }

    /// It carries a stream from now on.
    pub(super) fn upgraded(&self) {
        self.stall.store(STREAM_STALL, Ordering::Relaxed);
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        let mut shaking = self.shaking.lock();
        if let Some(count) = shaking.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                shaking.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unknown_leave_room_for_the_known() {
        let limits = Limits::default();
        let (eve, api) = (IpAddr::from([10, 0, 0, 66]), IpAddr::from([10, 0, 0, 1]));
        let silent: Vec<_> = std::iter::from_fn(|| limits.newcomer(eve)).collect();
        assert_eq!(silent.len(), HANDSHAKES_OF_ONE);
        assert!(limits.newcomer(api).is_some());
        drop(silent);
        assert!(limits.shaking.lock().is_empty());

        let admit = |peer, has| limits.newcomer(peer).and_then(|n| n.admit(has));
        let anonymous: Vec<_> = std::iter::from_fn(|| admit(eve, false)).collect();
        assert_eq!(anonymous.len(), UNKNOWN);
        assert!(admit(api, true).is_some());
        drop(anonymous);
        assert!(admit(eve, false).is_some());
    }
}
