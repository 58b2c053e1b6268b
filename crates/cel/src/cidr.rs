//! IP addresses and networks, as Kubernetes' `ip()` and `cidr()` take them: no zones, no IPv4 in IPv6.

use std::net::IpAddr;

/// A network: `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    pub(crate) address: IpAddr,
    pub(crate) prefix: u8,
}

/// Parses an address.
pub(crate) fn ip(text: &str) -> Result<IpAddr, String> {
    if text.contains('%') {
        return Err(format!(
            "IP address {text:?} with zone value is not allowed"
        ));
    }
    let address: IpAddr = text.parse().map_err(|_| {
        format!("IP Address {text:?} parse error during conversion from string: ParseAddr({text:?}): unable to parse IP")
    })?;
    if mapped(address) {
        return Err(format!("IPv4-mapped IPv6 address {text:?} is not allowed"));
    }
    Ok(address)
}

fn mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some())
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

impl Cidr {
    /// Parses a network.
    ///
    /// # Errors
    /// When it is none, has a zone, or is IPv4 in IPv6.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!(
                "network address parse error during conversion from string: netip.ParsePrefix({text:?}): {why}"
            )
        };
        let (address, prefix) = text.rsplit_once('/').ok_or_else(|| wrong("no '/'"))?;
        if address.contains('%') {
            return Err(wrong("IPv6 zones cannot be present in a prefix"));
        }
        let address: IpAddr = address.parse().map_err(|_| wrong("unable to parse IP"))?;
        let plain = prefix == "0"
            || (!prefix.starts_with('0')
                && !prefix.is_empty()
                && prefix.bytes().all(|b| b.is_ascii_digit()));
        let prefix: u8 = prefix
            .parse()
            .ok()
            .filter(|_| plain)
            .ok_or_else(|| wrong("bad bits after slash"))?;
        if prefix > bits(address) {
            return Err(wrong("prefix length out of range"));
        }
        if mapped(address) {
            return Err(format!("IPv4-mapped IPv6 address {text:?} is not allowed"));
        }
        Ok(Self { address, prefix })
    }

    /// What costs are proportional to: the bytes of its prefix.
    pub(crate) fn size(self) -> u64 {
        u64::from(self.prefix.div_ceil(8))
    }

    /// The bits that the prefix leaves of an address.
    fn head(self, address: IpAddr) -> u128 {
        let rest = u32::from(bits(address).saturating_sub(self.prefix));
        number(address).checked_shr(rest).unwrap_or(0)
    }

    pub(crate) fn contains(self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && self.head(address) == self.head(self.address)
    }

    pub(crate) fn contains_network(self, other: Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.address)
    }

    /// The network with the bits behind the prefix cleared.
    pub(crate) fn masked(self) -> Self {
        let rest = u32::from(bits(self.address).saturating_sub(self.prefix));
        let kept = self.head(self.address).checked_shl(rest).unwrap_or(0);
        let address = match self.address {
            IpAddr::V4(_) => IpAddr::V4(u32::try_from(kept).unwrap_or(0).into()),
            IpAddr::V6(_) => IpAddr::V6(kept.into()),
        };
        Self {
            address,
            prefix: self.prefix,
        }
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}
