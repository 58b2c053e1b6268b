//! Ranges of addresses and ports, as sets of the kernel want them: in order, and none touching another.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses of both families.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Blocks {
    v4: Vec<(u128, u128)>,
    v6: Vec<(u128, u128)>,
}

impl Blocks {
    /// Adds a network, without those that are excepted.
    pub(crate) fn add(&mut self, network: (IpAddr, u8), except: &[(IpAddr, u8)]) {
        let is_v4 = network.0.is_ipv4();
        let holes = except.iter().filter(|hole| hole.0.is_ipv4() == is_v4);
        let holes = merged(holes.map(|hole| bounds(*hole)).collect());
        let (mut first, last) = bounds(network);
        let family = self.family_mut(is_v4);
        for (begin, end) in holes {
            if end < first {
                continue;
            }
            if last < begin {
                break;
            }
            if first < begin {
                family.push((first, begin - 1));
            }
            if last <= end {
                return;
            }
            first = end + 1;
        }
        family.push((first, last));
    }

    /// Brings them in order. Has to follow the last [`Blocks::add`].
    pub(crate) fn finish(&mut self) {
        for family in [&mut self.v4, &mut self.v6] {
            *family = merged(std::mem::take(family));
        }
    }

    fn family_mut(&mut self, is_v4: bool) -> &mut Vec<(u128, u128)> {
        if is_v4 { &mut self.v4 } else { &mut self.v6 }
    }

    fn family(&self, is_v4: bool) -> &[(u128, u128)] {
        if is_v4 { &self.v4 } else { &self.v6 }
    }

    /// How many ranges.
    pub(crate) fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether an address is in one of them.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let number = number(address);
        let ranges = self.family(address.is_ipv4());
        let after = ranges.partition_point(|(first, _)| *first <= number);
        let before = after.checked_sub(1).and_then(|index| ranges.get(index));
        before.is_some_and(|(_, last)| number <= *last)
    }

    /// Those of one family as a set of nft; nothing when there are none.
    pub(crate) fn text(&self, is_v4: bool) -> Option<String> {
        let ranges = self.family(is_v4).iter();
        let texts: Vec<String> = ranges
            .map(|(first, last)| {
                let (first, last) = (address(*first, is_v4), address(*last, is_v4));
                if first == last {
                    first.to_string()
                } else {
                    format!("{first}-{last}")
                }
            })
            .collect();
        (!texts.is_empty()).then(|| format!("{{ {} }}", texts.join(", ")))
    }
}

/// Port ranges of one protocol, merged, as a set of nft.
pub(crate) fn ports_text(ranges: Vec<(u16, u16)>) -> String {
    let wide = ranges
        .into_iter()
        .map(|(a, b)| (u128::from(a), u128::from(b)));
    let texts: Vec<String> = merged(wide.collect())
        .into_iter()
        .map(|(a, b)| {
            if a == b {
                a.to_string()
            } else {
                format!("{a}-{b}")
            }
        })
        .collect();
    format!("{{ {} }}", texts.join(", "))
}

/// In order; those that overlap or touch are one.
fn merged(mut ranges: Vec<(u128, u128)>) -> Vec<(u128, u128)> {
    ranges.sort_unstable();
    let mut done: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match done.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            Some(_) | None => done.push((first, last)),
        }
    }
    done
}

/// The first and the last address of a network.
fn bounds((network, bits): (IpAddr, u8)) -> (u128, u128) {
    let width: u32 = if network.is_ipv4() { 32 } else { 128 };
    let host = width.saturating_sub(u32::from(bits));
    let mask = u128::MAX.checked_shl(host).map_or(u128::MAX, |mask| !mask);
    let first = number(network) & !mask;
    (first, first | mask)
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

fn address(number: u128, is_v4: bool) -> IpAddr {
    if is_v4 {
        // Of an address of 32 bits.
        Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into()
    } else {
        Ipv6Addr::from(number).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> (IpAddr, u8) {
        let (address, bits) = text.split_once('/').unwrap();
        (address.parse().unwrap(), bits.parse().unwrap())
    }

    fn blocks(all: &[(&str, &[&str])]) -> Blocks {
        let mut blocks = Blocks::default();
        for (block, except) in all {
            let except: Vec<_> = except.iter().map(|text| network(text)).collect();
            blocks.add(network(block), &except);
        }
        blocks.finish();
        blocks
    }

    #[test]
    fn exceptions_are_holes() {
        let found = blocks(&[("10.0.0.0/24", &["10.0.0.0/28", "10.0.0.255/32", "fd00::/8"])]);
        assert_eq!(found.text(true).unwrap(), "{ 10.0.0.16-10.0.0.254 }");
        assert_eq!(found.text(false), None);
        for (ip, is_in) in [
            ("10.0.0.15", false),
            ("10.0.0.16", true),
            ("10.0.0.254", true),
            ("10.0.0.255", false),
            ("::a00:10", false),
        ] {
            assert_eq!(found.contains(ip.parse().unwrap()), is_in, "{ip}");
        }
        // A hole of one block is none of another.
        let found = blocks(&[("0.0.0.0/0", &["10.0.0.0/8"]), ("10.1.0.0/16", &[])]);
        assert_eq!(
            found.text(true).unwrap(),
            "{ 0.0.0.0-9.255.255.255, 10.1.0.0-10.1.255.255, 11.0.0.0-255.255.255.255 }"
        );
    }

    #[test]
    fn neighbours_are_one() {
        let found = blocks(&[
            ("10.0.0.2/32", &[]),
            ("10.0.0.0/31", &[]),
            ("10.0.0.4/32", &[]),
        ]);
        assert_eq!(found.text(true).unwrap(), "{ 10.0.0.0-10.0.0.2, 10.0.0.4 }");
        let all = blocks(&[("::/0", &["fe80::/10"]), ("0.0.0.0/0", &[])]);
        assert_eq!(all.len(), 3);
        assert_eq!(all.text(true).unwrap(), "{ 0.0.0.0-255.255.255.255 }");
        assert!(all.contains("2001:db8::1".parse().unwrap()));
        assert!(!all.contains("fe80::1".parse().unwrap()));
        assert_eq!(ports_text(vec![(80, 80), (1, 5), (6, 9)]), "{ 1-9, 80 }");
        assert_eq!(ports_text(vec![(0, 65535), (7, 7)]), "{ 0-65535 }");
        let nothing = blocks(&[("10.0.0.0/24", &["10.0.0.0/25", "10.0.0.128/25"])]);
        assert_eq!(nothing.len(), 0);
    }
}
