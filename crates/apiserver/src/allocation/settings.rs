//! From which ranges Services get addresses and node ports.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use berth_rules::kinds::service::families::ClusterFamilies;
use berth_rules::kinds::service::range::ServiceRange;

/// The ranges of this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSettings {
    first: ServiceRange,
    second: Option<ServiceRange>,
    node_ports: RangeInclusive<u16>,
}

impl ServiceSettings {
    /// Addresses when nobody says otherwise.
    pub const DEFAULT_CIDR: &'static str = "10.96.0.0/16";
    /// Node ports when nobody says otherwise.
    pub const DEFAULT_NODE_PORTS: &'static str = "30000-32767";

    /// Reads `--service-cluster-ip-range` (one CIDR, or two of different families with a comma) and
    /// `--service-node-port-range` (`30000-32767` or `30000+2768`).
    ///
    /// # Errors
    /// What is wrong with them, for people.
    pub fn parse(cidrs: &str, node_ports: &str) -> Result<Self, String> {
        let mut ranges = cidrs
            .split(',')
            .map(|cidr| ServiceRange::parse(cidr.trim()));
        let first = ranges
            .next()
            .unwrap_or_else(|| Err("no range is given".to_owned()))?;
        let second = ranges.next().transpose()?;
        if ranges.next().is_some() {
            return Err(format!("{cidrs:?} has more than two ranges"));
        }
        if second.as_ref().map(ServiceRange::family) == Some(first.family()) {
            return Err(format!(
                "{cidrs:?}: two ranges must be of different IP families"
            ));
        }
        Ok(Self {
            first,
            second,
            node_ports: ports(node_ports)?,
        })
    }

    /// The address of the Service `default/kubernetes`.
    #[must_use]
    pub fn kubernetes_ip(&self) -> IpAddr {
        self.first.first()
    }

    /// The tenth address of each range, where the cluster's DNS server is; ranges that are too small have none.
    #[must_use]
    pub fn dns_ips(&self) -> Vec<IpAddr> {
        let tenth = |range: &ServiceRange| {
            let ip = match range.first() {
                IpAddr::V4(ip) => IpAddr::V4(ip.to_bits().checked_add(9)?.into()),
                IpAddr::V6(ip) => IpAddr::V6(ip.to_bits().checked_add(9)?.into()),
            };
            range.contains(ip).then_some(ip)
        };
        let ranges = std::iter::once(&self.first).chain(&self.second);
        ranges.filter_map(tenth).collect()
    }

    /// The ranges as a ServiceCIDR has them.
    #[must_use]
    pub fn cidrs(&self) -> Vec<String> {
        let ranges = std::iter::once(&self.first).chain(&self.second);
        ranges.map(ServiceRange::cidr).collect()
    }

    pub(crate) fn families(&self) -> ClusterFamilies {
        ClusterFamilies {
            default: self.first.family(),
            dual: self.second.is_some(),
        }
    }

    pub(crate) fn node_ports(&self) -> RangeInclusive<u16> {
        self.node_ports.clone()
    }
}

impl Default for ServiceSettings {
    fn default() -> Self {
        match Self::parse(Self::DEFAULT_CIDR, Self::DEFAULT_NODE_PORTS) {
            Ok(settings) => settings,
            Err(_) => unreachable!("the defaults are tested"),
        }
    }
}

fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let wrong = || format!("{text:?} is no range of ports (e.g. 30000-32767 or 30000+2768)");
    let number = |text: &str| text.trim().parse::<u16>().map_err(|_| wrong());
    let (first, last) = if let Some((base, end)) = text.split_once('-') {
        (number(base)?, number(end)?)
    } else if let Some((base, size)) = text.split_once('+') {
        let base = number(base)?;
        (base, base.checked_add(number(size)?).ok_or_else(wrong)?)
    } else {
        (number(text)?, number(text)?)
    };
    if first == 0 || last < first {
        return Err(wrong());
    }
    Ok(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_stock_server_reads_them() {
        let defaults = ServiceSettings::default();
        assert_eq!(defaults.cidrs(), ["10.96.0.0/16"]);
        assert_eq!(defaults.node_ports(), 30_000..=32_767);
        let dual = ServiceSettings::parse("10.0.0.0/24, fd00::/108", "100+10").unwrap();
        assert_eq!(dual.cidrs(), ["10.0.0.0/24", "fd00::/108"]);
        assert_eq!(dual.node_ports(), 100..=110);
        assert_eq!(dual.kubernetes_ip().to_string(), "10.0.0.1");
        for (cidrs, ports) in [
            ("", "1-2"),
            ("10.0.0.0/24,10.1.0.0/24", "1-2"),
            ("10.0.0.0/24,fd00::/108,fd01::/108", "1-2"),
            ("10.0.0.0/24", ""),
            ("10.0.0.0/24", "0-5"),
            ("10.0.0.0/24", "9-5"),
            ("10.0.0.0/24", "65000+1000"),
        ] {
            assert!(
                ServiceSettings::parse(cidrs, ports).is_err(),
                "{cidrs} {ports}"
            );
        }
    }
}
