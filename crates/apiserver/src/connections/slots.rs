//! How many connections there are, and whose.
//!
//! A connection counts for its address until a request on it has been authenticated, then for that user: whoever only
//! opens connections can crowd out nobody but others at the same address who have shown nothing yet, and of those the
//! oldest goes first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};

/// Number of a connection; it grows with each.
pub(crate) type Id = u64;

/// The bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// All connections.
    pub(crate) total: usize,
    /// Those of one address without a user.
    pub(crate) of_address: usize,
    /// Those of one user.
    pub(crate) of_user: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Owner {
    Address(IpAddr),
    User { name: String, standing: Standing },
}

/// What a user's connections are bounded by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Each by a limit of its own, and all of them together by what they leave to the system: whoever may create
    /// accounts has many names.
    User,
    /// By a limit of its own.
    System,
    /// By nothing.
    Administrator,
}

/// What becomes of a new connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It has a slot; another may have lost its own.
    Taken {
        id: Id,
        /// The connection that must be closed.
        evicted: Option<Id>,
    },
    /// All connections belong to users.
    Full,
}

/// All connections.
#[derive(Debug)]
pub(crate) struct Slots {
    bounds: Bounds,
    open: BTreeMap<Id, Owner>,
    /// Without a user, oldest first.
    unproven: BTreeSet<Id>,
    by_address: HashMap<IpAddr, BTreeSet<Id>>,
    by_user: HashMap<String, usize>,
    /// Connections of users that are not of the system.
    of_all_users: usize,
    next: Id,
}

impl Slots {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            open: BTreeMap::new(),
            unproven: BTreeSet::new(),
            by_address: HashMap::new(),
            by_user: HashMap::new(),
            of_all_users: 0,
            next: 0,
        }
    }

    /// How many there are.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether a new connection could have a slot.
    pub(crate) fn has_room(&self) -> bool {
        self.open.len() < self.bounds.total || !self.unproven.is_empty()
    }

    /// A connection comes from an address.
    pub(crate) fn arrive(&mut self, address: IpAddr) -> Arrival {
        let address = client_of(address);
        let of_address = self.by_address.get(&address);
        let evicted = match of_address {
            Some(ids) if ids.len() >= self.bounds.of_address => ids.first().copied(),
            _ if self.open.len() < self.bounds.total => None,
            _ => match self.unproven.first() {
                Some(oldest) => Some(*oldest),
                None => return Arrival::Full,
            },
        };
        if let Some(oldest) = evicted {
            self.leave(oldest);
        }
        let id = self.next;
        self.next += 1;
        self.open.insert(id, Owner::Address(address));
        self.unproven.insert(id);
        self.by_address.entry(address).or_default().insert(id);
        Arrival::Taken { id, evicted }
    }

    /// A request on the connection was authenticated. False when its user, or all users together, have too many
    /// connections already.
    pub(crate) fn prove(&mut self, id: Id, user: &str, standing: Standing) -> bool {
        if !self.unproven.contains(&id) {
            // Already proven, or evicted in this moment.
            return true;
        }
        let of_user = self.by_user.get(user).copied().unwrap_or(0);
        let has_too_many = of_user >= self.bounds.of_user;
        let all_have_too_many = self.of_all_users >= self.bounds.total - self.bounds.total / 4;
        let refused = match standing {
            Standing::User => has_too_many || all_have_too_many,
            Standing::System => has_too_many,
            Standing::Administrator => false,
        };
        if refused {
            return false;
        }
        self.leave(id);
        if standing == Standing::User {
            self.of_all_users += 1;
        }
        let name = user.to_owned();
        self.open.insert(id, Owner::User { name, standing });
        *self.by_user.entry(user.to_owned()).or_default() += 1;
        true
    }

    /// A connection is gone; once more does no harm.
    pub(crate) fn leave(&mut self, id: Id) {
        match self.open.remove(&id) {
            None => {}
            Some(Owner::Address(address)) => {
                self.unproven.remove(&id);
                if let Some(ids) = self.by_address.get_mut(&address) {
                    ids.remove(&id);
                    if ids.is_empty() {
                        self.by_address.remove(&address);
                    }
                }
            }
            Some(Owner::User { name, standing }) => {
                if standing == Standing::User {
                    self.of_all_users = self.of_all_users.saturating_sub(1);
                }
                if let Some(count) = self.by_user.get_mut(&name) {
                    *count -= 1;
                    if *count == 0 {
                        self.by_user.remove(&name);
                    }
                }
            }
        }
    }
}

/// What counts as one client: an IPv4 address, or the 64 bits of an IPv6 network, within which addresses cost nothing.
fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(total: usize, of_address: usize, of_user: usize) -> Slots {
        Slots::new(Bounds {
            total,
            of_address,
            of_user,
        })
    }

    fn taken(id: Id, evicted: Option<Id>) -> Arrival {
        Arrival::Taken { id, evicted }
    }

    const A: &str = "10.0.0.1";
    const B: &str = "10.0.0.2";

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_oldest_without_a_user_makes_room() {
        let mut s = slots(10, 2, 10);
        assert_eq!(s.arrive(ip(A)), taken(0, None));
        assert_eq!(s.arrive(ip(A)), taken(1, None));
        assert!(s.prove(0, "jane", Standing::User));
        assert_eq!(s.arrive(ip(A)), taken(2, None));
        assert_eq!(s.arrive(ip(A)), taken(3, Some(1)));
        assert_eq!(s.arrive(ip(B)), taken(4, None));
        // What was evicted leaves once more when its task ends.
        s.leave(1);
        assert_eq!(s.len(), 4);
        for id in [0, 2, 3, 4] {
            s.leave(id);
        }
        assert_eq!(s.len(), 0);
        assert!(s.by_address.is_empty() && s.by_user.is_empty() && s.unproven.is_empty());
    }

    #[test]
    fn when_all_have_users_the_server_is_full() {
        let mut s = slots(2, 10, 10);
        assert_eq!(s.arrive(ip(A)), taken(0, None));
        assert_eq!(s.arrive(ip(B)), taken(1, None));
        assert_eq!(s.arrive(ip(B)), taken(2, Some(0)));
        assert!(s.prove(1, "a", Standing::User) && s.prove(2, "b", Standing::User));
        assert!(!s.has_room());
        assert_eq!(s.arrive(ip(A)), Arrival::Full);
        s.leave(1);
        assert!(s.has_room());
        assert_eq!(s.arrive(ip(A)), taken(3, None));
    }

    #[test]
    fn a_user_has_so_many_connections() {
        let mut s = slots(10, 10, 1);
        for _ in 0..4 {
            let _ = s.arrive(ip(A));
        }
        assert!(s.prove(0, "jane", Standing::User));
        assert!(
            s.prove(0, "jane", Standing::User),
            "once more is nothing new"
        );
        assert!(!s.prove(1, "jane", Standing::User));
        assert!(s.prove(1, "joe", Standing::User));
        assert!(
            s.prove(2, "admin", Standing::Administrator)
                && s.prove(3, "admin", Standing::Administrator)
        );
        s.leave(0);
        let _ = s.arrive(ip(A));
        assert!(s.prove(4, "jane", Standing::User));
    }

    #[test]
    fn many_names_leave_room_for_the_system() {
        let mut s = slots(8, 10, 10);
        for id in 0..8 {
            assert_eq!(s.arrive(ip(A)), taken(id, None));
        }
        let mut proven = 0;
        for id in 0..8 {
            if s.prove(id, &format!("robot-{id}"), Standing::User) {
                proven += 1;
            }
        }
        assert_eq!(proven, 6);
        assert!(s.has_room());
        assert!(s.prove(6, "system:node:a", Standing::System));
        s.leave(0);
        assert!(s.prove(7, "robot-7", Standing::User));
    }

    #[test]
    fn an_ipv6_network_is_one_client() {
        assert_eq!(
            client_of(ip("2001:db8::1")),
            client_of(ip("2001:db8::ffff:2"))
        );
        assert_ne!(
            client_of(ip("2001:db8::1")),
            client_of(ip("2001:db8:0:1::1"))
        );
        assert_eq!(client_of(ip("::ffff:10.0.0.1")), ip("10.0.0.1"));
    }
}
