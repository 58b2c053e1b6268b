//! A range of service addresses: what of it is given out, and in which order.
//!
//! The first address after the network's own and those up to an offset are the last to be given to who asks for none in
//! particular, so that static addresses find some free (KEP-3070).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::families::IpFamily;
use crate::values::parse_cidr;

/// Bounds of the lower part.
const OFFSET: std::ops::RangeInclusive<u128> = 16..=256;
/// The shortest prefix of an IPv6 range.
const MIN_IPV6_BITS: u8 = 64;

/// Addresses from the first to the last, both included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRange {
    family: IpFamily,
    bits: u8,
    first: u128,
    /// Begin of the upper part.
    upper: u128,
    last: u128,
}

impl ServiceRange {
    /// The range of a CIDR.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(cidr: &str) -> Result<Self, String> {
        let (address, bits) = parse_cidr(cidr)
            .ok_or_else(|| format!("{cidr:?} is no CIDR (e.g. 10.96.0.0/16 or fd00:96::/112)"))?;
        let family = IpFamily::of(address);
        let host_bits = u32::from(width(family)) - u32::from(bits);
        if family == IpFamily::V6 && bits < MIN_IPV6_BITS {
            return Err(format!(
                "{cidr:?}: shortest allowed prefix length for service CIDR is 64, got {bits}"
            ));
        }
        if host_bits < 2 {
            return Err(format!("{cidr:?} has no room for services"));
        }
        // There are at most 64 host bits.
        let size = 1_u128 << host_bits;
        let base = number(address) & !(size - 1);
        // The network's own address is not given out, nor is the broadcast address of IPv4.
        let usable = size - if family == IpFamily::V4 { 2 } else { 1 };
        let first = base + 1;
        let offset = offset(size).min(usable);
        Ok(Self {
            family,
            bits,
            first,
            upper: first + offset,
            last: base + usable,
        })
    }

    /// Its family.
    #[must_use]
    pub const fn family(&self) -> IpFamily {
        self.family
    }

    /// The address of the service `default/kubernetes`, if it is the cluster's first range.
    #[must_use]
    pub fn first(&self) -> IpAddr {
        address(self.family, self.first)
    }

    /// As ServiceCIDRs write it.
    #[must_use]
    pub fn cidr(&self) -> String {
        format!("{}/{}", address(self.family, self.first - 1), self.bits)
    }

    /// Whether the address lies in the network, its own and the broadcast address included.
    #[must_use]
    pub fn covers(&self, ip: IpAddr) -> bool {
        let host = 1_u128 << (u32::from(width(self.family)) - u32::from(self.bits));
        let base = self.first - 1;
        IpFamily::of(ip) == self.family && (base..base + host).contains(&number(ip))
    }

    /// Whether the address may be given out.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        IpFamily::of(ip) == self.family && (self.first..=self.last).contains(&number(ip))
    }

    /// All addresses in the order in which they are tried: those of the upper part from a place that `random` says, then
    /// those of the lower part.
    pub fn candidates(&self, random: u64) -> impl Iterator<Item = IpAddr> {
        let family = self.family;
        around(self.upper, self.last, random)
            .chain(around(self.first, self.upper - 1, random))
            .map(move |number| address(family, number))
    }
}

/// The numbers from `first` to `last`, beginning at a place in between.
fn around(first: u128, last: u128, random: u64) -> impl Iterator<Item = u128> {
    let size = (last + 1).saturating_sub(first);
    let start = first + u128::from(random).checked_rem(size).unwrap_or(0);
    let end = first + size;
    (start..end).chain(first..start.min(end))
}

fn offset(size: u128) -> u128 {
    let (least, most) = (*OFFSET.start(), *OFFSET.end());
    if size <= least {
        return 0;
    }
    (size / 16).clamp(least, most)
}

const fn width(family: IpFamily) -> u8 {
    match family {
        IpFamily::V4 => 32,
        IpFamily::V6 => 128,
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn address(family: IpFamily, number: u128) -> IpAddr {
    match family {
        // The lower 32 bits: what is given out begins with a network that was an IPv4 address.
        IpFamily::V4 => {
            let [.., a, b, c, d] = number.to_be_bytes();
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        IpFamily::V6 => IpAddr::V6(Ipv6Addr::from_bits(number)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn every_address_but_the_networks_own_is_given_out_once() {
        for (cidr, count) in [
            ("10.0.0.0/24", 254),
            ("10.0.0.0/28", 14),
            ("10.0.0.0/30", 2),
            ("10.0.0.77/27", 30),
            ("fd00::/120", 255),
        ] {
            let range = ServiceRange::parse(cidr).unwrap();
            for random in [0, 1, 77, u64::MAX] {
                let all: Vec<IpAddr> = range.candidates(random).collect();
                assert_eq!(all.len(), count, "{cidr}");
                assert_eq!(all.iter().collect::<HashSet<_>>().len(), count, "{cidr}");
                assert!(
                    all.iter()
                        .all(|ip| range.contains(*ip) && range.covers(*ip))
                );
            }
        }
    }

    #[test]
    fn the_lower_part_comes_last() {
        let range = ServiceRange::parse("10.96.0.0/16").unwrap();
        let bound = ip("10.96.1.1");
        let all: Vec<IpAddr> = range.candidates(12345).collect();
        let (upper, lower) = all.split_at(all.len() - 256);
        assert!(upper.iter().all(|ip| *ip >= bound));
        assert!(lower.iter().all(|ip| *ip < bound));
        assert_eq!(range.first(), ip("10.96.0.1"));
        let small = ServiceRange::parse("10.0.0.0/24").unwrap();
        assert_eq!(small.candidates(0).next(), Some(ip("10.0.0.17")));
        let tiny = ServiceRange::parse("10.0.0.0/28").unwrap();
        assert_eq!(tiny.candidates(0).next(), Some(ip("10.0.0.1")));
    }

    #[test]
    fn what_is_in_and_what_is_not() {
        let range = ServiceRange::parse("10.96.0.5/16").unwrap();
        assert_eq!(range.cidr(), "10.96.0.0/16");
        for (text, inside) in [
            ("10.96.0.0", false),
            ("10.96.0.1", true),
            ("10.96.255.254", true),
            ("10.96.255.255", false),
            ("10.97.0.1", false),
            ("::ffff:10.96.0.1", false),
        ] {
            assert_eq!(range.contains(ip(text)), inside, "{text}");
        }
        let six = ServiceRange::parse("fd00::/64").unwrap();
        assert!(six.contains(ip("fd00::ffff:ffff:ffff:ffff")));
        assert!(!six.contains(ip("fd00:0:0:1::1")));
        assert!(six.candidates(u64::MAX).next().is_some());
    }

    #[test]
    fn what_is_no_range_is_refused() {
        for bad in [
            "",
            "10.0.0.0",
            "10.0.0.0/31",
            "10.0.0.0/32",
            "fd00::/63",
            "fd00::/127",
        ] {
            assert!(ServiceRange::parse(bad).is_err(), "{bad}");
        }
    }
}
