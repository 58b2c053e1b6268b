//! What one client may ask for, so that the others get their answers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Most clients that are told apart; what comes beyond shares one allowance.
const MAX_CLIENTS: usize = 4096;
/// Clients that have been quiet for this long have their whole allowance again, and are forgotten.
const FORGET: Duration = Duration::from_secs(30);

/// An allowance: so many at once, so many a second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    pub(crate) per_second: f32,
    pub(crate) burst: f32,
}

/// What clients are allowed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    /// Questions of any kind.
    pub(crate) questions: Rate,
    /// Questions that have to be forwarded.
    pub(crate) forwards: Rate,
    /// Forwarded questions that wait at the same time.
    pub(crate) waiting: u16,
    /// Connections at the same time.
    pub(crate) connections: u16,
}

impl Allowance {
    /// Far above what a pod with work to do needs.
    pub(crate) const POD: Self = Self {
        questions: Rate {
            per_second: 2000.0,
            burst: 4000.0,
        },
        forwards: Rate {
            per_second: 200.0,
            burst: 400.0,
        },
        waiting: 64,
        connections: 16,
    };
}

#[derive(Clone, Copy)]
struct Bucket {
    left: f32,
    at: Instant,
}

impl Bucket {
    fn take(&mut self, rate: Rate, now: Instant) -> bool {
        let past = now.saturating_duration_since(self.at).as_secs_f32();
        self.left = past.mul_add(rate.per_second, self.left).min(rate.burst);
        self.at = now;
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
}

struct Client {
    questions: Bucket,
    forwards: Bucket,
    waiting: u16,
    connections: u16,
}

impl Client {
    fn new(allowance: &Allowance, now: Instant) -> Self {
        let full = |rate: Rate| Bucket {
            left: rate.burst,
            at: now,
        };
        Self {
            questions: full(allowance.questions),
            forwards: full(allowance.forwards),
            waiting: 0,
            connections: 0,
        }
    }

    fn is_idle(&self, now: Instant) -> bool {
        let quiet = |bucket: &Bucket| now.saturating_duration_since(bucket.at) > FORGET;
        self.waiting == 0
            && self.connections == 0
            && quiet(&self.questions)
            && quiet(&self.forwards)
    }
}

/// The clients and what they have used.
#[derive(Clone)]
pub(crate) struct Clients {
    allowance: Allowance,
    known: Arc<Mutex<HashMap<IpAddr, Client>>>,
}

/// A place that is given back when this is dropped.
pub(crate) struct Place {
    clients: Clients,
    key: IpAddr,
    of: PlaceKind,
}

#[derive(Clone, Copy)]
enum PlaceKind {
    Waiting,
    Connection,
}

impl Clients {
    pub(crate) fn new(allowance: Allowance) -> Self {
        Self {
            allowance,
            known: Arc::default(),
        }
    }

    /// Whether the client may ask once more.
    pub(crate) fn may_ask(&self, client: IpAddr, now: Instant) -> bool {
        let (_, free) = self.with(client, now, |known, allowance| {
            known.questions.take(allowance.questions, now)
        });
        free
    }

    /// A place among the questions that wait for somebody else's answer.
    pub(crate) fn may_forward(&self, client: IpAddr, now: Instant) -> Option<Place> {
        let (key, free) = self.with(client, now, |known, allowance| {
            let free =
                known.waiting < allowance.waiting && known.forwards.take(allowance.forwards, now);
            known.waiting += u16::from(free);
            free
        });
        free.then(|| self.place(key, PlaceKind::Waiting))
    }

    /// A place for a connection.
    pub(crate) fn may_connect(&self, client: IpAddr, now: Instant) -> Option<Place> {
        let (key, free) = self.with(client, now, |known, allowance| {
            let free = known.connections < allowance.connections;
            known.connections += u16::from(free);
            free
        });
        free.then(|| self.place(key, PlaceKind::Connection))
    }

    fn place(&self, key: IpAddr, of: PlaceKind) -> Place {
        Place {
            clients: self.clone(),
            key,
            of,
        }
    }

    fn with<T>(
        &self,
        client: IpAddr,
        now: Instant,
        work: impl FnOnce(&mut Client, &Allowance) -> T,
    ) -> (IpAddr, T) {
        let mut known = self.known.lock();
        if known.len() >= MAX_CLIENTS && !known.contains_key(&client) {
            known.retain(|_, client| !client.is_idle(now));
        }
        let shared = known.len() >= MAX_CLIENTS && !known.contains_key(&client);
        let key = if shared { SHARED } else { client };
        // An address that has a place is not forgotten, so its place comes back to it.
        let found = known
            .entry(key)
            .or_insert_with(|| Client::new(&self.allowance, now));
        (key, work(found, &self.allowance))
    }
}

/// The key of those that come when there are too many.
const SHARED: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

impl Drop for Place {
    fn drop(&mut self) {
        let mut known = self.clients.known.lock();
        if let Some(client) = known.get_mut(&self.key) {
            let count = match self.of {
                PlaceKind::Waiting => &mut client.waiting,
                PlaceKind::Connection => &mut client.connections,
            };
            *count = count.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    #[test]
    fn who_floods_uses_up_nothing_of_others() {
        let clients = Clients::new(Allowance::POD);
        let now = Instant::now();
        let asked = (0..100_000).filter(|_| clients.may_ask(ONE, now)).count();
        assert_eq!(asked, 4000);
        assert!(clients.may_ask(OTHER, now));
        // A second later it has what a second gives.
        let later = now + Duration::from_secs(1);
        let asked = (0..100_000).filter(|_| clients.may_ask(ONE, later)).count();
        assert!((1999..=2001).contains(&asked), "{asked}");
    }

    #[test]
    fn places_come_back() {
        let clients = Clients::new(Allowance::POD);
        let now = Instant::now();
        let places: Vec<_> = (0..100)
            .filter_map(|_| clients.may_forward(ONE, now))
            .collect();
        assert_eq!(places.len(), 64);
        assert!(clients.may_forward(OTHER, now).is_some());
        drop(places);
        assert!(clients.may_forward(ONE, now).is_some());
        let held: Vec<_> = (0..100)
            .filter_map(|_| clients.may_connect(ONE, now))
            .collect();
        assert_eq!(held.len(), 16);
    }

    #[test]
    fn many_addresses_take_no_memory_without_end() {
        let clients = Clients::new(Allowance::POD);
        let now = Instant::now();
        let address = |n: u32| IpAddr::V4(std::net::Ipv4Addr::from_bits(n));
        let allowed = (0..50_000).filter(|n| clients.may_ask(address(n + 1), now));
        // One question for each that is known, and one allowance for all others.
        assert_eq!(allowed.count(), MAX_CLIENTS + 4000);
        assert!(clients.known.lock().len() <= MAX_CLIENTS + 1);
        // When they have been quiet for a while there is room again.
        assert!(clients.may_ask(address(60_000), now + FORGET * 2));
        assert_eq!(clients.known.lock().len(), 1);
    }
}
