//! What each pod of this node may do, as it is decided.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use berth_rules::network_floor::NetworkFloor;
use ipnet::IpNet;

use super::links::Link;
use super::ranges::Blocks;
use crate::services::facts::Protocol;
use crate::services::model::Key;

/// Where DNS servers are asked.
pub(crate) const DNS_PORT: u16 = 53;

/// What is known of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Its name.
    pub(crate) node: String,
    /// The pods' bridge.
    pub(crate) bridge: String,
    /// Addresses of the pods of this bridge.
    pub(crate) pod_cidrs: Vec<IpNet>,
    /// Addresses of berth's own DNS server; none where somebody else's answers.
    pub(crate) dns: Vec<IpAddr>,
    /// The port of the node's own API.
    pub(crate) node_port: u16,
    /// All addresses of this machine's interfaces.
    pub(crate) own: BTreeSet<IpAddr>,
    /// Whether what goes from one port of the bridge to another passes the rules of the IP layer.
    pub(crate) bridge_passes_rules: bool,
}

/// What policies say of a pod in a direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// None is about it.
    Open,
    /// Only what these allow passes, by UID.
    Isolated(Vec<String>),
}

/// Which way a connection begins, seen from the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Direction {
    Ingress,
    Egress,
}

/// A pod of this node that something is decided for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) link: Link,
    pub(crate) key: Key,
    pub(crate) floor: Option<NetworkFloor>,
    pub(crate) ingress: Side,
    pub(crate) egress: Side,
}

/// A rule of a policy, with addresses in place of names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// Every peer.
    pub(crate) anybody: bool,
    /// Addresses of pods, where the rule has selectors.
    pub(crate) pods: Option<BTreeSet<IpAddr>>,
    pub(crate) blocks: Blocks,
    /// The protocols by which it lets the cluster's DNS server be asked.
    pub(crate) dns: Vec<Protocol>,
    /// Every port of every protocol.
    pub(crate) every_port: bool,
    pub(crate) ports: Vec<(Protocol, u16, u16)>,
    /// Ports by name, as the pods that are reached have them.
    pub(crate) named: Option<BTreeSet<(IpAddr, Protocol, u16)>>,
}

/// What comes of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Decisions {
    /// By UID. A pod that is in neither map is closed.
    pub(crate) subjects: BTreeMap<String, Subject>,
    /// Pods that are closed, and why.
    pub(crate) closed: BTreeMap<String, String>,
    /// The policies that isolate somebody, by UID, with the name that comments have.
    pub(crate) policies: BTreeMap<(Direction, String), (Key, Vec<Allowed>)>,
}

impl Subject {
    pub(crate) fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Ingress => &self.ingress,
            Direction::Egress => &self.egress,
        }
    }

    /// Whether something could be forbidden it, in whichever direction.
    pub(crate) fn is_restricted(&self) -> bool {
        self.floor.is_some() || self.ingress != Side::Open || self.egress != Side::Open
    }
}
