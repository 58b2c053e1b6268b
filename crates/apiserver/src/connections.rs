//! How many connections there are, and whose: the slots as the tasks share them. [`slots`] decides.

mod slots;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use berth_api::status::ApiError;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use self::slots::{Arrival, Bounds, Id, Slots, Standing};
use crate::limits::Limits;
use crate::log_limit::LogLimit;
use crate::user::{ANONYMOUS, MASTERS, User};

/// When a refused client should come again.
const RETRY_AFTER: u32 = 5;

/// All connections, and who waits for one of them to end.
#[derive(Debug)]
pub(crate) struct SlotTable {
    state: Mutex<State>,
    freed: Notify,
    limits: Bounds,
    full: LogLimit,
    evicted: LogLimit,
    refused: LogLimit,
}

#[derive(Debug)]
struct State {
    slots: Slots,
    /// What closes a connection that has no user yet.
    evictions: HashMap<Id, CancellationToken>,
}

impl SlotTable {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        let limits = Bounds {
            total: limits.max_connections.max(1),
            of_address: limits.max_unauthenticated_connections.max(1),
            of_user: limits.max_connections_per_user.max(1),
        };
        Arc::new(Self {
            state: Mutex::new(State {
                slots: Slots::new(limits),
                evictions: HashMap::new(),
            }),
            freed: Notify::new(),
            limits,
            full: LogLimit::default(),
            evicted: LogLimit::default(),
            refused: LogLimit::default(),
        })
    }

    /// Waits until a new connection could have a slot; until then they wait in the backlog of the socket.
    pub(crate) async fn room(&self) {
        loop {
            let freed = self.freed.notified();
            if self.state.lock().slots.has_room() {
                return;
            }
            if let Some(suppressed) = self.full.pass() {
                let limit = self.limits.total;
                tracing::warn!(
                    limit,
                    suppressed,
                    "as many connections are open as may be (--max-connections); new ones wait"
                );
            }
            freed.await;
        }
    }

    /// A slot for a new connection; none when there is no room.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr) -> Option<(Slot, Connection)> {
        let mut state = self.state.lock();
        let Arrival::Taken { id, evicted } = state.slots.arrive(address) else {
            return None;
        };
        let evict = CancellationToken::new();
        if let Some(token) = evicted.and_then(|id| state.evictions.remove(&id)) {
            token.cancel();
            if let Some(suppressed) = self.evicted.pass() {
                tracing::warn!(
                    %address,
                    limit = self.limits.of_address,
                    suppressed,
                    "the oldest connection without an authenticated request was closed: there are too many \
                     (--max-unauthenticated-connections)"
                );
            }
        }
        state.evictions.insert(id, evict.clone());
        drop(state);
        let slot = Slot {
            table: Arc::clone(self),
            id,
        };
        let connection = Connection(Arc::new(Shared {
            table: Arc::clone(self),
            id,
            proven: AtomicBool::new(false),
            evict,
            leave: CancellationToken::new(),
        }));
        Some((slot, connection))
    }
}

/// A connection's slot: free again when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    table: Arc<SlotTable>,
    id: Id,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = self.table.state.lock();
        state.slots.leave(self.id);
        state.evictions.remove(&self.id);
        drop(state);
        self.table.freed.notify_one();
    }
}

/// What the requests of a connection know of it.
#[derive(Clone, Debug)]
pub(crate) struct Connection(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    table: Arc<SlotTable>,
    id: Id,
    proven: AtomicBool,
    evict: CancellationToken,
    leave: CancellationToken,
}

impl Connection {
    /// A request on it was authenticated: from the first on, the connection counts for its user.
    ///
    /// # Errors
    /// `TooManyRequests` when the user has too many connections; this one ends after the answer.
    pub(crate) fn authenticated(&self, user: &User) -> Result<(), ApiError> {
        let shared = &self.0;
        if user.name == ANONYMOUS || shared.proven.load(Ordering::Relaxed) {
            return Ok(());
        }
        let table = &shared.table;
        let mut state = table.state.lock();
        if state.slots.prove(shared.id, &user.name, standing_of(user)) {
            state.evictions.remove(&shared.id);
            shared.proven.store(true, Ordering::Relaxed);
            return Ok(());
        }
        drop(state);
        shared.leave.cancel();
        // Its user's own bound, or that of all users together.
        let limit = table.limits.of_user;
        if let Some(suppressed) = table.refused.pass() {
            tracing::warn!(
                user = user.name,
                limit,
                suppressed,
                "a connection was refused: its user has too many (--max-connections-per-user)"
            );
        }
        Err(ApiError::TooManyRequests {
            message: format!(
                "too many connections of user {:?}: limit is {limit}, please try again later",
                user.name
            ),
            retry_after_seconds: RETRY_AFTER,
        })
    }

    /// Resolves when the connection must be closed at once, to make room.
    pub(crate) async fn evicted(&self) {
        self.0.evict.cancelled().await;
    }

    /// Resolves when the connection must end after the answers that it owes.
    pub(crate) async fn told_to_leave(&self) {
        self.0.leave.cancelled().await;
    }
}

fn standing_of(user: &User) -> Standing {
    if user.in_group(MASTERS) {
        Standing::Administrator
    } else if user.is_of_system() {
        Standing::System
    } else {
        Standing::User
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn new_connections_wait_until_one_ends() {
        let table = SlotTable::new(&Limits {
            max_connections: 1,
            max_connections_per_user: 1,
            ..Limits::default()
        });
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let jane = User {
            name: "jane".to_owned(),
            ..User::default()
        };
        let (first, connection) = table.take(address).unwrap();
        connection.authenticated(&User::anonymous()).unwrap();
        let (second, other) = table.take(address).unwrap();
        // The first was anonymous, and made room.
        connection.evicted().await;
        drop(first);
        other.authenticated(&jane).unwrap();
        assert!(table.take(address).is_none());
        let mut waiting = std::pin::pin!(table.room());
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        drop(second);
        waiting.await;
        assert!(table.take(address).is_some());
    }

    #[tokio::test]
    async fn who_has_too_many_is_told_to_leave() {
        let table = SlotTable::new(&Limits {
            max_connections_per_user: 1,
            ..Limits::default()
        });
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let jane = User {
            name: "jane".to_owned(),
            ..User::default()
        };
        let (_a, first) = table.take(address).unwrap();
        let (_b, second) = table.take(address).unwrap();
        first.authenticated(&jane).unwrap();
        first.authenticated(&jane).unwrap();
        let error = second.authenticated(&jane).unwrap_err();
        assert_eq!(
            error.to_string(),
            "too many connections of user \"jane\": limit is 1, please try again later"
        );
        second.told_to_leave().await;
    }
}
