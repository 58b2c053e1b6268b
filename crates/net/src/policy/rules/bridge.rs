//! The table of the bridge: a pod's port is for its own addresses, whatever the pod writes into its frames.

use std::collections::BTreeSet;

use super::NEIGHBOURS;
use crate::policy::decisions::{Decisions, Facts};
use crate::policy::links::Link;
use crate::ruleset::{Chain, Ruleset, Set};

/// `six`: the pods have IPv6 as well.
pub(super) fn rules(decisions: &Decisions, links: &[Link], facts: &Facts, six: bool) -> Ruleset {
    let mut ruleset = Ruleset::default();
    let mut set = |name: &str, spec: &str, elements: BTreeSet<String>| {
        let elements = elements.into_iter().map(|one| (one, String::new()));
        let set = Set {
            spec: format!("type {spec};"),
            elements: elements.collect(),
            ..Set::default()
        };
        ruleset.sets.insert(name.to_owned(), set);
    };
    let name = |link: &Link| format!("\"{}\"", link.name);
    let bound = |is_v4: bool| -> BTreeSet<String> {
        let pairs = links.iter().flat_map(|link| {
            let own = link.addresses.iter().filter(|ip| ip.is_ipv4() == is_v4);
            own.map(move |ip| format!("\"{}\" . {ip}", link.name))
        });
        pairs.collect()
    };
    set("ports", "ifname", links.iter().map(name).collect());
    let macs = links.iter();
    let macs = macs.map(|link| format!("{} . {}", name(link), link.mac));
    set("macs", "ifname . ether_addr", macs.collect());
    set("bound4", "ifname . ipv4_addr", bound(true));
    let addresses = |is_v4: bool| -> BTreeSet<String> {
        let all = links.iter().flat_map(|link| &link.addresses);
        let all = all.filter(|ip| ip.is_ipv4() == is_v4);
        all.map(ToString::to_string).collect()
    };
    let pod_macs = links.iter().map(|link| link.mac.clone());
    set("pod-macs", "ether_addr", pod_macs.collect());
    set("pods4", "ipv4_addr", addresses(true));
    let mut receive = vec![
        "oifname != @ports accept".to_owned(),
        "ether type ip oifname . ip daddr != @bound4 drop".to_owned(),
    ];
    // Who has no mark (a pod that ran before there were rules, another program of the bridge) sends nothing in a pod's name.
    let mut send = vec![
        "iifname != @ports ether saddr @pod-macs drop".to_owned(),
        "iifname != @ports ether type ip ip saddr @pods4 drop".to_owned(),
        "iifname != @ports ether type arp arp saddr ip @pods4 drop".to_owned(),
    ];
    if six {
        set("pods6", "ipv6_addr", addresses(false));
        send.push("iifname != @ports ether type ip6 ip6 saddr @pods6 drop".to_owned());
    }
    send.extend([
        "iifname != @ports accept".to_owned(),
        // Before the bridge learns where an address is.
        "iifname . ether saddr != @macs drop".to_owned(),
        "ether type ip iifname . ip saddr @bound4 accept".to_owned(),
        "ether type arp iifname . arp saddr ip @bound4 accept".to_owned(),
        // Who asks whether an address is free has none.
        "ether type arp arp operation request arp saddr ip 0.0.0.0 accept".to_owned(),
    ]);
    if six {
        set("bound6", "ifname . ipv6_addr", bound(false));
        send.push("ether type ip6 iifname . ip6 saddr @bound6 accept".to_owned());
        send.push(format!(
            "ether type ip6 ip6 saddr {{ ::, fe80::/10 }} {NEIGHBOURS}"
        ));
        receive.push(format!("ether type ip6 {NEIGHBOURS}"));
        receive.push("ether type ip6 oifname . ip6 daddr != @bound6 drop".to_owned());
    } else {
        receive.push("ether type ip6 drop".to_owned());
    }
    if !facts.bridge_passes_rules {
        // The rules above the bridge don't see this; what could be forbidden by them must not pass.
        let restricted = decisions.subjects.values();
        let restricted = restricted.filter(|subject| subject.is_restricted());
        let mut names: BTreeSet<String> = restricted.map(|s| name(&s.link)).collect();
        let unknown = links
            .iter()
            .filter(|link| !decisions.subjects.contains_key(&link.uid));
        names.extend(unknown.map(name));
        set("restricted", "ifname", names);
        receive.insert(0, "iifname @restricted drop".to_owned());
        receive.insert(1, "oifname @restricted drop".to_owned());
    }
    send.push("drop".to_owned());
    for (name, hook, rules) in [
        (
            "send",
            "type filter hook prerouting priority -250; policy accept;",
            send,
        ),
        (
            "receive",
            "type filter hook forward priority -250; policy accept;",
            receive,
        ),
    ] {
        let chain = Chain {
            hook: Some(hook),
            rules,
        };
        ruleset.chains.insert(name.to_owned(), chain);
    }
    ruleset
}
