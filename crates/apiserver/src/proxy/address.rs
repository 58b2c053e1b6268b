//! To which addresses the server sends requests of its clients.
//!
//! Addresses of pods and nodes are what a node reported, and clients choose the pod: neither may lead the server to
//! itself, to its machine's other services, or to what only link-local neighbours reach (a cloud's metadata). The stock
//! server refuses loopback and link-local addresses (`IsProxyableIP`); berth refuses as well what is nobody's address, a
//! node's address under the name of a pod, and the server's own machine. The check is made on the very address that is
//! connected to, after names are resolved, so that no name service can change it in between.
//!
//! A pod with `hostNetwork` has its node's address. Its ports are declared by whoever was allowed to create it, so the
//! declared ones can be reached on that node, and no others: everything else on the machine is not the pod's.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// Who is to be at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Peer {
    /// The server of a node (kubelet), which shows a certificate before it is sent anything.
    Kubelet(NodeName),
    /// Another port of a node, which proves nothing.
    NodePort(NodeName),
    /// A pod.
    Pod(PodNetwork),
}

/// A Node, by name and UID.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NodeName {
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// What a pod's address may be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PodNetwork {
    /// Addresses of all nodes, which are not the pod's.
    pub(crate) nodes: BTreeSet<IpAddr>,
    /// Addresses of the pod's own node, when it has that node's network and declares the port.
    pub(crate) host: BTreeSet<IpAddr>,
}

/// Why an address is not connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("a loopback address")]
    Loopback,
    #[error("a link-local address")]
    LinkLocal,
    #[error("no address of a host")]
    NoHost,
    #[error("an address of a node, and not a declared port of a pod with its network")]
    Node,
    #[error("an address of the API server's machine")]
    Own,
}

/// Whether `peer` may be at `ip`; `local` are the names of nodes on the server's machine, `is_own` says which addresses
/// are that machine's.
///
/// # Errors
/// What is wrong with the address.
pub(crate) fn check(
    ip: IpAddr,
    peer: &Peer,
    local: impl Fn(&str) -> bool,
    is_own: impl Fn(IpAddr) -> bool,
) -> Result<(), Refusal> {
    let ip = canonical(ip);
    match (special(ip), peer) {
        (Some(Refusal::Loopback), Peer::Kubelet(node) | Peer::NodePort(node))
            if local(&node.name) =>
        {
            Ok(())
        }
        (Some(refusal), _) => Err(refusal),
        // its certificate tells whether it is the node
        (None, Peer::Kubelet(_)) => Ok(()),
        (None, Peer::NodePort(node)) if is_own(ip) && !local(&node.name) => Err(Refusal::Own),
        (None, Peer::NodePort(_)) => Ok(()),
        (None, Peer::Pod(network)) if network.host.contains(&ip) => Ok(()),
        (None, Peer::Pod(network)) if network.nodes.contains(&ip) => Err(Refusal::Node),
        (None, Peer::Pod(_)) if is_own(ip) => Err(Refusal::Own),
        (None, Peer::Pod(_)) => Ok(()),
    }
}

/// The address that a packet would go to: IPv4 addresses that are written as IPv6 ones are unwrapped.
pub(crate) fn canonical(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else {
        return ip;
    };
    let embedded = || {
        let [a, b, c, d, e, f, high, low] = v6.segments();
        let compatible = [a, b, c, d, e, f] == [0; 6] && high != 0;
        let translated = [a, b, c, d, e, f] == [0x64, 0xff9b, 0, 0, 0, 0];
        let [h1, h2] = high.to_be_bytes();
        let [l1, l2] = low.to_be_bytes();
        (compatible || translated).then(|| Ipv4Addr::new(h1, h2, l1, l2))
    };
    v6.to_ipv4_mapped().or_else(embedded).map_or(ip, IpAddr::V4)
}

/// Addresses that are never a pod's or another machine's.
fn special(ip: IpAddr) -> Option<Refusal> {
    if ip.is_loopback() {
        return Some(Refusal::Loopback);
    }
    if ip.is_unspecified() || ip.is_multicast() {
        return Some(Refusal::NoHost);
    }
    match ip {
        IpAddr::V4(v4) if v4.is_link_local() => Some(Refusal::LinkLocal),
        IpAddr::V4(v4) if v4.is_broadcast() || v4.octets()[0] == 0 => Some(Refusal::NoHost),
        IpAddr::V6(v6) if v6.is_unicast_link_local() || is_metadata(v6) => Some(Refusal::LinkLocal),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

/// Amazon's metadata service has an IPv6 address that is not link-local.
fn is_metadata(v6: Ipv6Addr) -> bool {
    v6 == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)
}

/// Whether the address is one of this machine: only those can be bound.
pub(crate) fn is_own(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeName {
        NodeName {
            name: name.to_owned(),
            uid: "u".to_owned(),
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn judge(address: &str, peer: &Peer) -> Result<(), Refusal> {
        check(
            ip(address),
            peer,
            |name| name == "here",
            |ip| ip == self::ip("192.0.2.1"),
        )
    }

    #[test]
    fn nobody_leads_the_server_to_itself_or_its_link() {
        let pod = Peer::Pod(PodNetwork::default());
        let peers = [pod, Peer::Kubelet(node("n")), Peer::NodePort(node("n"))];
        for (address, wanted) in [
            ("127.0.0.1", Err(Refusal::Loopback)),
            ("127.8.9.1", Err(Refusal::Loopback)),
            ("::1", Err(Refusal::Loopback)),
            ("::ffff:127.0.0.1", Err(Refusal::Loopback)),
            ("::127.0.0.1", Err(Refusal::Loopback)),
            ("64:ff9b::7f00:1", Err(Refusal::Loopback)),
            ("169.254.169.254", Err(Refusal::LinkLocal)),
            ("::ffff:169.254.169.254", Err(Refusal::LinkLocal)),
            ("fe80::1", Err(Refusal::LinkLocal)),
            ("fd00:ec2::254", Err(Refusal::LinkLocal)),
            ("0.0.0.0", Err(Refusal::NoHost)),
            ("0.1.2.3", Err(Refusal::NoHost)),
            ("::", Err(Refusal::NoHost)),
            ("224.0.0.1", Err(Refusal::NoHost)),
            ("ff02::1", Err(Refusal::NoHost)),
            ("255.255.255.255", Err(Refusal::NoHost)),
            ("10.1.2.3", Ok(())),
            ("2001:db8::1", Ok(())),
        ] {
            for peer in &peers {
                assert_eq!(judge(address, peer), wanted, "{address} {peer:?}");
            }
        }
    }

    #[test]
    fn a_node_of_this_machine_may_be_at_loopback_if_the_operator_says_so() {
        for peer in [Peer::Kubelet(node("here")), Peer::NodePort(node("here"))] {
            assert_eq!(judge("127.0.0.1", &peer), Ok(()));
            assert_eq!(judge("192.0.2.1", &peer), Ok(()));
            assert_eq!(judge("169.254.0.1", &peer), Err(Refusal::LinkLocal));
        }
        let other = Peer::NodePort(node("n"));
        assert_eq!(judge("192.0.2.1", &other), Err(Refusal::Own));
    }

    #[test]
    fn a_pod_is_not_its_node() {
        let mut network = PodNetwork {
            nodes: [ip("10.0.0.1"), ip("10.0.0.2")].into(),
            host: BTreeSet::new(),
        };
        let own = |network: &PodNetwork, address| judge(address, &Peer::Pod(network.clone()));
        assert_eq!(own(&network, "10.0.0.1"), Err(Refusal::Node));
        assert_eq!(own(&network, "::ffff:10.0.0.1"), Err(Refusal::Node));
        assert_eq!(own(&network, "192.0.2.1"), Err(Refusal::Own));
        network.host = [ip("10.0.0.1"), ip("127.0.0.1")].into();
        assert_eq!(own(&network, "10.0.0.1"), Ok(()));
        assert_eq!(own(&network, "10.0.0.2"), Err(Refusal::Node));
        assert_eq!(own(&network, "127.0.0.1"), Err(Refusal::Loopback));
    }
}
