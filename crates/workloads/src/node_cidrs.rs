//! Which addresses the pods of each node get, out of the cluster's: what the stock node IPAM controller decides.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use thiserror::Error;

/// Bits of a node's part where nobody says it, as in the stock controller manager.
const V4_BITS: u8 = 24;
const V6_BITS: u8 = 64;

/// Why the cluster's ranges can't be shared out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ClusterCidrError {
    /// None, or more than one of each family.
    #[error("one range of addresses is needed, or one of IPv4 and one of IPv6")]
    Families,
    /// A node would get more than there is.
    #[error(
        "the nodes' parts of {cidr} have masks of {bits} bits: that is no part of it (--node-cidr-mask-size)"
    )]
    Mask {
        /// The cluster's range.
        cidr: IpNet,
        /// Bits of a node's mask.
        bits: u8,
    },
}

/// The addresses of all pods, and how large a node's part is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterCidrs(Vec<Range>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    cluster: IpNet,
    /// Bits of a node's mask.
    bits: u8,
}

impl ClusterCidrs {
    /// From the cluster's ranges and the bits of the nodes' masks.
    ///
    /// # Errors
    /// When they can't be shared out so.
    pub fn new(
        cluster: &[IpNet],
        v4_bits: Option<u8>,
        v6_bits: Option<u8>,
    ) -> Result<Self, ClusterCidrError> {
        let of_family = |v4| cluster.iter().filter(move |c| c.addr().is_ipv4() == v4);
        if cluster.is_empty() || of_family(true).count() > 1 || of_family(false).count() > 1 {
            return Err(ClusterCidrError::Families);
        }
        let ranges = cluster.iter().map(|cidr| {
            let bits = match cidr {
                IpNet::V4(_) => v4_bits.unwrap_or(V4_BITS),
                IpNet::V6(_) => v6_bits.unwrap_or(V6_BITS),
            };
            if bits < cidr.prefix_len() || bits > cidr.max_prefix_len() {
                return Err(ClusterCidrError::Mask { cidr: *cidr, bits });
            }
            let cluster = cidr.trunc();
            Ok(Range { cluster, bits })
        });
        Ok(Self(ranges.collect::<Result<_, _>>()?))
    }

    /// What the nodes get that have nothing yet, the oldest first; nothing for those for whom nothing is left. Parts with
    /// addresses of `others` (those of Services) are not given out.
    #[must_use]
    pub fn assign<'n>(
        &self,
        nodes: impl IntoIterator<Item = &'n Node>,
        others: &[IpNet],
    ) -> BTreeMap<String, Option<Vec<IpNet>>> {
        let mut waiting = Vec::new();
        let mut taken: Vec<Taken> = self.0.iter().map(|range| range.taken(others)).collect();
        for node in nodes {
            let held = held(node);
            if held.is_empty() && node.metadata.deletion_timestamp.is_none() {
                let created = node.metadata.creation_timestamp.as_ref().map(|t| t.0);
                waiting.push((created, node.metadata.name.clone().unwrap_or_default()));
            }
            for (range, taken) in self.0.iter().zip(&mut taken) {
                held.iter().for_each(|cidr| range.take(taken, *cidr));
            }
        }
        waiting.sort();
        let assigned = waiting.into_iter().map(|(_, name)| {
            let ranges = self.0.iter().zip(&taken);
            let parts = ranges.map(|(range, taken)| range.free(taken));
            let parts: Option<Vec<IpNet>> = parts.collect();
            // Of two families a node gets both or none.
            for (range, taken) in self.0.iter().zip(&mut taken) {
                let own = parts.iter().flatten();
                own.for_each(|cidr| range.take(taken, *cidr));
            }
            (name, parts)
        });
        assigned.collect()
    }
}

/// The ranges that a node has. What can't be read holds nothing; the API server takes no such thing.
fn held(node: &Node) -> Vec<IpNet> {
    let spec = node.spec.as_ref();
    let many = spec.and_then(|spec| spec.pod_cidrs.as_deref());
    let one = spec.and_then(|spec| spec.pod_cidr.as_ref());
    let all = many.unwrap_or_default().iter().chain(one);
    all.filter_map(|cidr| cidr.parse().ok()).collect()
}

/// Which parts are taken: from the number of the first to that of the last.
type Taken = BTreeMap<u128, u128>;

impl Range {
    fn taken(&self, others: &[IpNet]) -> Taken {
        let mut taken = Taken::new();
        others.iter().for_each(|cidr| self.take(&mut taken, *cidr));
        taken
    }

    /// Bits of an address that are the same in all of a part.
    fn shift(&self) -> u8 {
        self.cluster.max_prefix_len() - self.bits
    }

    /// The number of the part in which an address of the cluster's range is.
    fn part(&self, address: IpAddr) -> u128 {
        let from_start = number(address) - number(self.cluster.network());
        from_start.checked_shr(self.shift().into()).unwrap_or(0)
    }

    /// Takes all parts that have addresses of a network.
    fn take(&self, taken: &mut Taken, cidr: IpNet) {
        let last = |net: &IpNet| number(net.broadcast());
        if cidr.addr().is_ipv4() != self.cluster.addr().is_ipv4()
            || number(cidr.network()) > last(&self.cluster)
            || last(&cidr) < number(self.cluster.network())
        {
            return;
        }
        let first = if self.cluster.contains(&cidr.network()) {
            self.part(cidr.network())
        } else {
            0
        };
        let end = if self.cluster.contains(&cidr.broadcast()) {
            self.part(cidr.broadcast())
        } else {
            self.part(self.cluster.broadcast())
        };
        let there = taken.entry(first).or_insert(end);
        *there = end.max(*there);
    }

    /// The first part that nobody has.
    fn free(&self, taken: &Taken) -> Option<IpNet> {
        let mut next = 0;
        for (first, last) in taken {
            if *first > next {
                break;
            }
            next = next.max(last.checked_add(1)?);
        }
        if next > self.part(self.cluster.broadcast()) {
            return None;
        }
        let start = next.checked_shl(self.shift().into()).unwrap_or(0);
        let start = number(self.cluster.network()) + start;
        let address = match self.cluster {
            IpNet::V4(_) => IpAddr::V4(u32::try_from(start).ok()?.into()),
            IpNet::V6(_) => IpAddr::V6(start.into()),
        };
        IpNet::new(address, self.bits).ok()
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn nets(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|cidr| cidr.parse().unwrap()).collect()
    }

    fn node(name: &str, cidrs: &[&str]) -> Node {
        let created = format!("2026-01-01T00:00:0{}Z", name.len() % 10);
        from_value(
            json!({"metadata": {"name": name, "creationTimestamp": created},
            "spec": {"podCIDRs": cidrs, "podCIDR": cidrs.first()}}),
        )
        .unwrap()
    }

    /// `NAME RANGE,...` for each node that gets something, `NAME -` for one that can't.
    fn given(cluster: &ClusterCidrs, nodes: &[Node], others: &[&str]) -> Vec<String> {
        let all = cluster.assign(nodes, &nets(others)).into_iter();
        let text = all.map(|(name, parts)| match parts {
            None => format!("{name} -"),
            Some(parts) => {
                let parts: Vec<String> = parts.iter().map(ToString::to_string).collect();
                format!("{name} {}", parts.join(","))
            }
        });
        text.collect()
    }

    #[test]
    fn a_node_gets_the_first_part_that_nobody_has() {
        let cluster = ClusterCidrs::new(&nets(&["10.0.0.0/22"]), None, None).unwrap();
        let has = node("has", &["10.0.1.0/24"]);
        let both = [node("bb", &[]), has.clone(), node("a", &[])];
        assert_eq!(
            given(&cluster, &both, &[]),
            ["a 10.0.0.0/24", "bb 10.0.2.0/24"],
            "the oldest first"
        );
        assert_eq!(
            given(&cluster, &both, &["10.0.0.128/25", "10.0.2.0/23"]),
            ["a -", "bb -"],
            "parts with addresses of Services are not given out"
        );
        // What a node has counts, whatever its size, and also where it is not of this range.
        let wide = [node("w", &["10.0.0.0/23"]), node("a", &[])];
        assert_eq!(given(&cluster, &wide, &[]), ["a 10.0.2.0/24"]);
        let around = [node("w", &["10.0.0.0/8"]), node("a", &[])];
        assert_eq!(given(&cluster, &around, &[]), ["a -"]);
        let far = [node("w", &["192.168.0.0/24"]), node("a", &[])];
        assert_eq!(given(&cluster, &far, &[]), ["a 10.0.0.0/24"]);
    }

    #[test]
    fn of_two_families_a_node_gets_both_or_none() {
        let ranges = nets(&["10.0.0.0/24", "fd00::/63"]);
        let cluster = ClusterCidrs::new(&ranges, Some(25), None).unwrap();
        let nodes = [node("a", &[]), node("bb", &[]), node("ccc", &[])];
        assert_eq!(
            given(&cluster, &nodes, &[]),
            [
                "a 10.0.0.0/25,fd00::/64",
                "bb 10.0.0.128/25,fd00:0:0:1::/64",
                "ccc -"
            ]
        );
    }

    #[test]
    fn ranges_that_cannot_be_shared_out_are_refused() {
        let new = |list: &[&str], bits| ClusterCidrs::new(&nets(list), bits, None);
        assert_eq!(new(&[], None), Err(ClusterCidrError::Families));
        let two = ["10.0.0.0/16", "10.1.0.0/16"];
        assert_eq!(new(&two, None), Err(ClusterCidrError::Families));
        for bits in [15, 33] {
            let refused = new(&["10.0.0.0/16"], Some(bits)).unwrap_err();
            assert!(refused.to_string().contains("10.0.0.0/16"), "{refused}");
        }
        assert!(new(&["10.0.0.0/24"], Some(24)).is_ok());
        // The last address of all is no reason to count over.
        let last = ClusterCidrs::new(&nets(&["255.255.255.0/24"]), Some(32), None).unwrap();
        let nodes = [node("a", &["255.255.255.0/25"]), node("b", &[])];
        assert_eq!(given(&last, &nodes, &[]), ["b 255.255.255.128/32"]);
        let all = ClusterCidrs::new(&nets(&["::/0"]), None, Some(128)).unwrap();
        assert_eq!(given(&all, &[node("b", &[])], &[]), ["b ::/128"]);
    }
}
