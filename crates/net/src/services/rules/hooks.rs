//! The chains in which everything begins.

use std::collections::BTreeMap;

use super::{Building, MARK, Plan, family, ip_word};
use crate::ruleset::Chain;

impl Building<'_> {
    /// The chains in which everything begins.
    pub(super) fn finish(mut self) -> Plan {
        let anybody = self.facts.pod_cidrs.is_empty();
        let mut bases: BTreeMap<&str, (&'static str, Vec<String>)> = BTreeMap::from([
            (
                "nat-prerouting",
                (
                    "type nat hook prerouting priority -95; policy accept;",
                    vec![],
                ),
            ),
            (
                "nat-output",
                ("type nat hook output priority -95; policy accept;", vec![]),
            ),
            (
                "nat-postrouting",
                (
                    "type nat hook postrouting priority 95; policy accept;",
                    vec![format!(
                        "meta mark & {MARK} == {MARK} meta mark set meta mark ^ {MARK} masquerade fully-random"
                    )],
                ),
            ),
            (
                "filter-input",
                (
                    "type filter hook input priority -110; policy accept;",
                    vec![],
                ),
            ),
            (
                "filter-forward",
                (
                    "type filter hook forward priority -110; policy accept;",
                    vec![],
                ),
            ),
            // After nat: what is led elsewhere has another address by then.
            (
                "filter-output",
                (
                    "type filter hook output priority -90; policy accept;",
                    vec![],
                ),
            ),
        ]);
        let mut add = |chain: &str, rule: String| {
            if let Some((_, rules)) = bases.get_mut(chain) {
                rules.push(rule);
            }
        };
        for is_v4 in [true, false] {
            let (ip, n) = (ip_word(is_v4), family(is_v4));
            let by = format!("{ip} daddr . meta l4proto . th dport vmap");
            // In nat, where what a host port has led elsewhere never comes: that one was there first.
            add("nat-prerouting", format!("{by} @firewall{n}"));
            for chain in ["nat-prerouting", "nat-output"] {
                add(chain, format!("{by} @external{n}"));
            }
            match self.pods(is_v4) {
                Some(pods) => add(
                    "nat-prerouting",
                    format!("{ip} saddr {pods} {by} @cluster{n}"),
                ),
                None if anybody => add("nat-prerouting", format!("{by} @cluster{n}")),
                None => {}
            }
            add("nat-output", format!("{by} @cluster{n}"));
            add(
                "nat-postrouting",
                format!(
                    "ct status dnat {ip} saddr . {ip} daddr @hairpin{n} masquerade fully-random"
                ),
            );
            if let Some(pods) = self.pods(is_v4).filter(|_| !self.facts.bridge_passes_rules) {
                add(
                    "nat-postrouting",
                    format!(
                        "ct status dnat {ip} saddr {pods} {ip} daddr {pods} masquerade fully-random"
                    ),
                );
            }
            for chain in ["filter-input", "filter-forward", "filter-output"] {
                add(chain, format!("ct state new {by} @refused{n}"));
            }
            for chain in ["filter-forward", "filter-output"] {
                add(
                    chain,
                    format!("ct state new {ip} daddr @cluster-ips{n} goto refuse"),
                );
            }
        }
        for (name, (hook, rules)) in bases {
            let chain = Chain {
                hook: Some(hook),
                rules,
            };
            self.plan.ruleset.chains.insert(name.to_owned(), chain);
        }
        let refuse = ["meta l4proto tcp reject with tcp reset", "reject"];
        self.chain("refuse", refuse.map(str::to_owned));
        self.plan
    }
}
