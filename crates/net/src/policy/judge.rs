//! Whether a connection may be: the same as the rules in the kernel say, for connections that there are already.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use berth_rules::network_floor::{FloorLevel, NetworkFloor};

use super::decisions::{Allowed, DNS_PORT, Decisions, Direction, Facts, Side, Subject};
use super::ranges::Blocks;
use crate::services::facts::Protocol;

/// Where clouds tell a machine its credentials.
pub(crate) const METADATA: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// The networks that a floor leaves open.
pub(crate) fn excepted(floor: &NetworkFloor) -> Blocks {
    let mut blocks = Blocks::default();
    for network in &floor.except {
        blocks.add(*network, &[]);
    }
    blocks.finish();
    blocks
}

/// Answers for one state of things.
pub(crate) struct Judge<'a> {
    decisions: &'a Decisions,
    facts: &'a Facts,
    /// Pods of this node by address; nothing is decided for those that are closed.
    here: BTreeMap<IpAddr, Option<Judged<'a>>>,
}

/// A pod that something is decided for.
struct Judged<'a> {
    subject: &'a Subject,
    /// What its class denies, and the networks that this leaves open.
    floor: Option<(&'a NetworkFloor, Blocks)>,
}

impl<'a> Judge<'a> {
    /// Of these decisions; `here` are all addresses behind ports of the bridge, with their UIDs.
    pub(crate) fn new(
        decisions: &'a Decisions,
        facts: &'a Facts,
        here: impl IntoIterator<Item = (IpAddr, &'a str)>,
    ) -> Self {
        let judged = |uid: &str| {
            let subject = decisions.subjects.get(uid)?;
            let floor = subject.floor.as_ref();
            Some(Judged {
                subject,
                floor: floor.map(|floor| (floor, excepted(floor))),
            })
        };
        let here = here.into_iter();
        let here = here.map(|(address, uid)| (address, judged(uid)));
        Self {
            decisions,
            facts,
            here: here.collect(),
        }
    }

    /// Whether a connection may go on; `protocol` is nothing for one that has no ports.
    pub(crate) fn allows(
        &self,
        protocol: Option<Protocol>,
        from: SocketAddr,
        to: SocketAddr,
    ) -> bool {
        if from.ip() == to.ip() {
            return true;
        }
        let may_leave = match self.here.get(&from.ip()) {
            None => true,
            Some(None) => false,
            Some(Some(pod)) => self.egress(pod, protocol, to),
        };
        // What this machine begins itself reaches all of its pods.
        let from_here = self.facts.own.contains(&from.ip());
        let may_enter = match self.here.get(&to.ip()) {
            None => true,
            Some(_) if from_here => true,
            Some(None) => false,
            Some(Some(pod)) => self.ingress(pod, protocol, from.ip(), to),
        };
        may_leave && may_enter
    }

    fn egress(&self, pod: &Judged<'_>, protocol: Option<Protocol>, to: SocketAddr) -> bool {
        if let Some((floor, open)) = &pod.floor
            && self.denies_egress(floor, open, protocol, to)
        {
            return false;
        }
        self.side(pod.subject, Direction::Egress, protocol, to.ip(), to)
    }

    fn ingress(
        &self,
        pod: &Judged<'_>,
        protocol: Option<Protocol>,
        from: IpAddr,
        to: SocketAddr,
    ) -> bool {
        let is_denied = pod.floor.as_ref().is_some_and(|(floor, open)| {
            floor.level == FloorLevel::DenyAll && !open.contains(from)
        });
        !is_denied && self.side(pod.subject, Direction::Ingress, protocol, from, to)
    }

    fn denies_egress(
        &self,
        floor: &NetworkFloor,
        open: &Blocks,
        protocol: Option<Protocol>,
        to: SocketAddr,
    ) -> bool {
        let is_own = self.facts.own.contains(&to.ip());
        let is_dns = self.facts.dns.contains(&to.ip())
            && to.port() == DNS_PORT
            && matches!(protocol, Some(Protocol::Tcp | Protocol::Udp));
        let is_open = open.contains(to.ip()) || (floor.node && is_own) || (floor.dns && is_dns);
        let is_node =
            is_own && protocol == Some(Protocol::Tcp) && to.port() == self.facts.node_port;
        !is_open
            && match floor.level {
                FloorLevel::DenyAll | FloorLevel::DenyEgress => true,
                FloorLevel::Allow => is_node || METADATA.contains(&to.ip()),
            }
    }

    fn side(
        &self,
        subject: &Subject,
        direction: Direction,
        protocol: Option<Protocol>,
        peer: IpAddr,
        to: SocketAddr,
    ) -> bool {
        let Side::Isolated(by) = subject.side(direction) else {
            return true;
        };
        by.iter().any(|uid| {
            let policy = self.decisions.policies.get(&(direction, uid.clone()));
            policy.is_some_and(|(_, rules)| {
                rules
                    .iter()
                    .any(|rule| self.allowed(rule, protocol, peer, to))
            })
        })
    }

    fn allowed(
        &self,
        rule: &Allowed,
        protocol: Option<Protocol>,
        peer: IpAddr,
        to: SocketAddr,
    ) -> bool {
        let is_dns = self.facts.dns.contains(&peer) && to.port() == DNS_PORT;
        if is_dns && protocol.is_some_and(|protocol| rule.dns.contains(&protocol)) {
            return true;
        }
        let pods = rule.pods.as_ref();
        let is_peer = rule.anybody
            || pods.is_some_and(|pods| pods.contains(&peer))
            || rule.blocks.contains(peer);
        let mut ports = rule.ports.iter();
        let is_port = rule.every_port
            || ports.any(|(of, first, last)| {
                Some(*of) == protocol && (*first..=*last).contains(&to.port())
            })
            || rule
                .named
                .as_ref()
                .zip(protocol)
                .is_some_and(|(named, protocol)| named.contains(&(to.ip(), protocol, to.port())));
        is_peer && is_port
    }
}

/// Whether something that was allowed may not be allowed any more. What is only wider, or about pods that were not there, cuts nothing.
pub(crate) fn is_tighter(before: &Decisions, after: &Decisions) -> bool {
    let pods = before
        .subjects
        .iter()
        .any(|(uid, old)| match after.subjects.get(uid) {
            None => after.closed.contains_key(uid),
            Some(new) => {
                (&old.floor, &old.ingress, &old.egress) != (&new.floor, &new.ingress, &new.egress)
            }
        });
    let rules = before.policies.iter().any(|(of, (_, old))| {
        let Some((_, new)) = after.policies.get(of) else {
            // It isolates nobody any more, or its pods are said above to differ.
            return false;
        };
        old.len() != new.len() || old.iter().zip(new).any(|(old, new)| has_less(old, new))
    });
    pods || rules
}

fn has_less(old: &Allowed, new: &Allowed) -> bool {
    let (pods, named) = (
        is_subset(old.pods.as_ref(), new.pods.as_ref()),
        is_subset(old.named.as_ref(), new.named.as_ref()),
    );
    let same = (
        old.anybody,
        &old.blocks,
        &old.dns,
        old.every_port,
        &old.ports,
    ) == (
        new.anybody,
        &new.blocks,
        &new.dns,
        new.every_port,
        &new.ports,
    );
    !(pods && named && same)
}

fn is_subset<T: Ord>(old: Option<&BTreeSet<T>>, new: Option<&BTreeSet<T>>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => old.is_subset(new),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}
