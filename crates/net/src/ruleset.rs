//! What a table is to hold, and the script that leads from what it held to that.
//!
//! Whoever fills a [`Ruleset`] makes its texts of numbers and parsed addresses only, never of names that users chose,
//! but for comments ([`comment`]).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ipnet::IpNet;

use crate::nft::{Names, Standing, Table};

/// Longest comment that the kernel takes, with room for the quotes.
const MAX_COMMENT: usize = 120;

/// Chains, sets and maps by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ruleset {
    /// Chains.
    pub(crate) chains: BTreeMap<String, Chain>,
    /// Sets and maps.
    pub(crate) sets: BTreeMap<String, Set>,
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    /// Where it begins, as `type nat hook prerouting priority -95; policy accept;`; nothing for one that others lead to.
    pub(crate) hook: Option<&'static str>,
    /// Its rules in order.
    pub(crate) rules: Vec<String>,
}

/// A set, or a map.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Set {
    /// Its type and flags: `type ipv4_addr . ipv4_addr;`. It must not change for a name.
    pub(crate) spec: String,
    /// Whether packets write its elements: then they are left alone.
    pub(crate) dynamic: bool,
    /// Whether it is a map.
    pub(crate) is_map: bool,
    /// Elements, with what they are led to in a map.
    pub(crate) elements: BTreeMap<String, String>,
}

impl Set {
    fn word(&self) -> &'static str {
        if self.is_map { "map" } else { "set" }
    }
}

/// A rule's comment, made of a text that may hold anything.
#[must_use]
pub(crate) fn comment(text: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':');
    let text: String = text
        .chars()
        .filter(|c| fits(*c))
        .take(MAX_COMMENT)
        .collect();
    format!("comment \"{text}\"")
}

/// The networks of one family as a set, where there are any.
pub(crate) fn set_of(networks: &[IpNet], is_v4: bool) -> Option<String> {
    let same = networks.iter().filter(|one| one.addr().is_ipv4() == is_v4);
    let list: Vec<String> = IpNet::aggregate(&same.copied().collect())
        .iter()
        .map(ToString::to_string)
        .collect();
    (!list.is_empty()).then(|| format!("{{ {} }}", list.join(", ")))
}

impl Ruleset {
    /// The script from a table that holds `before`, exactly, to this one; empty when they are the same.
    #[must_use]
    pub(crate) fn changes(&self, before: &Self, table: &Table) -> String {
        let mut script = Script::new(table);
        for (name, set) in &self.sets {
            if !before.sets.contains_key(name) {
                script.add_set(name, set);
            }
        }
        for (name, chain) in &self.chains {
            match before.chains.get(name) {
                None => script.add_chain(name, chain),
                Some(old) if old.rules != chain.rules => script.flush("chain", name),
                Some(_) => {}
            }
        }
        let gone = before.chains.keys();
        let gone: Vec<&String> = gone.filter(|n| !self.chains.contains_key(*n)).collect();
        gone.iter().for_each(|name| script.flush("chain", name));
        let nothing = BTreeMap::new();
        for (name, old) in &before.sets {
            let new = self.sets.get(name);
            let elements = new.map_or(&nothing, |set| &set.elements);
            script.elements("delete", name, &old.elements, elements);
        }
        for (name, chain) in &self.chains {
            if before.chains.get(name).map(|old| &old.rules) != Some(&chain.rules) {
                script.rules(name, chain);
            }
        }
        for (name, set) in &self.sets {
            let old = before.sets.get(name).map_or(&nothing, |old| &old.elements);
            script.elements("add", name, &set.elements, old);
        }
        gone.iter().for_each(|name| script.delete("chain", name));
        for (name, old) in &before.sets {
            if !self.sets.contains_key(name) {
                script.delete(old.word(), name);
            }
        }
        script.text
    }

    /// The script from a table of which only the names are known. What packets have written into dynamic sets of the same
    /// name stays.
    #[must_use]
    pub(crate) fn rebuild(&self, before: &Names, table: &Table) -> String {
        let mut script = Script::new(table);
        writeln_to(&mut script.text, format_args!("add table {}", script.table));
        before.chains.iter().for_each(|n| script.flush("chain", n));
        for (word, names) in [("set", &before.sets), ("map", &before.maps)] {
            for name in names {
                if self.sets.get(name).is_none_or(|set| !set.dynamic) {
                    script.flush(word, name);
                }
            }
        }
        for (name, set) in &self.sets {
            script.add_set(name, set);
        }
        for (name, chain) in &self.chains {
            script.add_chain(name, chain);
        }
        for (name, chain) in &self.chains {
            script.rules(name, chain);
        }
        let nothing = BTreeMap::new();
        for (name, set) in &self.sets {
            script.elements("add", name, &set.elements, &nothing);
        }
        for name in &before.chains {
            if !self.chains.contains_key(name) {
                script.delete("chain", name);
            }
        }
        for (word, names) in [("set", &before.sets), ("map", &before.maps)] {
            for name in names {
                if !self.sets.contains_key(name) {
                    script.delete(word, name);
                }
            }
        }
        script.text
    }

    /// Whether a table has as many rules in each chain and elements in each set as this one: somebody who empties it right after it
    /// was written is found out by that.
    #[must_use]
    pub(crate) fn is_whole_in(&self, standing: &Standing) -> bool {
        let rules = self.chains.iter();
        let rules = rules.map(|(name, chain)| (name.as_str(), chain.rules.len()));
        let sets = self.sets.iter().filter(|(_, set)| !set.dynamic);
        let elements = sets.map(|(name, set)| (name.as_str(), set.elements.len()));
        standing.rules() == rules.collect() && standing.elements() == elements.collect()
    }

    /// The script that makes the table anew, whatever is in it.
    #[must_use]
    pub(crate) fn anew(&self, table: &Table) -> String {
        table.clear() + &self.rebuild(&Names::default(), table)
    }
}

struct Script {
    /// Family and name.
    table: String,
    text: String,
}

impl Script {
    fn new(table: &Table) -> Self {
        Self {
            table: table.words(),
            text: String::new(),
        }
    }

    fn flush(&mut self, word: &str, name: &str) {
        let table = &self.table;
        writeln_to(&mut self.text, format_args!("flush {word} {table} {name}"));
    }

    fn delete(&mut self, word: &str, name: &str) {
        let table = &self.table;
        writeln_to(&mut self.text, format_args!("delete {word} {table} {name}"));
    }

    fn add_set(&mut self, name: &str, set: &Set) {
        let (table, word, spec) = (&self.table, set.word(), &set.spec);
        writeln_to(
            &mut self.text,
            format_args!("add {word} {table} {name} {{ {spec} }}"),
        );
    }

    fn add_chain(&mut self, name: &str, chain: &Chain) {
        let table = &self.table;
        let hook = chain.hook.unwrap_or_default();
        writeln_to(
            &mut self.text,
            format_args!("add chain {table} {name} {{ {hook} }}"),
        );
    }

    fn rules(&mut self, name: &str, chain: &Chain) {
        let table = &self.table;
        for rule in &chain.rules {
            writeln_to(
                &mut self.text,
                format_args!("add rule {table} {name} {rule}"),
            );
        }
    }

    /// Those of `these` that `others` doesn't have the same way.
    fn elements(
        &mut self,
        verb: &str,
        name: &str,
        these: &BTreeMap<String, String>,
        others: &BTreeMap<String, String>,
    ) {
        let changed = these
            .iter()
            .filter(|(key, to)| others.get(*key) != Some(to));
        let texts: Vec<String> = changed
            .map(|(key, to)| match to.as_str() {
                "" => key.clone(),
                to => format!("{key} : {to}"),
            })
            .collect();
        let table = &self.table;
        // One command with some thousand elements is slow to parse in old versions.
        for some in texts.chunks(500) {
            let list = some.join(", ");
            writeln_to(
                &mut self.text,
                format_args!("{verb} element {table} {name} {{ {list} }}"),
            );
        }
    }
}

fn writeln_to(text: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to a String never fails.
    let _ok = text.write_fmt(line);
    text.push('\n');
}

#[cfg(test)]
mod tests;
