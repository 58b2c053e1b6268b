//! From the objects to what each pod of this node may do (pure).
//!
//! A pod is isolated in a direction by the policies of its namespace that select it and that are about that direction; then only
//! what one of them allows passes. The floor of its class comes before them: they open nothing that it denies.
//!
//! What a namespace's policies cost is bounded, so that they keep nobody else's from being applied. Where they cost more, all pods of
//! that namespace on this node are closed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use berth_core::selector::label_selector_matches;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::budget::{PER_POD, POLICY_BUDGET, Spent, TooMuch, within};
use super::decisions::{Allowed, DNS_PORT, Decisions, Direction, Facts, Side, Subject};
use super::floors::Floors;
use super::links::Link;
use super::model::{Labels, Peer, Pod, Policy, Port, Rule, Which, selector_cost};
use crate::services::facts::Protocol;
use crate::services::model::Key;

/// Where the cluster's DNS server has its names, were it a pod: stock clusters' policies select it so.
const DNS_NAMESPACE: &str = "kube-system";
const DNS_LABEL: (&str, &str) = ("k8s-app", "kube-dns");
const DNS_PORTS: [(&str, Protocol); 2] = [("dns", Protocol::Udp), ("dns-tcp", Protocol::Tcp)];

/// Everything that is decided by.
pub(crate) struct Inputs<'a> {
    /// Pods of all nodes.
    pub(crate) pods: &'a BTreeMap<Key, Pod>,
    /// Pods that were started on this node, by UID: the API doesn't have those of files under their own UID.
    pub(crate) attached: &'a BTreeMap<String, Pod>,
    pub(crate) namespaces: &'a BTreeMap<Key, Labels>,
    pub(crate) policies: &'a BTreeMap<Key, Policy>,
    /// The ports of the bridge.
    pub(crate) links: &'a [Link],
    /// The floors of classes; nothing where classes don't count.
    pub(crate) floors: Option<&'a Floors>,
    pub(crate) facts: &'a Facts,
}

/// A pod that others may name.
struct PeerPod<'a> {
    pod: &'a Pod,
    addresses: Vec<IpAddr>,
}

type Peers<'a> = BTreeMap<&'a str, Vec<PeerPod<'a>>>;

/// Decides.
pub(crate) fn resolve(inputs: &Inputs<'_>) -> Decisions {
    let mut known: BTreeMap<&str, &Pod> = inputs
        .attached
        .iter()
        .map(|(uid, pod)| (uid.as_str(), pod))
        .collect();
    let here = inputs.pods.values();
    let here = here.filter(|pod| pod.node == inputs.facts.node);
    known.extend(here.map(|pod| (pod.uid.as_str(), pod)));
    let shared = shared(inputs.links);
    let peers = peers(inputs, &known, &shared);
    let mut local: BTreeMap<&str, Vec<(&Link, &Pod)>> = BTreeMap::new();
    let mut decisions = Decisions::default();
    for link in inputs.links {
        // Whose policies would count for what has this address isn't known.
        let twice = link.addresses.iter().find(|ip| shared.contains(ip));
        if let Some(ip) = twice {
            let reason = format!("another pod of this node has its address {ip}, too");
            decisions.closed.insert(link.uid.clone(), reason);
            continue;
        }
        match known.get(link.uid.as_str()) {
            Some(pod) if !pod.host_network => {
                let of_namespace = local.entry(pod.key.namespace.as_str()).or_default();
                of_namespace.push((link, *pod));
            }
            Some(_) | None => {}
        }
    }
    let mut policies: BTreeMap<&str, Vec<&Policy>> = BTreeMap::new();
    for policy in inputs.policies.values() {
        let of_namespace = policies.entry(policy.key.namespace.as_str()).or_default();
        of_namespace.push(policy);
    }
    for (namespace, pods) in local {
        let policies = policies.get(namespace).map_or(&[][..], Vec::as_slice);
        let mut resolving = Resolving {
            inputs,
            peers: &peers,
            pods: &pods,
            spent: Spent::default(),
            isolating: BTreeSet::new(),
            decisions: Decisions::default(),
        };
        match resolving.namespace(policies) {
            Ok(()) => {
                let Decisions {
                    subjects,
                    closed,
                    policies,
                } = resolving.decisions;
                decisions.subjects.extend(subjects);
                decisions.closed.extend(closed);
                decisions.policies.extend(policies);
            }
            Err(TooMuch(reason)) => {
                let reason = format!(
                    "the NetworkPolicies of namespace {namespace:?} cost too much: {reason}"
                );
                let all = pods.iter().map(|(link, _)| link.uid.clone());
                let closed = all.map(|uid| (uid, reason.clone()));
                decisions.closed.extend(closed);
            }
        }
    }
    decisions
}

/// Addresses that ports of several pods have: whoever gives them out has forgotten one.
fn shared(links: &[Link]) -> BTreeSet<IpAddr> {
    let (mut owners, mut shared) = (BTreeMap::new(), BTreeSet::new());
    for link in links {
        for ip in &link.addresses {
            let owner = *owners.entry(*ip).or_insert(link.uid.as_str());
            if owner != link.uid {
                shared.insert(*ip);
            }
        }
    }
    shared
}

/// Pods by namespace, with the addresses that they really have.
fn peers<'a>(
    inputs: &Inputs<'a>,
    known: &BTreeMap<&str, &'a Pod>,
    shared: &BTreeSet<IpAddr>,
) -> Peers<'a> {
    let mut peers: Peers<'a> = BTreeMap::new();
    let mut add = |pod: &'a Pod, addresses: Vec<IpAddr>| {
        if !addresses.is_empty() {
            let of_namespace = peers.entry(pod.key.namespace.as_str()).or_default();
            of_namespace.push(PeerPod { pod, addresses });
        }
    };
    // Of this node's pods the kernel says it; an address that was another pod's a moment ago is no peer's by that one's labels.
    for link in inputs.links {
        if let Some(pod) = known.get(link.uid.as_str())
            && !pod.host_network
        {
            let own = link.addresses.iter().copied();
            add(pod, own.filter(|ip| !shared.contains(ip)).collect());
        }
    }
    let facts = inputs.facts;
    let elsewhere = inputs.pods.values();
    let elsewhere = elsewhere.filter(|pod| pod.node != facts.node && !pod.host_network);
    for pod in elsewhere {
        // What another node says of addresses here counts for nothing.
        let is_here =
            |ip: &IpAddr| facts.own.contains(ip) || facts.pod_cidrs.iter().any(|c| c.contains(ip));
        let usable = pod.addresses.iter().copied();
        let usable = usable.filter(|ip| {
            !is_here(ip) && !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast()
        });
        add(pod, usable.collect());
    }
    peers
}

/// The policies of one namespace.
struct Resolving<'a> {
    inputs: &'a Inputs<'a>,
    peers: &'a Peers<'a>,
    /// The namespace's pods on this node.
    pods: &'a [(&'a Link, &'a Pod)],
    spent: Spent,
    /// The policies that isolate a pod of this node, by UID.
    isolating: BTreeSet<(Direction, String)>,
    decisions: Decisions,
}

impl<'a> Resolving<'a> {
    fn namespace(&mut self, policies: &[&Policy]) -> Result<(), TooMuch> {
        let cost = policies.iter().map(|policy| policy.cost).sum();
        within(
            cost,
            POLICY_BUDGET,
            "policies, rules, peers, ports, exceptions and labels of selectors",
        )?;
        for (link, pod) in self.pods {
            let floor = match (&pod.class, self.inputs.floors) {
                (None, _) | (_, None) => None,
                (Some(class), Some(floors)) => match floors.get(class) {
                    Some(Ok(floor)) => floor.clone(),
                    Some(Err(reason)) => {
                        let closed = &mut self.decisions.closed;
                        closed.insert(link.uid.clone(), reason.clone());
                        continue;
                    }
                    None => {
                        let reason = format!("RuntimeClass {class:?} is not known");
                        self.decisions.closed.insert(link.uid.clone(), reason);
                        continue;
                    }
                },
            };
            let subject = Subject {
                link: (*link).clone(),
                key: pod.key.clone(),
                floor,
                ingress: self.side(policies, pod, Direction::Ingress)?,
                egress: self.side(policies, pod, Direction::Egress)?,
            };
            self.decisions.subjects.insert(link.uid.clone(), subject);
        }
        for policy in policies {
            for direction in [Direction::Ingress, Direction::Egress] {
                let of = (direction, policy.uid.clone());
                let rules = policy.rules(direction);
                let Some(rules) = rules.filter(|_| self.isolating.contains(&of)) else {
                    continue;
                };
                let allowed = rules.iter();
                let allowed: Vec<Allowed> = allowed
                    .map(|rule| self.rule(policy, direction, rule))
                    .collect::<Result<_, _>>()?;
                let value = (policy.key.clone(), allowed);
                self.decisions.policies.insert(of, value);
            }
        }
        Ok(())
    }

    fn side(
        &mut self,
        policies: &[&Policy],
        pod: &Pod,
        direction: Direction,
    ) -> Result<Side, TooMuch> {
        let mut by = Vec::new();
        for policy in policies {
            if policy.rules(direction).is_none() {
                continue;
            }
            self.spent
                .work(1 + policy.selector.as_ref().map_or(0, selector_cost))?;
            let selector = policy.selector.as_ref();
            if selector.is_none_or(|s| label_selector_matches(s, Some(&pod.labels))) {
                self.spent.selected()?;
                self.isolating.insert((direction, policy.uid.clone()));
                by.push(policy.uid.clone());
                within(by.len(), PER_POD, "policies that select one pod")?;
            }
        }
        Ok(match by.is_empty() {
            true => Side::Open,
            false => Side::Isolated(by),
        })
    }

    fn rule(
        &mut self,
        policy: &Policy,
        direction: Direction,
        rule: &Rule,
    ) -> Result<Allowed, TooMuch> {
        let mut allowed = Allowed {
            anybody: rule.peers.is_none(),
            every_port: rule.ports.is_none(),
            ..Allowed::default()
        };
        let peers = self.peers;
        let mut found: Vec<&PeerPod<'a>> = Vec::new();
        for peer in rule.peers.iter().flatten() {
            match peer {
                Peer::Block { network, except } => allowed.blocks.add(*network, except),
                Peer::Pods { namespaces, pods } => {
                    let (namespaces, pods) = (namespaces.as_ref(), pods.as_ref());
                    let new = self.find(policy, namespaces, pods)?;
                    let addresses = allowed.pods.get_or_insert_default();
                    addresses.extend(new.iter().flat_map(|peer| &peer.addresses));
                    self.spent.addresses(new.len())?;
                    found.extend(new);
                    let is_egress = direction == Direction::Egress;
                    if is_egress && self.selects_dns(policy, namespaces, pods) {
                        allowed.dns = dns_protocols(rule.ports.as_deref());
                    }
                }
            }
        }
        allowed.blocks.finish();
        let names = rule.ports.iter().flatten();
        let names: Vec<(&str, Protocol)> = names.filter_map(Port::name).collect();
        if !names.is_empty() {
            let mut named = BTreeSet::new();
            match direction {
                Direction::Ingress => {
                    for (link, pod) in self.pods {
                        self.spent.work(pod.ports.len() * names.len())?;
                        add_named(&mut named, pod, &link.addresses, &names, |_| true);
                    }
                }
                Direction::Egress => {
                    let (anybody, blocks) = (allowed.anybody, &allowed.blocks);
                    if anybody || blocks.len() > 0 {
                        let is_met = |ip: IpAddr| anybody || blocks.contains(ip);
                        for peer in peers.values().flatten() {
                            self.spent.work(1 + peer.pod.ports.len() * names.len())?;
                            add_named(&mut named, peer.pod, &peer.addresses, &names, is_met);
                        }
                    }
                    for peer in &found {
                        self.spent.work(peer.pod.ports.len() * names.len())?;
                        add_named(&mut named, peer.pod, &peer.addresses, &names, |_| true);
                    }
                }
            }
            self.spent.addresses(named.len())?;
            allowed.named = Some(named);
        }
        allowed.ports = rule
            .ports
            .iter()
            .flatten()
            .filter_map(Port::range)
            .collect();
        self.spent.addresses(allowed.blocks.len())?;
        Ok(allowed)
    }

    /// The pods that selectors of a peer match; of the policy's own namespace when it selects none.
    fn find(
        &mut self,
        policy: &Policy,
        namespaces: Option<&LabelSelector>,
        pods: Option<&LabelSelector>,
    ) -> Result<Vec<&'a PeerPod<'a>>, TooMuch> {
        let own = policy.key.namespace.as_str();
        let mut chosen = Vec::new();
        match namespaces {
            None => chosen.extend(self.peers.get(own)),
            Some(selector) => {
                let cost = 1 + selector_cost(selector);
                for (key, labels) in self.inputs.namespaces {
                    self.spent.work(cost)?;
                    if label_selector_matches(selector, Some(labels)) {
                        chosen.extend(self.peers.get(key.name.as_str()));
                    }
                }
            }
        }
        let cost = 1 + pods.map_or(0, selector_cost);
        let mut found = Vec::new();
        for peer in chosen.into_iter().flatten() {
            self.spent.work(cost)?;
            if pods.is_none_or(|s| label_selector_matches(s, Some(&peer.pod.labels))) {
                found.push(peer);
            }
        }
        Ok(found)
    }

    /// Whether a peer selects the cluster's DNS server as if it were stock clusters' pods of it.
    fn selects_dns(
        &self,
        policy: &Policy,
        namespaces: Option<&LabelSelector>,
        pods: Option<&LabelSelector>,
    ) -> bool {
        if self.inputs.facts.dns.is_empty() {
            return false;
        }
        let (key, value) = DNS_LABEL;
        let labels = Labels::from([(key.to_owned(), value.to_owned())]);
        let of_pods = pods.is_none_or(|s| label_selector_matches(s, Some(&labels)));
        let of_namespace = match namespaces {
            None => policy.key.namespace == DNS_NAMESPACE,
            Some(selector) => {
                let key = Key {
                    namespace: String::new(),
                    name: DNS_NAMESPACE.to_owned(),
                };
                let labels = self.inputs.namespaces.get(&key);
                labels.is_some_and(|labels| label_selector_matches(selector, Some(labels)))
            }
        };
        of_pods && of_namespace
    }
}

/// By which protocols ports of a rule let the DNS server be asked.
fn dns_protocols(ports: Option<&[Port]>) -> Vec<Protocol> {
    let allows = |(name, protocol): &(&str, Protocol)| {
        ports.is_none_or(|ports| {
            ports.iter().any(|port| {
                port.protocol == *protocol
                    && match &port.which {
                        Which::All => true,
                        Which::Range(first, last) => (*first..=*last).contains(&DNS_PORT),
                        Which::Named(own) => own == name,
                    }
            })
        })
    };
    let ports = DNS_PORTS.iter().filter(|one| allows(one));
    ports.map(|(_, protocol)| *protocol).collect()
}

/// The ports of a pod by their names, at each of its addresses.
fn add_named(
    named: &mut BTreeSet<(IpAddr, Protocol, u16)>,
    pod: &Pod,
    addresses: &[IpAddr],
    names: &[(&str, Protocol)],
    is_met: impl Fn(IpAddr) -> bool,
) {
    for port in &pod.ports {
        if names.contains(&(port.name.as_str(), port.protocol)) {
            let met = addresses.iter().filter(|ip| is_met(**ip));
            named.extend(met.map(|ip| (*ip, port.protocol, port.port)));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
