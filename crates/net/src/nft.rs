//! A table of our own in nftables, by Debian's `nft`: each change is one transaction, which the kernel takes whole or not
//! at all.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use thiserror::Error;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// Administrators' directories are not in everybody's PATH.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How long the kernel may take for a transaction.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest part of a message of nft that is passed on.
const MAX_MESSAGE: usize = 1000;

/// Why nftables could not be read or changed.
#[derive(Debug, Error)]
pub enum NftError {
    /// It is no part of a table's name.
    #[error("{name:?} cannot be a part of the name of an nftables table")]
    Name {
        /// What was given.
        name: String,
    },
    /// The program could not be started, or not be talked to.
    #[error("cannot run nft (Debian package nftables): {0}")]
    Run(#[source] io::Error),
    /// It did not end.
    #[error("nft did not end within {} s", PATIENCE.as_secs())]
    Slow,
    /// The kernel, or nft itself, refused.
    #[error("nft refused: {message}")]
    Refused {
        /// What it said.
        message: String,
    },
    /// What it listed is not understood.
    #[error("nft's list is not understood: {reason}")]
    Listing {
        /// What is wrong with it.
        reason: String,
    },
}

/// Which packets a table's chains see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// Those of IPv4 and IPv6.
    Inet,
    /// Frames that go through bridges.
    Bridge,
}

impl Family {
    const ALL: [Self; 2] = [Self::Inet, Self::Bridge];

    fn word(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Bridge => "bridge",
        }
    }
}

/// A table of the family inet, or bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    family: Family,
    name: String,
}

/// The names in a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Chains.
    pub chains: Vec<String>,
    /// Sets.
    pub sets: Vec<String>,
    /// Maps.
    pub maps: Vec<String>,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Table {
    /// `berth-PURPOSE-NETWORK`; the network is the name of its bridge.
    ///
    /// # Errors
    /// When one of them has letters that a name in a script of nft can't have.
    pub fn new(purpose: &str, network: &str) -> Result<Self, NftError> {
        Self::of(Family::Inet, purpose, network)
    }

    /// The same for what goes through bridges.
    ///
    /// # Errors
    /// As of [`Table::new`].
    pub fn bridge(purpose: &str, network: &str) -> Result<Self, NftError> {
        Self::of(Family::Bridge, purpose, network)
    }

    fn of(family: Family, purpose: &str, network: &str) -> Result<Self, NftError> {
        for part in [purpose, network] {
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if part.is_empty() || part.len() > 64 || !part.chars().all(fits) {
                let name = part.to_owned();
                return Err(NftError::Name { name });
            }
        }
        Ok(Self {
            family,
            name: format!("berth-{purpose}-{network}"),
        })
    }

    /// What names it in a script: its family and name.
    pub(crate) fn words(&self) -> String {
        format!("{} {}", self.family.word(), self.name)
    }

    /// Removes it; one that isn't there is no error.
    ///
    /// # Errors
    /// As of [`apply`].
    pub async fn remove(&self) -> Result<(), NftError> {
        apply(&self.clear()).await
    }

    /// The script that removes it, whether it is there or not.
    pub(crate) fn clear(&self) -> String {
        let words = self.words();
        format!("table {words} {{}}\ndelete table {words}\n")
    }

    /// What stands in it, without what packets themselves write (the elements of dynamic sets); nothing when there is no such
    /// table. Two are equal when nobody has changed anything in between.
    ///
    /// # Errors
    /// When nft can't be run, or its list isn't understood.
    pub async fn standing(&self) -> Result<Option<Standing>, NftError> {
        let words = [
            "--json",
            "--stateless",
            "list",
            "table",
            self.family.word(),
            &self.name,
        ];
        let Some(text) = present(run(&words, "").await)? else {
            return Ok(None);
        };
        standing(&text).map(Some)
    }

    /// The names of what is in it; nothing when there is no such table.
    ///
    /// # Errors
    /// When nft can't be run, or its list isn't understood.
    pub async fn names(&self) -> Result<Option<Names>, NftError> {
        let words = [
            "--json",
            "--terse",
            "list",
            "table",
            self.family.word(),
            &self.name,
        ];
        let Some(text) = present(run(&words, "").await)? else {
            return Ok(None);
        };
        names(&text).map(Some)
    }
}

/// Carries out a script in one transaction, whichever tables it changes.
///
/// # Errors
/// When nft can't be run or refuses; nothing is changed then.
pub async fn apply(script: &str) -> Result<(), NftError> {
    run(&["-f", "-"], script).await.map(|_| ())
}

/// Removes all tables of a network, whatever their purpose; gives their number.
///
/// # Errors
/// When nft can't be run or refuses.
pub async fn remove_network(network: &str) -> Result<usize, NftError> {
    let mut count = 0;
    for family in Family::ALL {
        let text = run(&["--json", "list", "tables", family.word()], "").await?;
        for name in tables(&text, network)? {
            Table { family, name }.remove().await?;
            count += 1;
        }
    }
    Ok(count)
}

/// The tables of a network in a list: `berth-PURPOSE-NETWORK`.
fn tables(json: &str, network: &str) -> Result<Vec<String>, NftError> {
    let mut found = Vec::new();
    for one in listed(json)? {
        let name = one["table"]["name"].as_str().unwrap_or_default();
        let purpose = name
            .strip_prefix("berth-")
            .and_then(|rest| rest.strip_suffix(network)?.strip_suffix('-'));
        if purpose.is_some_and(|purpose| !purpose.is_empty() && !purpose.contains('-')) {
            found.push(name.to_owned());
        }
    }
    Ok(found)
}

/// A table that isn't there is refused with these words.
fn present(listed: Result<String, NftError>) -> Result<Option<String>, NftError> {
    match listed {
        Err(NftError::Refused { message }) if message.contains("No such file or directory") => {
            Ok(None)
        }
        other => other.map(Some),
    }
}

/// What nft lists of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing(pub(crate) Vec<Value>);

impl Standing {
    /// How many rules each chain has.
    #[must_use]
    pub fn rules(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for one in &self.0 {
            if let Some(chain) = one["chain"]["name"].as_str() {
                counts.entry(chain).or_default();
            }
            if let Some(chain) = one["rule"]["chain"].as_str() {
                *counts.entry(chain).or_default() += 1;
            }
        }
        counts
    }

    /// How many elements each set and map has, but for dynamic ones.
    #[must_use]
    pub fn elements(&self) -> BTreeMap<&str, usize> {
        let of = |one: &Value| one["elem"].as_array().map_or(0, Vec::len);
        let sets = self.0.iter().flat_map(|one| [&one["set"], &one["map"]]);
        sets.filter_map(|one| Some((one["name"].as_str()?, of(one))))
            .collect()
    }
}

/// A list without dynamic sets, and without the numbers that the kernel gives its objects.
fn standing(json: &str) -> Result<Standing, NftError> {
    let mut all = listed(json)?;
    let is_dynamic = |one: &Value| {
        let flags = one["set"]["flags"].as_array();
        flags.is_some_and(|flags| flags.iter().any(|flag| flag == "dynamic"))
    };
    all.retain(|one| one.get("metainfo").is_none() && !is_dynamic(one));
    let objects = all.iter_mut().filter_map(Value::as_object_mut);
    for object in objects.flat_map(|object| object.values_mut()) {
        if let Some(object) = object.as_object_mut() {
            object.remove("handle");
        }
    }
    Ok(Standing(all))
}

fn listed(json: &str) -> Result<Vec<Value>, NftError> {
    let wrong = |reason: String| NftError::Listing { reason };
    let mut listed: Value = serde_json::from_str(json).map_err(|error| wrong(error.to_string()))?;
    match listed.get_mut("nftables").map(Value::take) {
        Some(Value::Array(all)) => Ok(all),
        Some(_) | None => Err(wrong("no \"nftables\" in it".to_owned())),
    }
}

fn names(json: &str) -> Result<Names, NftError> {
    let mut names = Names::default();
    for one in listed(json)? {
        for (kind, list) in [
            ("chain", &mut names.chains),
            ("set", &mut names.sets),
            ("map", &mut names.maps),
        ] {
            if let Some(name) = one[kind]["name"].as_str() {
                list.push(name.to_owned());
            }
        }
    }
    Ok(names)
}

/// Where nft is. By its path it can be started without a copy of this process's page tables, which takes longer than most of
/// what it has to do.
fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(std::env::split_paths(PATH));
    places
        .map(|dir| dir.join("nft"))
        .find(|path| path.is_absolute() && path.is_file())
        .unwrap_or_else(|| PathBuf::from("nft"))
}

/// Runs nft, gives what it printed.
async fn run(words: &[&str], input: &str) -> Result<String, NftError> {
    let mut command = Command::new(program());
    command
        .env("LC_ALL", "C")
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(NftError::Run)?;
    let stdin = child.stdin.take();
    let write = async move {
        match stdin {
            // One that ends before it has read everything says why.
            Some(mut stdin) => match stdin.write_all(input.as_bytes()).await {
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
                Ok(()) | Err(_) => Ok(()),
            },
            None => Ok(()),
        }
    };
    let both = async { tokio::join!(write, child.wait_with_output()) };
    let ended = tokio::time::timeout(PATIENCE, both).await;
    let (written, output) = ended.map_err(|_| NftError::Slow)?;
    let output = output.map_err(NftError::Run)?;
    written.map_err(NftError::Run)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let message: String = said.trim().chars().take(MAX_MESSAGE).collect();
    Err(NftError::Refused { message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_be_something_else_in_a_script_are_refused() {
        assert_eq!(
            Table::new("services", "berth0").unwrap().to_string(),
            "berth-services-berth0"
        );
        for name in ["", "a b", "a;b", "a{", "ä", "a\nflush ruleset"] {
            let error = Table::new("services", name).unwrap_err();
            assert!(matches!(error, NftError::Name { .. }), "{name:?}: {error}");
        }
    }

    #[test]
    fn what_packets_write_is_no_change() {
        let listed = |handle: u32, written: &str, address: &str| {
            format!(
                r#"{{"nftables": [{{"metainfo": {{"version": "1.0.6"}}}}, {{"chain": {{"name": "c", "handle": {handle}}}}},
                {{"rule": {{"chain": "c", "handle": 7, "expr": []}}}}, {{"chain": {{"name": "empty"}}}},
                {{"set": {{"name": "s", "flags": ["timeout", "dynamic"], "elem": [{written}]}}}},
                {{"map": {{"name": "m", "elem": ["{address}"]}}}}, {{"set": {{"name": "none"}}}}]}}"#
            )
        };
        let read = |text: String| standing(&text).unwrap();
        let before = read(listed(1, "", "10.0.0.1"));
        assert_eq!(before, read(listed(2, "\"10.0.0.9\"", "10.0.0.1")));
        assert_ne!(before, read(listed(1, "", "10.0.0.2")));
        assert_eq!(before.rules(), [("c", 1), ("empty", 0)].into());
        assert_eq!(before.elements(), [("m", 1), ("none", 0)].into());
    }

    #[test]
    fn the_names_of_a_list() {
        let json = r#"{"nftables": [{"metainfo": {"version": "1.0.6"}}, {"table": {"family": "inet", "name": "t"}},
            {"map": {"name": "m"}}, {"set": {"name": "s"}}, {"chain": {"name": "c"}}, {"rule": {"chain": "c"}}]}"#;
        let found = names(json).unwrap();
        assert_eq!(found.chains, ["c"]);
        assert_eq!(found.sets, ["s"]);
        assert_eq!(found.maps, ["m"]);
        let json = r#"{"nftables": [{"table": {"name": "berth-services-berth0"}}, {"table": {"name": "berth-policy-berth0"}},
            {"table": {"name": "berth-services-berth01"}}, {"table": {"name": "berth-services-x-berth0"}}, {"table": {"name": "berth0"}}]}"#;
        let found = tables(json, "berth0").unwrap();
        assert_eq!(found, ["berth-services-berth0", "berth-policy-berth0"]);
        for text in ["", "{}", "[]", r#"{"nftables": 1}"#] {
            let error = names(text).unwrap_err();
            assert!(matches!(error, NftError::Listing { .. }), "{text}");
        }
    }
}
