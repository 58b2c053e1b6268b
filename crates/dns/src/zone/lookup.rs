//! From a name and a type to the records.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hickory_proto::rr::{Name, RData, Record, RecordType, rdata};

use super::objects::{Endpoint, Protocol, Service, ServiceKind, Slice, dashed};
use super::{Namespace, TTL, Zone, labels};

/// Most endpoints in one answer; their Service may have any number.
const MAX_ENDPOINTS: usize = 512;
/// The version of the specification that the names follow.
const DNS_VERSION: &str = "1.1.0";

/// What there is for a name.
#[derive(Debug, PartialEq)]
pub(crate) enum Found {
    /// These records; the second list are addresses of the first one's targets.
    Records(Vec<Record>, Vec<Record>),
    /// The name is an alias of this one.
    Alias(Name),
    /// The name is there, with no record of this type.
    NoData,
    /// There is no such name.
    NoName,
}

impl Zone {
    /// What there is for a name of this zone; none for others, which somebody else knows.
    pub(crate) fn lookup(&self, name: &Name, kind: RecordType) -> Option<Found> {
        let labels = labels(name);
        let Some(below) = labels.strip_suffix(self.domain.as_slice()) else {
            return self.lookup_reverse(name, kind);
        };
        let below: Vec<&str> = below.iter().map(String::as_str).collect();
        Some(match *below.as_slice() {
            [] => self.apex(kind),
            ["dns-version"] => match kind {
                RecordType::TXT => {
                    let text = rdata::TXT::new(vec![DNS_VERSION.to_owned()]);
                    records(vec![record(name, RData::TXT(text))])
                }
                _ => Found::NoData,
            },
            ["ns", "dns"] => addresses(name, kind, self.servers.iter().copied()),
            ["dns" | "svc" | "pod"] => Found::NoData,
            [namespace, "svc"] => match self.namespaces.get(namespace) {
                Some(_) => Found::NoData,
                None => Found::NoName,
            },
            // Which namespaces have pods isn't known here.
            [_, "pod"] => Found::NoData,
            [address, _, "pod"] => self.pod(name, address, kind),
            [ref parts @ .., service, namespace, "svc"] => {
                let content = self.namespaces.get(namespace);
                let found = content.and_then(|content| {
                    let object = content.services.get(service)?;
                    Some(self.below(name, parts, (content, service, object), kind))
                });
                found.unwrap_or(Found::NoName)
            }
            _ => Found::NoName,
        })
    }

    fn apex(&self, kind: RecordType) -> Found {
        match kind {
            RecordType::SOA => records(vec![self.soa()]),
            RecordType::NS => {
                let server = self.name_server();
                let ns = record(&self.origin, RData::NS(rdata::NS(server.clone())));
                let glue = self.servers.iter().map(|ip| address(&server, *ip));
                Found::Records(vec![ns], glue.collect())
            }
            _ => Found::NoData,
        }
    }

    /// `10-0-0-1.NAMESPACE.pod`: as CoreDNS' `pods insecure`, but only for addresses that pods can have.
    fn pod(&self, name: &Name, label: &str, kind: RecordType) -> Found {
        match dashed(label) {
            Some(ip) if self.pods.is_empty() || self.pods.iter().any(|net| net.contains(&ip)) => {
                addresses(name, kind, std::iter::once(ip))
            }
            _ => Found::NoName,
        }
    }

    /// A name of a Service, or below one.
    fn below(
        &self,
        name: &Name,
        parts: &[&str],
        (namespace, own, service): (&Namespace, &str, &Service),
        kind: RecordType,
    ) -> Found {
        if let ServiceKind::External(target) = &service.kind {
            return match (parts, target) {
                ([], Some(target)) => Found::Alias(target.clone()),
                ([], None) => Found::NoData,
                _ => Found::NoName,
            };
        }
        let endpoints = || {
            let slices = namespace.slices_of(own);
            slices.flat_map(move |slice| {
                let all = slice
                    .endpoints
                    .iter()
                    .filter(move |endpoint| endpoint.ready || service.publish_not_ready);
                all.map(move |endpoint| (slice, endpoint))
            })
        };
        match parts {
            [] => match service.kind {
                ServiceKind::Headless => {
                    let all = endpoints().map(|(_, endpoint)| endpoint.address);
                    addresses(name, kind, all)
                }
                ServiceKind::ClusterIp | ServiceKind::External(_) => {
                    addresses(name, kind, service.cluster_ips.iter().copied())
                }
            },
            [protocol] if protocol.starts_with('_') => {
                let protocol = Protocol::of_label(protocol);
                let mut ports = service.ports.iter();
                match ports.any(|port| Some(port.protocol) == protocol && !port.name.is_empty()) {
                    true => Found::NoData,
                    false => Found::NoName,
                }
            }
            [label] => {
                let dashed = dashed(label);
                let named = endpoints().filter(|(_, endpoint)| endpoint.is_named(label, dashed));
                let mut named = named.map(|(_, endpoint)| endpoint.address).peekable();
                match named.peek() {
                    Some(_) => addresses(name, kind, named),
                    None => Found::NoName,
                }
            }
            [port, protocol] => {
                let wanted = port.strip_prefix('_').zip(Protocol::of_label(protocol));
                let Some((port, protocol)) = wanted.filter(|(port, _)| !port.is_empty()) else {
                    return Found::NoName;
                };
                let base = name.trim_to(usize::from(name.num_labels()).saturating_sub(2));
                let srv = match service.kind {
                    ServiceKind::Headless => {
                        self.srv_of_endpoints(name, &base, (port, protocol), endpoints())
                    }
                    ServiceKind::ClusterIp | ServiceKind::External(_) => {
                        srv_of_service(name, &base, (port, protocol), service)
                    }
                };
                match (srv, kind) {
                    (None, _) => Found::NoName,
                    (Some(found), RecordType::SRV) => found,
                    (Some(_), _) => Found::NoData,
                }
            }
            _ => Found::NoName,
        }
    }

    /// One record for each endpoint that has the port; none when no endpoint has it.
    fn srv_of_endpoints<'a>(
        &self,
        name: &Name,
        base: &Name,
        (port, protocol): (&str, Protocol),
        endpoints: impl Iterator<Item = (&'a Slice, &'a Endpoint)>,
    ) -> Option<Found> {
        let (mut answers, mut additionals) = (Vec::new(), Vec::new());
        let mut seen = BTreeSet::new();
        for (slice, endpoint) in endpoints.take(MAX_ENDPOINTS) {
            let mut ports = slice.ports.iter();
            let found = ports.find(|p| &*p.name == port && p.protocol == protocol);
            let (Some(found), Ok(target)) = (found, base.prepend_label(endpoint.label())) else {
                continue;
            };
            if seen.insert((found.number, endpoint.label())) {
                let srv = rdata::SRV::new(0, 100, found.number, target.clone());
                answers.push(record(name, RData::SRV(srv)));
            }
            additionals.push(address(&target, endpoint.address));
        }
        (!answers.is_empty()).then_some(Found::Records(answers, additionals))
    }
}

fn srv_of_service(
    name: &Name,
    base: &Name,
    (port, protocol): (&str, Protocol),
    service: &Service,
) -> Option<Found> {
    let mut ports = service.ports.iter();
    let port = ports.find(|p| &*p.name == port && p.protocol == protocol)?;
    let srv = rdata::SRV::new(0, 100, port.number, base.clone());
    let glue = service.cluster_ips.iter().map(|ip| address(base, *ip));
    Some(Found::Records(
        vec![record(name, RData::SRV(srv))],
        glue.collect(),
    ))
}

/// The addresses of the family that is asked for, each once.
fn addresses(name: &Name, kind: RecordType, all: impl Iterator<Item = IpAddr>) -> Found {
    let wanted = |ip: &IpAddr| match kind {
        RecordType::A => ip.is_ipv4(),
        RecordType::AAAA => ip.is_ipv6(),
        _ => false,
    };
    let unique: BTreeSet<IpAddr> = all.filter(wanted).take(MAX_ENDPOINTS).collect();
    if unique.is_empty() {
        return Found::NoData;
    }
    records(unique.into_iter().map(|ip| address(name, ip)).collect())
}

fn records(answers: Vec<Record>) -> Found {
    Found::Records(answers, Vec::new())
}

fn address(name: &Name, ip: IpAddr) -> Record {
    record(name, RData::from(ip))
}

pub(super) fn record(name: &Name, data: RData) -> Record {
    Record::from_rdata(name.clone(), TTL, data)
}
