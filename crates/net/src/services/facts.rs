//! What is known of this node.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;

/// A transport protocol that Services can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    pub(crate) const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// As the API names it; nothing means TCP.
    pub(crate) fn parse(text: Option<&str>) -> Option<Self> {
        match text {
            None | Some("" | "TCP") => Some(Self::Tcp),
            Some("UDP") => Some(Self::Udp),
            Some("SCTP") => Some(Self::Sctp),
            Some(_) => None,
        }
    }

    /// As nft names it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// As the API names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }

    /// Its number on the wire.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The one that has this number on the wire.
    pub(crate) fn of_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.number() == number)
    }
}

/// What the rules depend on besides Services and their endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The node's name.
    pub(crate) node: String,
    /// The zone that its label says it is in.
    pub(crate) zone: Option<String>,
    /// The addresses that the node reports: node ports and load balancers are there.
    pub(crate) addresses: Vec<IpAddr>,
    /// All addresses of this machine's interfaces.
    pub(crate) own: BTreeSet<IpAddr>,
    /// Where this network's pods are; none when nobody knows: then it doesn't matter who sends to a cluster address.
    pub(crate) pod_cidrs: Vec<IpNet>,
    /// What `externalIPs` may be led.
    pub(crate) external_ips: Vec<IpNet>,
    /// Ports of the node's own servers.
    pub(crate) reserved: BTreeSet<u16>,
    /// Ports on which a program of this machine listens, or could be meant by others.
    pub(crate) taken: BTreeSet<(Protocol, u16)>,
    /// Whether answers between two ports of the bridge pass the rules. Where they don't, they have to come back to this
    /// machine.
    pub(crate) bridge_passes_rules: bool,
}

impl Facts {
    pub(crate) fn is_pod(&self, address: IpAddr) -> bool {
        self.pod_cidrs.iter().any(|cidr| cidr.contains(&address))
    }
}

/// All addresses of this machine's interfaces. It blocks.
///
/// # Errors
/// When the kernel doesn't say.
pub(crate) fn own_addresses() -> io::Result<BTreeSet<IpAddr>> {
    let addresses = nix::ifaddrs::getifaddrs()?.filter_map(|one| {
        let address = one.address?;
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::from(a.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|a| a.ip().into()))
    });
    Ok(addresses.collect())
}
