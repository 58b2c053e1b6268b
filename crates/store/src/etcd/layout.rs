//! Which keys of the etcd are ours.
//!
//! The store's keys begin with `/registry/`; in etcd they begin with the prefix instead. After all of them come three
//! keys of our own: `~berth/format` says that the prefix is ours, in which form, and what is added to etcd's revisions;
//! `~berth/head` is written in every transaction, so that its revision is that of the last one, whoever else uses the
//! etcd, and its version counts them; `~berth/compaction` is written by the server that compacts.

use serde::{Deserialize, Serialize};

/// What the store's keys begin with.
pub(super) const REGISTRY: &str = "/registry/";
/// The version of the layout.
const SCHEMA: i64 = 1;
/// Sorts after every key of an object.
const OWN: &str = "~berth/";

/// The keys below a prefix.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// Without a slash at the end.
    root: String,
}

/// What `~berth/format` holds.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(super) struct Format {
    /// Version of the layout.
    pub(super) schema: i64,
    /// What is added to etcd's revisions, so that they go on from those of the store before.
    #[serde(rename = "revisionOffset")]
    pub(super) revision_offset: i64,
}

impl Format {
    pub(super) fn new(revision_offset: i64) -> Self {
        Self {
            schema: SCHEMA,
            revision_offset,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads it; the error is the version when it is a newer one.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Option<i64>> {
        #[derive(Deserialize)]
        struct Version {
            schema: i64,
        }
        let version: Version = serde_json::from_slice(bytes).map_err(|_| None)?;
        if version.schema > SCHEMA {
            return Err(Some(version.schema));
        }
        serde_json::from_slice(bytes).map_err(|_| None)
    }

    pub(super) fn known() -> i64 {
        SCHEMA
    }
}

impl Layout {
    pub(super) fn new(root: String) -> Self {
        Self { root }
    }

    /// A key as etcd has it.
    pub(super) fn full(&self, key: &str) -> String {
        match key.strip_prefix(REGISTRY) {
            Some(rest) => format!("{}/{rest}", self.root),
            // No key of the store is like that; below our own it is nobody else's.
            None => format!("{}/{OWN}other{key}", self.root),
        }
    }

    /// A key as the store has it; none for our own.
    pub(super) fn key(&self, full: &[u8]) -> Option<String> {
        let rest = std::str::from_utf8(full)
            .ok()?
            .strip_prefix(&self.root)?
            .strip_prefix('/')?;
        (!rest.starts_with(OWN)).then(|| format!("{REGISTRY}{rest}"))
    }

    /// Everything below the prefix, our own keys too.
    pub(super) fn all(&self) -> String {
        format!("{}/", self.root)
    }

    /// The end of a prefix of the store's keys; our own keys are left out.
    pub(super) fn end_of(&self, prefix: &str) -> Vec<u8> {
        if prefix == REGISTRY {
            return format!("{}/{OWN}", self.root).into_bytes();
        }
        end_of(self.full(prefix).as_bytes())
    }

    pub(super) fn format(&self) -> String {
        format!("{}/{OWN}format", self.root)
    }

    pub(super) fn head(&self) -> String {
        format!("{}/{OWN}head", self.root)
    }

    pub(super) fn compaction(&self) -> String {
        format!("{}/{OWN}compaction", self.root)
    }
}

/// The first key after all that have a prefix.
pub(super) fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if *last < 0xff {
            *last += 1;
            return end;
        }
        end.pop();
    }
    vec![0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_takes_the_place_of_registry() {
        let layout = Layout::new("/cluster-a".to_owned());
        let full = layout.full("/registry/core/pods/n/p");
        assert_eq!(full, "/cluster-a/core/pods/n/p");
        assert_eq!(
            layout.key(full.as_bytes()).as_deref(),
            Some("/registry/core/pods/n/p")
        );
        for own in [layout.format(), layout.head(), layout.compaction()] {
            assert_eq!(layout.key(own.as_bytes()), None);
            assert!(own.as_bytes() >= layout.end_of(REGISTRY).as_slice());
        }
        assert_eq!(layout.key(b"/cluster-ab/x"), None);
        assert!(layout.end_of(REGISTRY).as_slice() > b"/cluster-a/zz/z".as_slice());
        let whole = Layout::new(String::new());
        assert_eq!(whole.full("/registry/core/pods/n/p"), "/core/pods/n/p");
    }

    #[test]
    fn a_newer_format_is_told_from_a_damaged_one() {
        assert_eq!(Format::decode(&Format::new(7).encode()), Ok(Format::new(7)));
        assert_eq!(Format::decode(br#"{"schema": 2, "new": 1}"#), Err(Some(2)));
        assert_eq!(Format::decode(br#"{"schema": 1}"#), Err(None));
        assert_eq!(Format::decode(b"k8s\0"), Err(None));
    }
}
