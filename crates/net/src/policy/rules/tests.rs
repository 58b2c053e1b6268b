//! The rules as the kernel takes them, and what they begin and end with.

use super::*;
use crate::nft::{Names, Standing, Table, apply};
use crate::policy::resolve::tests::World;

/// A world with everything that makes a rule of its own.
fn worlds() -> Vec<World> {
    let plain = World::new();
    let mut full = World::new();
    full.fill();
    let mut without = World::new();
    without.fill();
    without.facts.bridge_passes_rules = false;
    let mut six = World::new();
    six.fill();
    six.facts.pod_cidrs.push("fd00::/64".parse().unwrap());
    vec![plain, full, without, six]
}

fn made(world: &World) -> Rules {
    rules(&world.resolve(), &world.links, &world.facts)
}

fn of<'a>(ruleset: &'a Ruleset, chain: &str) -> &'a [String] {
    &ruleset.chains[chain].rules
}

#[test]
fn what_is_not_known_is_dropped() {
    for world in worlds() {
        let rules = made(&world);
        for chain in ["forward-egress", "input-egress", "forward-ingress"] {
            let lines = of(&rules.inet, chain);
            assert_eq!(lines.last().unwrap(), "drop", "{chain}");
            assert!(lines[0].contains("ifname != \"br\" accept"), "{lines:?}");
        }
        assert_eq!(of(&rules.bridge, "send").last().unwrap(), "drop");
        for (name, chain) in &rules.inet.chains {
            if name.starts_with("pod-") {
                let last = chain.rules.last().unwrap();
                assert!(last == "drop" || last == "accept", "{name}: {last}");
            }
        }
    }
    let mut world = World::new();
    let uid = world.links[0].uid.clone();
    world.forget(&uid);
    let rules = made(&world);
    // Its port is bound to it, and its address is in no map.
    assert!(rules.bridge.sets["bound4"].elements.len() == 3);
    assert_eq!(rules.inet.sets["egress4"].elements.len(), 2);
    assert_eq!(rules.inet.sets["ingress4"].elements.len(), 2);
}

#[test]
fn a_rule_is_of_numbers_and_addresses() {
    let rules = made(&worlds()[1]);
    let lines: Vec<&String> = rules
        .inet
        .chains
        .values()
        .flat_map(|chain| &chain.rules)
        .collect();
    let has = |text: &str| lines.iter().any(|line| line.contains(text));
    for text in [
        "ip saddr @si-u-a-p-0-4 meta l4proto tcp th dport { 80, 443-500 } accept comment \"a/p\"",
        "ip saddr { 10.0.0.0-10.0.0.255, 10.0.2.0-10.255.255.255 } ip daddr . meta l4proto . th dport @ni-u-a-p-1-4 accept",
        "ip daddr { 10.96.0.10 } meta l4proto { udp, tcp } th dport 53 accept",
        "ip daddr { 169.254.169.254 } drop",
        "fib daddr type local meta l4proto tcp th dport 10250 drop",
        "jump torn",
        "meta l4proto { icmp, ipv6-icmp } ct state related ip saddr . ct original ip saddr != @self4 ip saddr . ct reply ip saddr != @self4 drop",
        "iifname != \"br\" ip saddr { 10.88.0.0/16 } drop",
    ] {
        assert!(has(text), "{text}\n{lines:#?}");
    }
    let named = &rules.inet.sets["ni-u-a-p-1-4"].elements;
    assert!(named.contains_key("10.88.0.3 . tcp . 8080"), "{named:?}");
}

#[test]
fn a_port_without_a_mark_sends_nothing_in_a_pods_name() {
    let bridge = made(&World::new()).bridge;
    let send = &bridge.chains["send"].rules;
    let accepts = send
        .iter()
        .position(|rule| rule == "iifname != @ports accept");
    let before = &send[..accepts.unwrap()];
    assert_eq!(
        before,
        [
            "iifname != @ports ether saddr @pod-macs drop",
            "iifname != @ports ether type ip ip saddr @pods4 drop",
            "iifname != @ports ether type arp arp saddr ip @pods4 drop",
        ]
    );
    let pods = &bridge.sets["pods4"].elements;
    assert!(pods.contains_key("10.88.0.2"), "{pods:?}");
    assert!(!bridge.sets["pod-macs"].elements.is_empty());
}

#[tokio::test]
async fn the_kernel_takes_each_and_every_way_from_one_to_another() {
    let name = format!("t{}", std::process::id());
    let tables = [
        Table::new("policytest", &name).unwrap(),
        Table::bridge("policytest", &name).unwrap(),
    ];
    let worlds = worlds();
    let all: Vec<[Ruleset; 2]> = worlds
        .iter()
        .map(|world| {
            let rules = made(world);
            [rules.inet, rules.bridge]
        })
        .collect();
    let anew = |rules: &[Ruleset; 2]| -> String {
        let both = rules.iter().zip(&tables);
        both.map(|(rules, table)| rules.anew(table)).collect()
    };
    apply(&anew(&all[0])).await.unwrap();
    let mut before = &all[0];
    for rules in all.iter().chain(all.iter().rev()) {
        let both = rules.iter().zip(before).zip(&tables);
        let script: String = both
            .map(|((rules, before), table)| rules.changes(before, table))
            .collect();
        let done = apply(&script).await;
        done.unwrap_or_else(|error| panic!("{error}\n{script}"));
        for (rules, table) in rules.iter().zip(&tables) {
            let standing = table.standing().await.unwrap().unwrap();
            assert!(rules.is_whole_in(&standing), "{rules:#?}\n{standing:#?}");
            // What is there is the same as if it had been written at once.
            let changed = sorted(&standing);
            let names: Names = table.names().await.unwrap().unwrap();
            apply(&rules.rebuild(&names, table)).await.unwrap();
            let standing = table.standing().await.unwrap().unwrap();
            assert_eq!(changed, sorted(&standing));
        }
        before = rules;
    }
    for table in &tables {
        table.remove().await.unwrap();
    }
}

/// The kernel lists chains and elements in orders of its own. The rules of a chain stay in theirs.
fn sorted(standing: &Standing) -> (Vec<String>, Vec<String>) {
    let (rules, mut others): (Vec<_>, Vec<_>) =
        standing.0.iter().partition(|one| one.get("rule").is_some());
    let mut rules: Vec<(String, String)> = rules
        .iter()
        .map(|rule| (rule["rule"]["chain"].to_string(), rule.to_string()))
        .collect();
    rules.sort_by(|a, b| a.0.cmp(&b.0));
    others.retain(|one| one.get("chain").is_some());
    let mut others: Vec<String> = others.iter().map(ToString::to_string).collect();
    others.sort();
    (rules.into_iter().map(|(_, rule)| rule).collect(), others)
}
