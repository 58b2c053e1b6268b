//! Services and EndpointSlices, as far as rules are made of them. What isn't understood is left out.

mod near;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::core::v1;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ObjectMeta;

use super::facts::{Facts, Protocol};
use near::{Hints, Near};

/// Whose endpoints a slice has.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// How long a client stays with its endpoint when the Service doesn't say.
const AFFINITY_SECONDS: u32 = 10_800;
/// Most endpoints of a port that are used; a slice has no more.
pub(crate) const MAX_ENDPOINTS: usize = 1000;

/// A namespace and a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Key {
    /// Of an object.
    pub(crate) fn of(meta: &ObjectMeta) -> Self {
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }
}

/// A Service that something is led by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) key: Key,
    /// What its chains are named after: nobody chooses it.
    pub(crate) uid: String,
    pub(crate) created: Option<Timestamp>,
    pub(crate) cluster_ips: Vec<IpAddr>,
    pub(crate) external_ips: Vec<IpAddr>,
    /// Of type LoadBalancer, and of no class of somebody else's.
    pub(crate) balanced: bool,
    /// What its status has.
    pub(crate) ingress: Vec<IpAddr>,
    /// Who may send to its load balancer; nothing means everybody.
    pub(crate) source_ranges: Vec<IpNet>,
    /// Seconds that a client stays with its endpoint.
    pub(crate) affinity: Option<u32>,
    pub(crate) internal_local: bool,
    pub(crate) external_local: bool,
    pub(crate) health_check_port: Option<u16>,
    pub(crate) ports: Vec<Port>,
}

/// One of its ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
    pub(crate) node_port: Option<u16>,
}

/// An EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) service: Key,
    /// By name and protocol.
    ports: BTreeMap<(String, Protocol), u16>,
    endpoints: Vec<Endpoint>,
}

impl Slice {
    /// How many endpoints it lists.
    pub(crate) fn endpoints(&self) -> usize {
        self.endpoints.len()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Endpoint {
    ip: IpAddr,
    ready: bool,
    serving: bool,
    terminating: bool,
    node: Option<String>,
    hints: Hints,
}

impl Service {
    /// Nothing for one that leads nowhere: headless ones and names of others.
    pub(crate) fn parse(service: &v1::Service) -> Option<Self> {
        let (meta, spec) = (&service.metadata, service.spec.as_ref()?);
        let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
        let ips = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
        let mut cluster_ips: Vec<IpAddr> = ips.filter_map(|ip| address(ip)).collect();
        cluster_ips.sort_unstable();
        cluster_ips.dedup();
        let uid = meta.uid.clone()?;
        let is_uid = |c: char| c.is_ascii_hexdigit() || c == '-';
        if kind == "ExternalName" || cluster_ips.is_empty() || !uid.chars().all(is_uid) {
            return None;
        }
        let is = |text: &Option<String>, word: &str| text.as_deref() == Some(word);
        let external = kind == "NodePort" || kind == "LoadBalancer";
        let port = |port: &v1::ServicePort| {
            let node_port = port.node_port.and_then(number).filter(|_| external);
            Some(Port {
                name: port.name.clone().unwrap_or_default(),
                protocol: Protocol::parse(port.protocol.as_deref())?,
                port: number(port.port)?,
                node_port,
            })
        };
        let affinity = is(&spec.session_affinity, "ClientIP").then(|| {
            let config = spec.session_affinity_config.as_ref();
            let seconds = config.and_then(|c| c.client_ip.as_ref()?.timeout_seconds);
            let seconds = seconds.and_then(|seconds| u32::try_from(seconds).ok());
            seconds.filter(|s| *s > 0).unwrap_or(AFFINITY_SECONDS)
        });
        let balancer = service
            .status
            .as_ref()
            .and_then(|s| s.load_balancer.as_ref());
        let ingress = balancer.iter().flat_map(|b| b.ingress.iter().flatten());
        let ranges = spec.load_balancer_source_ranges.iter().flatten();
        Some(Self {
            key: Key::of(meta),
            uid,
            created: meta.creation_timestamp.as_ref().map(|time| time.0),
            cluster_ips,
            external_ips: spec
                .external_ips
                .iter()
                .flatten()
                .filter_map(|ip| address(ip))
                .collect(),
            balanced: kind == "LoadBalancer" && spec.load_balancer_class.is_none(),
            ingress: ingress
                .filter_map(|point| address(point.ip.as_deref()?))
                .collect(),
            source_ranges: ranges
                .filter_map(|range| range.trim().parse::<IpNet>().ok())
                .map(|range| range.trunc())
                .collect(),
            affinity,
            internal_local: is(&spec.internal_traffic_policy, "Local"),
            external_local: is(&spec.external_traffic_policy, "Local"),
            health_check_port: spec.health_check_node_port.and_then(number),
            ports: spec.ports.iter().flatten().filter_map(port).collect(),
        })
    }

    /// Whether it is the API server's own, which the server itself keeps.
    pub(crate) fn is_api_server(&self) -> bool {
        self.key.namespace == "default" && self.key.name == "kubernetes"
    }
}

impl Slice {
    /// Nothing for one of no Service, or of names in place of addresses.
    pub(crate) fn parse(slice: &EndpointSlice) -> Option<Self> {
        let labels = slice.metadata.labels.as_ref()?;
        let is_v4 = match slice.address_type.as_str() {
            "IPv4" => true,
            "IPv6" => false,
            _ => return None,
        };
        let mut ports = BTreeMap::new();
        for port in slice.ports.iter().flatten() {
            if let (Some(protocol), Some(port_number)) = (
                Protocol::parse(port.protocol.as_deref()),
                port.port.and_then(number),
            ) {
                let name = port.name.clone().unwrap_or_default();
                ports.insert((name, protocol), port_number);
            }
        }
        let endpoints = slice.endpoints.iter().flatten().filter_map(|endpoint| {
            let ip = address(endpoint.addresses.first()?)?;
            let conditions = endpoint.conditions.as_ref();
            let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
            let usable = ip.is_ipv4() == is_v4 && is_elsewhere(ip);
            usable.then(|| Endpoint {
                ip,
                ready,
                serving: conditions.and_then(|c| c.serving).unwrap_or(ready),
                terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
                node: endpoint.node_name.clone(),
                hints: Hints::of(endpoint.hints.as_ref()),
            })
        });
        Some(Self {
            service: Key {
                namespace: slice.metadata.namespace.clone().unwrap_or_default(),
                name: labels.get(SERVICE_NAME)?.clone(),
            },
            endpoints: endpoints.collect(),
            ports,
        })
    }
}

/// Where a port's traffic of one IP family may go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backends {
    /// For traffic that goes to any node.
    pub(crate) cluster: Vec<SocketAddr>,
    /// For traffic that stays at this one.
    pub(crate) local: Vec<SocketAddr>,
    /// All that are listed, in whatever state: their connections go on.
    pub(crate) listed: Vec<SocketAddr>,
    /// How many ready ones this node has.
    pub(crate) local_ready: usize,
}

impl Backends {
    /// Of one port of a Service.
    pub(crate) fn of(
        service: &Service,
        port: &Port,
        is_v4: bool,
        slices: &[&Slice],
        facts: &Facts,
    ) -> Self {
        // The same address twice is one endpoint; a copy that is ready counts.
        let mut all: BTreeMap<SocketAddr, &Endpoint> = BTreeMap::new();
        for slice in slices {
            let Some(number) = slice.ports.get(&(port.name.clone(), port.protocol)) else {
                continue;
            };
            let family = slice.endpoints.iter().filter(|e| e.ip.is_ipv4() == is_v4);
            for endpoint in family.filter(|e| may_lead_to(service, e.ip, facts)) {
                let entry = all.entry(SocketAddr::new(endpoint.ip, *number));
                let kept = entry.or_insert(endpoint);
                if endpoint.ready && !kept.ready {
                    *kept = endpoint;
                }
            }
        }
        let is_local = |e: &Endpoint| e.node.as_deref() == Some(facts.node.as_str());
        let ready = all.values().filter(|e| e.ready);
        let near = Near::of(ready.map(|e| &e.hints), facts);
        let usable = |local: bool| -> Vec<SocketAddr> {
            let here = all.iter().filter(|(_, e)| !local || is_local(e));
            let pick = |wanted: &dyn Fn(&Endpoint) -> bool| -> Vec<SocketAddr> {
                let picked = here.clone().filter(|(_, e)| wanted(e));
                picked.map(|(at, _)| *at).take(MAX_ENDPOINTS).collect()
            };
            match pick(&|e| e.ready && (local || near.takes(&e.hints, facts))) {
                // Those that are on their way out but still answer are better than nothing (KEP-1669).
                none if none.is_empty() => pick(&|e| e.serving && e.terminating),
                ready => ready,
            }
        };
        Self {
            cluster: usable(false),
            local: usable(true),
            listed: all
                .iter()
                .filter(|(_, e)| port.protocol == Protocol::Tcp || e.serving || e.ready)
                .map(|(at, _)| *at)
                .collect(),
            local_ready: all.values().filter(|e| e.ready && is_local(e)).count(),
        }
    }
}

/// This machine's addresses that its Node does not report (the gateway of its pods above all) are for the API server's own Service
/// only. Otherwise who may write slices could lead others to programs that listen there for this machine alone.
fn may_lead_to(service: &Service, ip: IpAddr, facts: &Facts) -> bool {
    !facts.own.contains(&ip) || facts.addresses.contains(&ip) || service.is_api_server()
}

/// Whether an address can be another machine's. The rest would be this machine's own, whatever it was for who wrote it.
fn is_elsewhere(ip: IpAddr) -> bool {
    let special = ip.is_loopback() || ip.is_unspecified() || ip.is_multicast();
    !special
        && match ip {
            IpAddr::V4(v4) => !v4.is_link_local() && !v4.is_broadcast() && v4.octets()[0] != 0,
            IpAddr::V6(v6) => !v6.is_unicast_link_local() && v6.to_ipv4_mapped().is_none(),
        }
}

fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

fn number(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port > 0)
}
