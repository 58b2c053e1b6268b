//! What the kernel says of this machine and of the pods' bridge.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use berth_supervise::unblock;
use ipnet::IpNet;
use nix::sys::socket::SockaddrStorage;

use super::links::{self, Link};
use crate::services::bridge;
use crate::services::facts::own_addresses;

pub(super) struct Learned {
    /// All addresses of this machine's interfaces.
    pub(super) own: BTreeSet<IpAddr>,
    /// Whether what goes from one port of the bridge to another passes the rules of the IP layer.
    pub(super) passes: bool,
    /// The ports of the bridge with their pods.
    pub(super) links: Vec<Link>,
    /// The networks of the bridge's own addresses.
    pub(super) networks: Vec<IpNet>,
}

/// Where the pods of a bridge are, for who is not told: its networks, and the addresses of its ports that are in none of them.
pub(super) fn pod_cidrs(networks: &[IpNet], links: &[Link]) -> Vec<IpNet> {
    let mut all = networks.to_vec();
    for address in links.iter().flat_map(|link| &link.addresses) {
        if !all.iter().any(|network| network.contains(address)) {
            all.push(IpNet::from(*address));
        }
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// The networks of an interface's addresses, without those that every interface has. It blocks.
fn networks_of(interface: &str) -> io::Result<Vec<IpNet>> {
    let all = nix::ifaddrs::getifaddrs()?.filter(|one| one.interface_name == interface);
    let networks = all.filter_map(|one| {
        let (address, mask) = (ip(&one.address?)?, ip(&one.netmask?)?);
        let is_everywhere = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let network = IpNet::with_netmask(address, mask).ok()?;
        (!is_everywhere).then(|| network.trunc())
    });
    Ok(networks.collect())
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|a| IpAddr::from(a.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|a| a.ip().into()))
}

/// Learns it.
///
/// # Errors
/// When the kernel doesn't say.
pub(super) async fn learn(bridge: &str) -> io::Result<Learned> {
    let bridge = bridge.to_owned();
    unblock(move || {
        io::Result::Ok(Learned {
            own: own_addresses()?,
            passes: bridge::passes_rules(&bridge),
            links: links::of_bridge(&bridge)?,
            networks: networks_of(&bridge)?,
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_in_the_bridges_networks_or_where_their_ports_say() {
        let link = |ip: &str| Link {
            name: "veth1".to_owned(),
            uid: "u".to_owned(),
            mac: "02:00:00:00:00:01".to_owned(),
            addresses: vec![ip.parse().unwrap()],
        };
        let networks = ["10.1.0.0/24".parse().unwrap()];
        let found = pod_cidrs(&networks, &[link("10.1.0.7"), link("fd00::7")]);
        let found: Vec<String> = found.iter().map(IpNet::to_string).collect();
        assert_eq!(found, ["10.1.0.0/24", "fd00::7/128"]);
        assert_eq!(pod_cidrs(&[], &[]), []);
    }

    #[test]
    fn the_kernel_says_which_networks_an_interface_has() {
        let lo = networks_of("lo").unwrap();
        assert!(lo.contains(&"127.0.0.0/8".parse().unwrap()), "{lo:?}");
        assert_eq!(networks_of("no-such-bridge").unwrap(), []);
    }
}
