//! NetworkPolicies, pods and namespaces, as far as rules are made of them.
//!
//! What isn't understood in a policy allows nothing: the pods that it may have been meant for are isolated all the same.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, Namespace, Pod as ApiPod};
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ObjectMeta;

use super::decisions::Direction;
use super::links::is_pod_uid;
use crate::services::facts::Protocol;
use crate::services::model::Key;

/// At most so many named ports of a pod count.
const MAX_NAMED_PORTS: usize = 128;
/// At most so many of one name and protocol.
const MAX_SAME_PORTS: usize = 4;

/// Which of a label selector's operators there are.
const OPERATORS: [&str; 4] = ["In", "NotIn", "Exists", "DoesNotExist"];

/// Labels of a pod or namespace.
pub(crate) type Labels = BTreeMap<String, String>;

/// A pod of any node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) key: Key,
    pub(crate) uid: String,
    pub(crate) labels: Labels,
    pub(crate) class: Option<String>,
    pub(crate) node: String,
    pub(crate) host_network: bool,
    /// As its status has them; another pod may have them once it is over.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) ports: Vec<NamedPort>,
}

/// A port that a container names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedPort {
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
}

/// A NetworkPolicy.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Policy {
    pub(crate) key: Key,
    /// What its chains are named after: nobody chooses it.
    pub(crate) uid: String,
    /// To know an older state of it.
    pub(crate) version: Option<u64>,
    /// The pods of its namespace that it isolates; nothing when that isn't understood: then all of them.
    pub(crate) selector: Option<LabelSelector>,
    /// What it allows of the traffic that it isolates them from; nothing when it doesn't isolate them in that direction.
    pub(crate) ingress: Option<Vec<Rule>>,
    pub(crate) egress: Option<Vec<Rule>>,
    /// What it costs to look at it.
    pub(crate) cost: usize,
}

/// What a rule allows: these ports of these peers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rule {
    /// Nothing means everybody.
    pub(crate) peers: Option<Vec<Peer>>,
    /// Nothing means all, of every protocol.
    pub(crate) ports: Option<Vec<Port>>,
}

/// One of a rule's peers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Peer {
    /// Pods of namespaces; of the policy's own one when none are named.
    Pods {
        namespaces: Option<LabelSelector>,
        pods: Option<LabelSelector>,
    },
    /// Addresses without others.
    Block {
        network: (IpAddr, u8),
        except: Vec<(IpAddr, u8)>,
    },
}

/// Ports of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub(crate) protocol: Protocol,
    pub(crate) which: Which,
}

/// Which ports of a protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    All,
    Range(u16, u16),
    Named(String),
}

/// The revision of an object, where it is a number.
pub(crate) fn version(meta: &ObjectMeta) -> Option<u64> {
    meta.resource_version.as_deref()?.parse().ok()
}

impl Pod {
    /// Nothing for one that is over, or that isn't anywhere yet.
    pub(crate) fn parse(pod: &ApiPod) -> Option<Self> {
        let (meta, spec, status) = (&pod.metadata, pod.spec.as_ref()?, pod.status.as_ref());
        let phase = status.and_then(|s| s.phase.as_deref()).unwrap_or_default();
        let node = spec.node_name.clone().filter(|node| !node.is_empty())?;
        if matches!(phase, "Succeeded" | "Failed") {
            return None;
        }
        let first = status.and_then(|s| s.pod_ip.as_deref());
        let others = status.iter().flat_map(|s| s.pod_ips.iter().flatten());
        let mut addresses: Vec<IpAddr> = first
            .into_iter()
            .chain(others.map(|ip| ip.ip.as_str()))
            .filter_map(|ip| ip.parse().ok())
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        // An init container that goes on is one that can be reached.
        let init = spec.init_containers.iter().flatten();
        let sidecars = init.filter(|c| c.restart_policy.as_deref() == Some("Always"));
        Some(Self {
            key: Key::of(meta),
            uid: meta.uid.clone().filter(|uid| is_pod_uid(uid))?,
            labels: meta.labels.clone().unwrap_or_default(),
            class: spec
                .runtime_class_name
                .clone()
                .filter(|name| !name.is_empty()),
            node,
            host_network: spec.host_network == Some(true),
            addresses,
            ports: few(spec.containers.iter().chain(sidecars).flat_map(named_ports)),
        })
    }
}

/// The named ports of a pod that count. The policies that name them pay for each, so their number is bounded. More than one of a name
/// and protocol is a mistake anyway; the reference takes each of them.
fn few(all: impl Iterator<Item = NamedPort>) -> Vec<NamedPort> {
    let mut few: Vec<NamedPort> = Vec::new();
    for port in all {
        let same = few.iter();
        let same = same.filter(|other| other.name == port.name && other.protocol == port.protocol);
        if same.count() < MAX_SAME_PORTS {
            few.push(port);
        }
        if few.len() == MAX_NAMED_PORTS {
            break;
        }
    }
    few
}

fn named_ports(container: &Container) -> Vec<NamedPort> {
    let ports = container.ports.iter().flatten();
    ports
        .filter_map(|port| {
            Some(NamedPort {
                name: port.name.clone().filter(|name| !name.is_empty())?,
                protocol: Protocol::parse(port.protocol.as_deref())?,
                port: number(port.container_port)?,
            })
        })
        .collect()
}

/// The labels of a namespace.
pub(crate) fn namespace_labels(namespace: &Namespace) -> Option<Labels> {
    Some(namespace.metadata.labels.clone().unwrap_or_default())
}

impl Policy {
    /// Nothing for one without a UID that can be used, which no API server stores.
    pub(crate) fn parse(policy: &NetworkPolicy) -> Option<Self> {
        let meta = &policy.metadata;
        let uid = meta.uid.clone().filter(|uid| is_pod_uid(uid))?;
        let spec = policy.spec.clone().unwrap_or_default();
        let selector = spec.pod_selector.unwrap_or_default();
        let mut cost = 1 + selector_cost(&selector);
        let types = spec.policy_types.unwrap_or_default();
        let has = |kind: &str| types.iter().any(|one| one == kind);
        let is_known = types.iter().all(|one| one == "Ingress" || one == "Egress");
        let has_rules = spec.egress.as_ref().is_some_and(|rules| !rules.is_empty());
        let is_ingress = types.is_empty() || !is_known || has("Ingress");
        let is_egress = (types.is_empty() && has_rules) || !is_known || has("Egress");
        let ingress = spec.ingress.unwrap_or_default().into_iter();
        let ingress = ingress.filter_map(|rule| Rule::parse(rule.from, rule.ports, &mut cost));
        let ingress: Vec<Rule> = ingress.collect();
        let egress = spec.egress.unwrap_or_default().into_iter();
        let egress = egress.filter_map(|rule| Rule::parse(rule.to, rule.ports, &mut cost));
        let egress: Vec<Rule> = egress.collect();
        Some(Self {
            key: Key::of(meta),
            uid,
            version: version(meta),
            selector: Some(selector).filter(is_understood),
            ingress: is_ingress.then_some(ingress),
            egress: is_egress.then_some(egress),
            cost,
        })
    }

    /// What it allows in a direction; nothing when it isolates no pods in it.
    pub(crate) fn rules(&self, direction: Direction) -> Option<&[Rule]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }
}

impl Rule {
    /// Nothing for one of which nothing is understood.
    fn parse(
        peers: Option<Vec<NetworkPolicyPeer>>,
        ports: Option<Vec<NetworkPolicyPort>>,
        cost: &mut usize,
    ) -> Option<Self> {
        *cost += 1;
        // An empty list is as good as none: everybody, all ports.
        let peers = peers.filter(|all| !all.is_empty());
        let ports = ports.filter(|all| !all.is_empty());
        *cost += ports.as_ref().map_or(0, Vec::len);
        let peers = peers.map(|all| {
            let parsed = all.into_iter().filter_map(|peer| Peer::parse(peer, cost));
            parsed.collect::<Vec<_>>()
        });
        let ports: Option<Vec<Port>> =
            ports.map(|all| all.iter().filter_map(Port::parse).collect());
        // A list of which nothing is left must not become one that means everything.
        let is_void =
            peers.as_ref().is_some_and(Vec::is_empty) || ports.as_ref().is_some_and(Vec::is_empty);
        (!is_void).then_some(Self { peers, ports })
    }
}

impl Peer {
    fn parse(peer: NetworkPolicyPeer, cost: &mut usize) -> Option<Self> {
        *cost += 1;
        let selectors = [&peer.pod_selector, &peer.namespace_selector];
        let all_understood = selectors.iter().all(|selector| {
            let selector = selector.as_ref();
            *cost += selector.map_or(0, selector_cost);
            selector.is_none_or(is_understood)
        });
        let selects = peer.pod_selector.is_some() || peer.namespace_selector.is_some();
        match peer.ip_block {
            Some(block) if !selects => Self::block(block, cost),
            Some(_) => None,
            None if selects && all_understood => Some(Self::Pods {
                namespaces: peer.namespace_selector,
                pods: peer.pod_selector,
            }),
            None => None,
        }
    }

    /// An exception that isn't understood takes the block with it.
    fn block(block: IPBlock, cost: &mut usize) -> Option<Self> {
        let except = block.except.unwrap_or_default();
        *cost += except.len();
        Some(Self::Block {
            network: network(&block.cidr)?,
            except: except
                .iter()
                .map(|text| network(text))
                .collect::<Option<_>>()?,
        })
    }
}

impl Port {
    /// Nothing for one that isn't understood.
    fn parse(port: &NetworkPolicyPort) -> Option<Self> {
        let which = match (&port.port, port.end_port) {
            (None, None) => Which::All,
            (Some(IntOrString::Int(first)), last) => {
                let (first, last) = (number(*first)?, number(last.unwrap_or(*first))?);
                (first <= last).then_some(Which::Range(first, last))?
            }
            (Some(IntOrString::String(name)), None) => Which::Named(name.clone()),
            (Some(IntOrString::String(_)) | None, Some(_)) => return None,
        };
        Some(Self {
            protocol: Protocol::parse(port.protocol.as_deref())?,
            which,
        })
    }

    /// Its name, where it has one.
    pub(crate) fn name(&self) -> Option<(&str, Protocol)> {
        match &self.which {
            Which::Named(name) => Some((name.as_str(), self.protocol)),
            Which::All | Which::Range(..) => None,
        }
    }

    /// Its numbers, where it has no name.
    pub(crate) fn range(&self) -> Option<(Protocol, u16, u16)> {
        match &self.which {
            Which::All => Some((self.protocol, 0, u16::MAX)),
            Which::Range(first, last) => Some((self.protocol, *first, *last)),
            Which::Named(_) => None,
        }
    }
}

/// Whether every operator of it is one.
fn is_understood(selector: &LabelSelector) -> bool {
    let mut expressions = selector.match_expressions.iter().flatten();
    expressions.all(|e| OPERATORS.contains(&e.operator.as_str()))
}

/// How many comparisons it takes.
pub(crate) fn selector_cost(selector: &LabelSelector) -> usize {
    let labels = selector.match_labels.as_ref().map_or(0, BTreeMap::len);
    let expressions = selector.match_expressions.iter().flatten();
    let values = expressions.map(|e| 1 + e.values.as_ref().map_or(0, Vec::len));
    labels + values.sum::<usize>()
}

fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = text.split_once('/')?;
    let (address, bits) = (address.parse::<IpAddr>().ok()?, bits.parse::<u8>().ok()?);
    let most = if address.is_ipv4() { 32 } else { 128 };
    (bits <= most).then_some((address, bits))
}

fn number(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port > 0)
}
