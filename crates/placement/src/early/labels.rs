//! Which labels of a node selector no node has.

use std::collections::{BTreeMap, BTreeSet};

use berth_core::nearest::{did_you_mean, nearest};

use super::Host;

/// At most this many labels of a selector are named.
const LIMIT: usize = 4;
/// The label that was meant is looked for among at most this many keys, none of them longer than this.
const MAX_KEYS: usize = 10_000;
const MAX_KEY: usize = 320;

/// The labels of a selector that no node has, one by one, with the name that was probably meant; empty when each of them is
/// on some node.
pub(super) fn selector_hint(
    selector: Option<&BTreeMap<String, String>>,
    hosts: &[&Host],
    at: &str,
) -> String {
    let has = |key: &str, value: &str| hosts.iter().any(|host| host.info.label(key) == Some(value));
    let missing = selector
        .into_iter()
        .flatten()
        .filter(|(key, value)| !has(key, value))
        .take(LIMIT)
        .map(|(key, value)| {
            let is_known = hosts.iter().any(|host| host.info.label(key).is_some());
            if is_known {
                return format!("no node has label {key}={value} ({at})");
            }
            let keys = hosts.iter().flat_map(|host| {
                let labels = host.info.node().metadata.labels.iter().flatten();
                labels.map(|(key, _)| key.as_str())
            });
            // Most nodes have the same.
            let keys: BTreeSet<&str> = keys
                .filter(|key| key.len() <= MAX_KEY)
                .take(MAX_KEYS)
                .collect();
            let meant = nearest(key, keys);
            format!(
                "no node has label {key}={value} ({at}){}",
                did_you_mean(meant)
            )
        });
    missing.collect::<Vec<_>>().join(", ")
}
