//! The policy of a namespace: its default class and the classes that it allows.

use std::collections::BTreeMap;

use super::Advice;
use crate::annotations::{ALLOWED_CLASSES, DEFAULT_CLASS};

/// At most this many classes of a policy are looked up.
const LIMIT: usize = 64;

/// What is wrong with a policy. `find` gives `Ok` for a class that is there, and else one whose name is like it.
#[must_use]
pub fn policy(
    annotations: &BTreeMap<String, String>,
    find: impl Fn(&str) -> Result<(), Option<String>>,
) -> Vec<Advice> {
    let default = annotations.get(DEFAULT_CLASS).map(|name| name.trim());
    let allowed: Option<Vec<&str>> = annotations
        .get(ALLOWED_CLASSES)
        .map(|list| list.split(',').map(str::trim).collect());
    let mut advice = Vec::new();
    let named = default.iter().map(|class| (DEFAULT_CLASS, *class));
    let listed = allowed
        .iter()
        .flatten()
        .map(|class| (ALLOWED_CLASSES, *class));
    for (key, class) in named.chain(listed).take(LIMIT) {
        if !class.is_empty()
            && let Err(meant) = find(class)
        {
            advice.push(Advice::PolicyClassMissing {
                key: key.to_owned(),
                class: class.to_owned(),
                meant,
            });
        }
    }
    if let (Some(default), Some(allowed)) = (default.filter(|name| !name.is_empty()), &allowed)
        && !allowed.contains(&default)
    {
        let shown = allowed.iter().take(LIMIT).map(|class| match *class {
            "" => "none".to_owned(),
            class => format!("{class:?}"),
        });
        advice.push(Advice::DefaultNotAllowed {
            class: default.to_owned(),
            allowed: shown.collect::<Vec<_>>().join(", "),
        });
    }
    advice
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(default: Option<&str>, allowed: Option<&str>) -> Vec<&'static str> {
        let mut annotations = BTreeMap::new();
        annotations.extend(default.map(|d| (DEFAULT_CLASS.to_owned(), d.to_owned())));
        annotations.extend(allowed.map(|a| (ALLOWED_CLASSES.to_owned(), a.to_owned())));
        let there = ["gvisor", "kata"];
        let found = policy(&annotations, |name| {
            if there.contains(&name) {
                Ok(())
            } else {
                Err(None)
            }
        });
        found.iter().map(Advice::rule).collect()
    }

    #[test]
    fn what_is_wrong_with_a_policy() {
        for (default, allowed, want) in [
            (None, None, vec![]),
            (Some("gvisor"), None, vec![]),
            (Some("gvisor"), Some("kata, gvisor,"), vec![]),
            (Some(""), Some("kata"), vec![]),
            (None, Some(""), vec![]),
            (Some("gvisor"), Some("kata"), vec!["default-not-allowed"]),
            (Some("gvisor"), Some(""), vec!["default-not-allowed"]),
            (Some("gvsor"), None, vec!["policy"]),
            (
                Some("nope"),
                Some("kata,other"),
                vec!["policy", "policy", "default-not-allowed"],
            ),
        ] {
            assert_eq!(told(default, allowed), want, "{default:?} {allowed:?}");
        }
        let many = vec!["nope"; 100_000].join(",");
        assert_eq!(told(None, Some(&many)).len(), LIMIT);
    }
}
