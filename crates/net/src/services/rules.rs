//! From Services, their endpoints and what is known of the node to the rules.
//!
//! ```text
//!   nat prerouting         --> firewall: who may send to a load balancer
//!   nat prerouting, output --> external (daddr . proto . dport) --> ext --> svc, or loc (this node's endpoints)
//!                          \-> cluster  (daddr . proto . dport) ----------> svc, or loc    only from pods and this machine
//!   filter forward, input, output after nat --> refused: what has no endpoints; cluster addresses that nothing listens on
//!   nat postrouting        --> masquerade: what came from outside, and pods that reach themselves
//! ```
//!
//! Chains are named after the UID of the Service, its protocol and port. Nothing that a user wrote is in a rule but numbers
//! and addresses, and the Service's name in a comment.

mod balancer;
mod hooks;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{IpAddr, SocketAddr};

use super::facts::{Facts, Protocol};
use super::model::{Backends, Key, Port, Service, Slice};
use crate::ruleset::{Chain, Ruleset, Set, comment, set_of};

/// The bit of a packet's mark that has it masqueraded; kube-proxy's own.
const MARK: &str = "0x4000";

/// What a Service may cost, and those of a namespace together: one for each port and endpoint in each family, and
/// [`AFFINITY_COST`] where sessions stay with their endpoint. The kernel takes about a second for ten thousand, and everybody's
/// Services wait for it.
const SERVICE_BUDGET: usize = 2_000;
const NAMESPACE_BUDGET: usize = 10_000;
/// A pair with session affinity is a set, a chain and three rules.
const AFFINITY_COST: usize = 40;
/// How many clients an endpoint remembers: whoever forges source addresses fills no more.
const CLIENTS: usize = 1024;

/// Where something is led from.
pub(crate) type Front = (IpAddr, Protocol, u16);

/// What comes of Services and endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) ruleset: Ruleset,
    /// What is led, and the endpoints whose connections go on.
    pub(crate) fronts: BTreeMap<Front, Vec<SocketAddr>>,
    /// Services of type LoadBalancer: their addresses, or why they have none.
    pub(crate) balanced: BTreeMap<Key, Result<Vec<IpAddr>, String>>,
    /// Ports on which a load balancer asks for this node's ready endpoints.
    pub(crate) health: BTreeMap<u16, (Key, usize)>,
    /// Services that are refused, since they or their namespace would cost too much.
    pub(crate) left_out: BTreeMap<Key, String>,
}

/// Makes the plan.
pub(crate) fn plan<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    slices: impl IntoIterator<Item = &'a Slice>,
    facts: &Facts,
) -> Plan {
    let mut services: Vec<&Service> = services.into_iter().collect();
    // Of two that ask for the same the older one has it.
    services.sort_by(|a, b| (a.created, &a.uid).cmp(&(b.created, &b.uid)));
    let mut by_service: BTreeMap<&Key, Vec<&Slice>> = BTreeMap::new();
    for slice in slices {
        by_service.entry(&slice.service).or_default().push(slice);
    }
    let mut building = Building::new(facts);
    let mut known: Vec<Known<'_>> = Vec::new();
    let mut spent: BTreeMap<&str, usize> = BTreeMap::new();
    for service in services {
        let slices = by_service.get(&service.key).map_or(&[][..], Vec::as_slice);
        let spent = spent.entry(&service.key.namespace).or_default();
        if let Err(why) = afford(service, slices, spent) {
            building.leave_out(service, why);
            continue;
        }
        for port in &service.ports {
            for is_v4 in [true, false] {
                let ips = service.cluster_ips.iter();
                if ips.clone().any(|ip| ip.is_ipv4() == is_v4) {
                    let backends = Backends::of(service, port, is_v4, slices, facts);
                    known.push(Known {
                        service,
                        port,
                        is_v4,
                        backends,
                    });
                }
            }
        }
    }
    known.iter().for_each(|one| building.cluster(one));
    known.iter().for_each(|one| building.node_port(one));
    known.iter().for_each(|one| building.external_ips(one));
    let mut of_one: &[Known<'_>] = &known;
    while let Some(first) = of_one.first() {
        let same = |one: &Known<'_>| one.service.uid == first.service.uid;
        let end = of_one.iter().position(|one| !same(one));
        let (these, rest) = of_one.split_at(end.unwrap_or(of_one.len()));
        building.balancer(first.service, these);
        of_one = rest;
    }
    building.finish()
}

/// Takes what a Service costs from what its namespace may spend.
fn afford(service: &Service, slices: &[&Slice], spent: &mut usize) -> Result<(), String> {
    let endpoints: usize = slices.iter().map(|slice| slice.endpoints()).sum();
    let pairs = service.ports.len().saturating_mul(endpoints.max(1));
    let each = service.affinity.map_or(1, |_| AFFINITY_COST);
    let cost = pairs.saturating_mul(each);
    if cost > SERVICE_BUDGET {
        return Err(format!(
            "its ports times its endpoints cost {cost}, and a Service may cost {SERVICE_BUDGET}"
        ));
    }
    if spent.saturating_add(cost) > NAMESPACE_BUDGET {
        return Err(format!(
            "the Services of its namespace cost more than {NAMESPACE_BUDGET} together"
        ));
    }
    *spent += cost;
    Ok(())
}

/// A port of a Service in one IP family.
struct Known<'a> {
    service: &'a Service,
    port: &'a Port,
    is_v4: bool,
    backends: Backends,
}

impl Known<'_> {
    /// What its chains' names end with.
    fn id(&self) -> String {
        let (uid, port) = (&self.service.uid, self.port.port);
        format!("{}-{uid}-{}-{port}", family(self.is_v4), self.word())
    }

    fn word(&self) -> &'static str {
        self.port.protocol.word()
    }

    fn comment(&self) -> String {
        let Key { namespace, name } = &self.service.key;
        comment(&format!("{namespace}/{name}:{}", self.port.name))
    }
}

struct Building<'a> {
    facts: &'a Facts,
    plan: Plan,
}

fn family(is_v4: bool) -> &'static str {
    if is_v4 { "4" } else { "6" }
}

fn ip_word(is_v4: bool) -> &'static str {
    if is_v4 { "ip" } else { "ip6" }
}

impl<'a> Building<'a> {
    fn new(facts: &'a Facts) -> Self {
        let mut building = Self {
            facts,
            plan: Plan::default(),
        };
        for (is_v4, kind) in [(true, "ipv4_addr"), (false, "ipv6_addr")] {
            let n = family(is_v4);
            for name in ["cluster", "external", "refused", "firewall"] {
                building.set(
                    format!("{name}{n}"),
                    &format!("type {kind} . inet_proto . inet_service : verdict;"),
                    true,
                );
            }
            building.set(format!("cluster-ips{n}"), &format!("type {kind};"), false);
            building.set(
                format!("hairpin{n}"),
                &format!("type {kind} . {kind};"),
                false,
            );
        }
        building
    }

    fn set(&mut self, name: String, spec: &str, is_map: bool) {
        let set = Set {
            spec: spec.to_owned(),
            is_map,
            ..Set::default()
        };
        self.plan.ruleset.sets.insert(name, set);
    }

    /// Puts an element; false when there is one already.
    fn element(&mut self, set: &str, key: String, to: &str) -> bool {
        let Some(set) = self.plan.ruleset.sets.get_mut(set) else {
            return false;
        };
        match set.elements.entry(key) {
            Entry::Occupied(_) => false,
            Entry::Vacant(entry) => {
                entry.insert(to.to_owned());
                true
            }
        }
    }

    fn chain(&mut self, name: &str, rules: impl IntoIterator<Item = String>) {
        let chain = Chain {
            hook: None,
            rules: rules.into_iter().collect(),
        };
        self.plan.ruleset.chains.insert(name.to_owned(), chain);
    }

    /// Its addresses are refused, as those of one without endpoints.
    fn leave_out(&mut self, service: &Service, why: String) {
        for ip in &service.cluster_ips {
            if !self.facts.own.contains(ip) {
                let set = format!("cluster-ips{}", family(ip.is_ipv4()));
                self.element(&set, ip.to_string(), "");
            }
        }
        self.plan.left_out.insert(service.key.clone(), why);
    }

    fn front(&mut self, front: Front, backends: &Backends) {
        self.plan.fronts.insert(front, backends.listed.clone());
    }

    /// The address of the Service in the cluster.
    fn cluster(&mut self, one: &Known<'_>) {
        let n = family(one.is_v4);
        let ips = one.service.cluster_ips.iter();
        for ip in ips.filter(|ip| ip.is_ipv4() == one.is_v4) {
            // A server of this machine listens there itself: the cluster's DNS.
            if self.facts.own.contains(ip) {
                continue;
            }
            self.element(&format!("cluster-ips{n}"), ip.to_string(), "");
            let (key, backends) = (
                element_key(*ip, one.port.protocol, one.port.port),
                &one.backends,
            );
            let local = one.service.internal_local;
            let led = if backends.cluster.is_empty() {
                self.element(&format!("refused{n}"), key, "goto refuse")
            } else if local && backends.local.is_empty() {
                self.element(&format!("refused{n}"), key, "drop")
            } else if local {
                let chain = self.distribution("loc", one, &backends.local);
                self.element(&format!("cluster{n}"), key, &format!("goto {chain}"))
            } else {
                let chain = self.distribution("svc", one, &backends.cluster);
                self.element(&format!("cluster{n}"), key, &format!("goto {chain}"))
            };
            if led {
                self.front((*ip, one.port.protocol, one.port.port), backends);
            }
        }
    }

    /// Its port at the node's addresses.
    fn node_port(&mut self, one: &Known<'_>) {
        let Some(port) = one.port.node_port else {
            return;
        };
        if one.port.protocol == Protocol::Tcp && self.facts.reserved.contains(&port) {
            return;
        }
        for ip in self.facts.addresses.clone() {
            self.external(one, ip, port);
        }
    }

    /// What somebody leads here by other means; only addresses that the administrator has named.
    fn external_ips(&mut self, one: &Known<'_>) {
        let facts = self.facts;
        let allowed = |ip: &&IpAddr| {
            let named = facts.external_ips.iter().any(|cidr| cidr.contains(*ip));
            named && !facts.own.contains(*ip) && !facts.is_pod(**ip)
        };
        for ip in one.service.external_ips.iter().filter(allowed) {
            self.external(one, *ip, one.port.port);
        }
    }

    /// Leads what is sent to an address by anybody; false when another Service has it.
    fn external(&mut self, one: &Known<'_>, ip: IpAddr, port: u16) -> bool {
        let n = family(one.is_v4);
        if ip.is_ipv4() != one.is_v4 || ip.is_loopback() {
            return false;
        }
        let front = (ip, one.port.protocol, port);
        if self.plan.fronts.contains_key(&front) {
            return false;
        }
        let key = element_key(ip, one.port.protocol, port);
        let backends = &one.backends;
        self.front(front, backends);
        if backends.cluster.is_empty() {
            return self.element(&format!("refused{n}"), key, "goto refuse");
        }
        let local = one.service.external_local;
        if local && backends.local.is_empty() {
            self.element(&format!("refused{n}"), key.clone(), "drop");
        }
        let chain = self.external_chain(one);
        self.element(&format!("external{n}"), key, &format!("goto {chain}"))
    }

    fn external_chain(&mut self, one: &Known<'_>) -> String {
        let name = format!("ext{}", one.id());
        if self.plan.ruleset.chains.contains_key(&name) {
            return name;
        }
        let all = self.distribution("svc", one, &one.backends.cluster);
        let mark = format!("meta mark set meta mark | {MARK}");
        let mut rules = Vec::new();
        if one.service.external_local {
            // Who is inside gets there by whatever endpoint; who is outside is seen by the endpoint with his own address.
            if let Some(pods) = self.pods(one.is_v4) {
                let ip = ip_word(one.is_v4);
                rules.push(format!("{ip} saddr {pods} goto {all}"));
            }
            rules.push(format!("fib saddr type local {mark} goto {all}"));
            if !one.backends.local.is_empty() {
                let near = self.distribution("loc", one, &one.backends.local);
                rules.push(format!("goto {near}"));
            }
        } else {
            rules.push(mark);
            rules.push(format!("goto {all}"));
        }
        self.chain(&name, rules);
        name
    }

    /// The chain that spreads what comes over endpoints, of which there is at least one.
    fn distribution(&mut self, kind: &str, one: &Known<'_>, endpoints: &[SocketAddr]) -> String {
        let id = one.id();
        let name = format!("{kind}{id}");
        if self.plan.ruleset.chains.contains_key(&name) {
            return name;
        }
        let (ip, word, note) = (ip_word(one.is_v4), one.word(), one.comment());
        for endpoint in endpoints {
            let at = endpoint.ip();
            self.element(
                &format!("hairpin{}", family(one.is_v4)),
                format!("{at} . {at}"),
                "",
            );
        }
        let count = endpoints.len();
        let Some(seconds) = one.service.affinity else {
            let rule = match endpoints {
                [only] => format!("meta l4proto {word} dnat {ip} to {only} {note}"),
                many => {
                    let list = many.iter().enumerate();
                    let list: Vec<String> = list
                        .map(|(i, at)| format!("{i} : {} . {}", at.ip(), at.port()))
                        .collect();
                    let list = list.join(", ");
                    format!(
                        "meta l4proto {word} dnat {ip} to numgen random mod {count} map {{ {list} }} {note}"
                    )
                }
            };
            self.chain(&name, [rule]);
            return name;
        };
        let kind = if one.is_v4 { "ipv4_addr" } else { "ipv6_addr" };
        let mut rules = Vec::new();
        let mut choice = Vec::new();
        for (i, endpoint) in endpoints.iter().enumerate() {
            let at = format!("{}_{}", endpoint.ip(), endpoint.port()).replace(':', "_");
            let (set, chain) = (format!("aff{id}-{seconds}-{at}"), format!("ep{id}-{at}"));
            let sessions = Set {
                spec: format!(
                    "type {kind}; size {CLIENTS}; flags dynamic,timeout; timeout {seconds}s;"
                ),
                dynamic: true,
                ..Set::default()
            };
            self.plan.ruleset.sets.insert(set.clone(), sessions);
            let lead = [
                format!("update @{set} {{ {ip} saddr }}"),
                format!("meta l4proto {word} dnat {ip} to {endpoint} {note}"),
            ];
            self.chain(&chain, lead);
            rules.push(format!("{ip} saddr @{set} goto {chain}"));
            choice.push(format!("{i} : goto {chain}"));
        }
        let choice = choice.join(", ");
        rules.push(format!("numgen random mod {count} vmap {{ {choice} }}"));
        self.chain(&name, rules);
        name
    }

    /// The pods' addresses of one family as a set; nothing when they are not known.
    fn pods(&self, is_v4: bool) -> Option<String> {
        set_of(&self.facts.pod_cidrs, is_v4)
    }
}

fn element_key(ip: IpAddr, protocol: Protocol, port: u16) -> String {
    format!("{ip} . {} . {port}", protocol.word())
}

#[cfg(test)]
mod tests;
