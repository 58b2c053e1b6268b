//! From what is decided to the rules of the kernel (pure).
//!
//! ```text
//!   bridge prerouting   who sends: a port's frames have its pod's addresses, or go nowhere
//!   bridge forward      who receives: what goes from port to port is for the pod at its end
//!   inet forward, input   egress:  replies pass --> egress (saddr)  --> accept, or pod --> floor, policies --> drop
//!   inet forward          ingress: replies pass --> ingress (daddr) --> accept, or pod --> floor, policies --> drop
//! ```
//!
//! All see addresses after DNAT: who asks a Service is judged by the pod that answers. What has an address that isn't in the maps is
//! dropped, so that a pod whose policies are not in force yet reaches nobody, and nobody reaches it.
//!
//! Each packet of the direction in which a connection began is judged anew: a policy holds for connections that there are. Chains are
//! named after UIDs; nothing that a user wrote is in a rule but numbers and addresses, and a policy's name in comments.

mod bridge;

use std::net::IpAddr;

use berth_rules::network_floor::{FloorLevel, NetworkFloor};

use super::decisions::{Allowed, DNS_PORT, Decisions, Direction, Facts, Side, Subject};
use super::judge::{METADATA, excepted};
use super::links::Link;
use super::ranges::ports_text;
use crate::ruleset::{Chain, Ruleset, Set, comment, set_of};
use crate::services::facts::Protocol;

/// IPv4 and IPv6.
const FAMILIES: [bool; 2] = [true, false];

/// How neighbours find each other by IPv6.
const NEIGHBOURS: &str =
    "icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } accept";

/// The rules of both tables: of the IP layer, and of the bridge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) inet: Ruleset,
    pub(crate) bridge: Ruleset,
}

/// Makes the rules.
pub(crate) fn rules(decisions: &Decisions, links: &[Link], facts: &Facts) -> Rules {
    let six = facts.pod_cidrs.iter().any(|cidr| cidr.addr().is_ipv6());
    let mut building = Building {
        facts,
        families: if six { &FAMILIES } else { &FAMILIES[..1] },
        inet: Ruleset::default(),
    };
    building.sets();
    building.bases();
    for (of, (key, rules)) in &decisions.policies {
        let note = comment(&format!("{}/{}", key.namespace, key.name));
        building.policy(of, rules, &note);
    }
    for (uid, subject) in &decisions.subjects {
        building.subject(uid, subject);
    }
    Rules {
        bridge: bridge::rules(decisions, links, facts, six),
        inet: building.inet,
    }
}

struct Building<'a> {
    facts: &'a Facts,
    /// IPv4, and IPv6 where the pods have it.
    families: &'static [bool],
    inet: Ruleset,
}

/// What a rule asks of a packet, and whether that is about IPv4 or IPv6 alone.
type Match = (Option<bool>, String);

/// A family in names, in rules, and as a type.
fn words(is_v4: bool) -> (&'static str, &'static str, &'static str) {
    if is_v4 {
        ("4", "ip", "ipv4_addr")
    } else {
        ("6", "ip6", "ipv6_addr")
    }
}

/// What a direction's chains begin with, and where a packet has the peer.
fn of(direction: Direction) -> (&'static str, &'static str) {
    match direction {
        Direction::Ingress => ("i", "saddr"),
        Direction::Egress => ("e", "daddr"),
    }
}

impl Building<'_> {
    fn set(&mut self, name: String, spec: String, is_map: bool) {
        let set = Set {
            spec,
            is_map,
            ..Set::default()
        };
        self.inet.sets.insert(name, set);
    }

    fn elements(&mut self, set: &str, elements: impl IntoIterator<Item = (String, String)>) {
        if let Some(set) = self.inet.sets.get_mut(set) {
            set.elements.extend(elements);
        }
    }

    fn chain(&mut self, name: String, rules: Vec<String>) {
        let chain = Chain { hook: None, rules };
        self.inet.chains.insert(name, chain);
    }

    fn sets(&mut self) {
        for is_v4 in self.families {
            let (n, _, kind) = words(*is_v4);
            self.set(format!("self{n}"), format!("type {kind} . {kind};"), false);
            for map in ["egress", "ingress"] {
                self.set(format!("{map}{n}"), format!("type {kind} : verdict;"), true);
            }
        }
    }

    /// The chains in which everything begins. Their end is a drop: what has no address of a known pod.
    fn bases(&mut self) {
        let bridge = &self.facts.bridge;
        let reply = [
            "ct direction reply accept".to_owned(),
            "meta l4proto { icmp, ipv6-icmp } ct state related accept".to_owned(),
        ];
        let mut egress = vec![format!("iifname != \"{bridge}\" accept")];
        let mut ingress = vec![format!("oifname != \"{bridge}\" accept")];
        for is_v4 in self.families {
            let (n, ip, _) = words(*is_v4);
            // An error about a connection comes from its ends: others would send what they like in it.
            egress.push(format!(
                "meta l4proto {{ icmp, ipv6-icmp }} ct state related {ip} saddr . ct original {ip} saddr != @self{n} {ip} saddr . ct reply {ip} saddr != @self{n} drop"
            ));
            // Nobody else has the addresses of this bridge's pods.
            if let Some(pods) = set_of(&self.facts.pod_cidrs, *is_v4) {
                ingress.push(format!("iifname != \"{bridge}\" {ip} saddr {pods} drop"));
            }
        }
        for chain in [&mut egress, &mut ingress] {
            chain.extend(reply.clone());
        }
        for is_v4 in self.families {
            let (n, ip, _) = words(*is_v4);
            // A pod reaches itself, by whatever Service.
            for chain in [&mut egress, &mut ingress] {
                chain.push(format!("{ip} saddr . {ip} daddr @self{n} accept"));
            }
            egress.push(format!("{ip} saddr vmap @egress{n}"));
            ingress.push(format!("{ip} daddr vmap @ingress{n}"));
        }
        if self.families.contains(&false) {
            egress.push(NEIGHBOURS.to_owned());
            ingress.push(NEIGHBOURS.to_owned());
        }
        for chain in [&mut egress, &mut ingress] {
            chain.push("drop".to_owned());
        }
        for (name, hook, rules) in [
            (
                "forward-egress",
                "type filter hook forward priority -10; policy accept;",
                egress.clone(),
            ),
            (
                "input-egress",
                "type filter hook input priority -10; policy accept;",
                egress,
            ),
            (
                "forward-ingress",
                "type filter hook forward priority -9; policy accept;",
                ingress,
            ),
        ] {
            let chain = Chain {
                hook: Some(hook),
                rules,
            };
            self.inet.chains.insert(name.to_owned(), chain);
        }
        // Half a connection, of which the kernel knows nothing: it was cut. Otherwise who was asked could take it up, as if it had asked.
        self.chain(
            "torn".to_owned(),
            vec!["ct state new meta l4proto tcp tcp flags & (fin | syn | rst | ack) != syn reject with tcp reset".to_owned()],
        );
    }

    /// A policy's chain accepts what it allows.
    fn policy(&mut self, (direction, uid): &(Direction, String), rules: &[Allowed], note: &str) {
        let (d, _) = of(*direction);
        let mut lines = Vec::new();
        for (i, rule) in rules.iter().enumerate() {
            let id = format!("{d}-{uid}-{i}");
            let (peers, ports) = (self.peers(*direction, &id, rule), self.ports(&id, rule));
            for (of_peer, peer) in &peers {
                for (of_port, port) in &ports {
                    // A packet is of one family.
                    if of_peer.is_some_and(|peer| of_port.is_some_and(|port| peer != port)) {
                        continue;
                    }
                    let both = [peer.as_str(), port.as_str(), "accept", note];
                    let words: Vec<&str> =
                        both.into_iter().filter(|word| !word.is_empty()).collect();
                    lines.push(words.join(" "));
                }
            }
            lines.extend(self.dns(rule, note));
        }
        self.chain(format!("p{d}-{uid}"), lines);
    }

    /// What a packet must have for a rule's peers: one of these, each with the family that it is about.
    fn peers(&mut self, direction: Direction, id: &str, rule: &Allowed) -> Vec<Match> {
        if rule.anybody {
            return vec![(None, String::new())];
        }
        let (_, at) = of(direction);
        let mut all = Vec::new();
        for is_v4 in self.families {
            let (n, ip, kind) = words(*is_v4);
            if let Some(pods) = &rule.pods {
                let set = format!("s{id}-{n}");
                self.set(set.clone(), format!("type {kind};"), false);
                let pods = pods.iter().filter(|pod| pod.is_ipv4() == *is_v4);
                self.elements(&set, pods.map(|pod| (pod.to_string(), String::new())));
                all.push((Some(*is_v4), format!("{ip} {at} @{set}")));
            }
            if let Some(blocks) = rule.blocks.text(*is_v4) {
                all.push((Some(*is_v4), format!("{ip} {at} {blocks}")));
            }
        }
        all
    }

    /// The same for its ports.
    fn ports(&mut self, id: &str, rule: &Allowed) -> Vec<Match> {
        if rule.every_port {
            return vec![(None, String::new())];
        }
        let mut all = Vec::new();
        for protocol in Protocol::ALL {
            let of_it = rule.ports.iter().filter(|(of, ..)| *of == protocol);
            let ranges: Vec<(u16, u16)> = of_it.map(|(_, first, last)| (*first, *last)).collect();
            let word = protocol.word();
            if ranges.contains(&(0, u16::MAX)) {
                all.push((None, format!("meta l4proto {word}")));
            } else if !ranges.is_empty() {
                let ports = ports_text(ranges);
                all.push((None, format!("meta l4proto {word} th dport {ports}")));
            }
        }
        if let Some(named) = &rule.named {
            for is_v4 in self.families {
                let (n, ip, kind) = words(*is_v4);
                let set = format!("n{id}-{n}");
                let spec = format!("type {kind} . inet_proto . inet_service;");
                self.set(set.clone(), spec, false);
                let named = named.iter().filter(|(pod, ..)| pod.is_ipv4() == *is_v4);
                let named = named.map(|(pod, protocol, port)| {
                    let element = format!("{pod} . {} . {port}", protocol.word());
                    (element, String::new())
                });
                self.elements(&set, named);
                let text = format!("{ip} daddr . meta l4proto . th dport @{set}");
                all.push((Some(*is_v4), text));
            }
        }
        all
    }

    /// The DNS server, where a rule's selectors have it.
    fn dns(&self, rule: &Allowed, note: &str) -> Vec<String> {
        let protocols: Vec<&str> = rule.dns.iter().map(|protocol| protocol.word()).collect();
        if protocols.is_empty() {
            return Vec::new();
        }
        let protocols = protocols.join(", ");
        self.to_dns(&protocols, &format!("accept {note}"))
    }

    fn to_dns(&self, protocols: &str, verdict: &str) -> Vec<String> {
        let mut all = Vec::new();
        for is_v4 in self.families {
            let (_, ip, _) = words(*is_v4);
            if let Some(addresses) = list(&self.facts.dns, *is_v4) {
                all.push(format!("{ip} daddr {addresses} meta l4proto {{ {protocols} }} th dport {DNS_PORT} {verdict}"));
            }
        }
        all
    }

    /// A pod's chains, and where its addresses lead.
    fn subject(&mut self, uid: &str, subject: &Subject) {
        for direction in [Direction::Egress, Direction::Ingress] {
            let verdict = self.side(uid, subject, direction);
            let map = match direction {
                Direction::Egress => "egress",
                Direction::Ingress => "ingress",
            };
            for is_v4 in self.families {
                let (n, _, _) = words(*is_v4);
                let own = subject.link.addresses.iter();
                let own: Vec<String> = own
                    .filter(|ip| ip.is_ipv4() == *is_v4)
                    .map(IpAddr::to_string)
                    .collect();
                let to = own.iter().map(|ip| (ip.clone(), verdict.clone()));
                self.elements(&format!("{map}{n}"), to);
                let pairs = own.iter().flat_map(|a| own.iter().map(move |b| (a, b)));
                let pairs = pairs.map(|(a, b)| (format!("{a} . {b}"), String::new()));
                self.elements(&format!("self{n}"), pairs);
            }
        }
    }

    fn side(&mut self, uid: &str, subject: &Subject, direction: Direction) -> String {
        // What is cut in one direction must not be taken up from the other.
        if !subject.is_restricted() {
            return "accept".to_owned();
        }
        let (d, _) = of(direction);
        let mut rules = vec!["jump torn".to_owned()];
        let floor = subject.floor.as_ref();
        let floor = floor.and_then(|floor| self.floor(floor, direction));
        if let Some(lines) = floor {
            let chain = format!("floor-{d}-{uid}");
            rules.push(format!("jump {chain}"));
            self.chain(chain, lines);
        }
        match subject.side(direction) {
            Side::Open => rules.push("accept".to_owned()),
            Side::Isolated(by) => {
                rules.extend(by.iter().map(|policy| format!("jump p{d}-{policy}")));
                rules.push("drop".to_owned());
            }
        }
        let chain = format!("pod-{d}-{uid}");
        self.chain(chain.clone(), rules);
        format!("goto {chain}")
    }

    /// What a class denies: what isn't dropped in these returns, and is for policies to judge. Nothing where it denies nothing.
    fn floor(&self, floor: &NetworkFloor, direction: Direction) -> Option<Vec<String>> {
        let (_, at) = of(direction);
        if direction == Direction::Ingress && floor.level != FloorLevel::DenyAll {
            return None;
        }
        let is_egress = direction == Direction::Egress;
        let mut rules = Vec::new();
        let blocks = excepted(floor);
        for is_v4 in self.families {
            let (_, ip, _) = words(*is_v4);
            if let Some(blocks) = blocks.text(*is_v4) {
                rules.push(format!("{ip} {at} {blocks} return"));
            }
        }
        if is_egress && floor.dns {
            rules.extend(self.to_dns("tcp, udp", "return"));
        }
        if is_egress && floor.node {
            rules.push("fib daddr type local return".to_owned());
        }
        match floor.level {
            FloorLevel::DenyAll | FloorLevel::DenyEgress => rules.push("drop".to_owned()),
            FloorLevel::Allow => {
                for is_v4 in self.families {
                    let (_, ip, _) = words(*is_v4);
                    if let Some(metadata) = list(&METADATA, *is_v4) {
                        rules.push(format!("{ip} daddr {metadata} drop"));
                    }
                }
                let port = self.facts.node_port;
                rules.push(format!(
                    "fib daddr type local meta l4proto tcp th dport {port} drop"
                ));
            }
        }
        Some(rules)
    }
}

/// Addresses of one family as a set; nothing when there are none.
fn list(addresses: &[IpAddr], is_v4: bool) -> Option<String> {
    let same = addresses.iter().filter(|ip| ip.is_ipv4() == is_v4);
    let same: Vec<String> = same.map(IpAddr::to_string).collect();
    (!same.is_empty()).then(|| format!("{{ {} }}", same.join(", ")))
}

#[cfg(test)]
mod tests;
