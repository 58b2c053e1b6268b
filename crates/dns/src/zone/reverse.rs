//! Names of addresses: PTR records of Services, and of the endpoints of headless ones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::{Name, RData, RecordType, rdata};

use super::lookup::{Found, record};
use super::objects::ServiceKind;
use super::{Zone, labels};

/// Most names of one address: anybody who may write EndpointSlices can claim one for it.
const MAX_NAMES: usize = 16;

impl Zone {
    /// None for an address that is not the cluster's: somebody else may know it.
    pub(super) fn lookup_reverse(&self, name: &Name, kind: RecordType) -> Option<Found> {
        let ip = address_of(name)?;
        let names = self.names_of(ip);
        if names.is_empty() {
            let own = self.networks.iter().any(|network| network.contains(&ip));
            return own.then_some(Found::NoName);
        }
        if kind != RecordType::PTR {
            return Some(Found::NoData);
        }
        let names = names.into_iter();
        let records = names.map(|target| record(name, RData::PTR(rdata::PTR(target))));
        Some(Found::Records(records.collect(), Vec::new()))
    }

    fn names_of(&self, ip: IpAddr) -> Vec<Name> {
        let below = |labels: &[&str]| {
            let labels = labels.iter().rev();
            let mut name = self.origin.clone();
            for label in labels {
                name = name.prepend_label(*label).ok()?;
            }
            Some(name)
        };
        if let Some((namespace, service)) = self.cluster_ips.get(&ip) {
            return below(&[service, namespace, "svc"]).into_iter().collect();
        }
        let mut names = Vec::new();
        for (namespace, name) in self.slices_by_address.get(&ip).into_iter().flatten() {
            let Some(content) = self.namespaces.get(namespace) else {
                continue;
            };
            let Some(slice) = content.slices.get(name) else {
                continue;
            };
            let service = content.services.get(&slice.service);
            let Some(service) = service.filter(|s| matches!(s.kind, ServiceKind::Headless)) else {
                continue;
            };
            let named = slice.endpoints.iter().filter(|endpoint| {
                endpoint.address == ip && (endpoint.ready || service.publish_not_ready)
            });
            for endpoint in named {
                names.extend(below(&[
                    &endpoint.label(),
                    &slice.service,
                    namespace,
                    "svc",
                ]));
            }
            if names.len() >= MAX_NAMES {
                break;
            }
        }
        names.truncate(MAX_NAMES);
        names
    }
}

/// The address whose reverse name this is; none for other names, such as those of whole networks.
fn address_of(name: &Name) -> Option<IpAddr> {
    let labels = labels(name);
    match labels.as_slice() {
        [numbers @ .., inverse, arpa] if inverse == "in-addr" && arpa == "arpa" => {
            let octets = numbers.iter().rev().map(|n| n.parse().ok());
            let octets: Option<Vec<u8>> = octets.collect();
            let octets: [u8; 4] = octets?.try_into().ok()?;
            Some(IpAddr::V4(Ipv4Addr::from(octets)))
        }
        [digits @ .., ip6, arpa] if ip6 == "ip6" && arpa == "arpa" && digits.len() == 32 => {
            let mut bits = 0_u128;
            for digit in digits.iter().rev() {
                let value = (digit.len() == 1).then(|| u128::from_str_radix(digit, 16).ok());
                bits = bits << 4 | value.flatten()?;
            }
            Some(IpAddr::V6(Ipv6Addr::from_bits(bits)))
        }
        _ => None,
    }
}
