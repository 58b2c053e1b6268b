//! How far this node's handlers keep pods apart, and what the node says of it.

use std::collections::BTreeMap;

use berth_core::isolation::{Isolation, MINIMUM, Unclear, by_name, level};
use k8s_openapi::api::core::v1::Pod;

use crate::classes::Class;
use crate::runtime::Facts;

/// The annotation of the Node names at most so many handlers.
const MAX_HANDLERS: usize = 256;

impl Facts {
    /// What each handler is, the default one once more under the empty name; as the annotation of the Node.
    pub(crate) fn isolation_levels(&self) -> BTreeMap<String, Isolation> {
        let named = self.behind.iter();
        let known = named.filter_map(|(name, behind)| Some((name.clone(), behind.isolation?)));
        let mut levels: BTreeMap<String, Isolation> = known.take(MAX_HANDLERS).collect();
        if let Some(level) = levels.get(&self.default_handler).copied() {
            levels.insert(String::new(), level);
        }
        levels
    }

    /// What a handler is on this node; by what the runtime says, else by what the class declares, else by its name.
    fn isolation(&self, handler: &str, declared: Option<Isolation>) -> Option<Isolation> {
        let (name, behind) = self.describe(handler);
        // A name says nothing of what was looked at and not known.
        let named = || {
            let is_unknown = self.behind.contains_key(&name);
            by_name(&name).filter(|level| *level == Isolation::Process || !is_unknown)
        };
        behind.isolation.or(declared).or_else(named)
    }
}

/// Why a pod must not run here by this handler; `None` when it may.
pub(crate) fn shortfall(
    pod: &Pod,
    class: Option<&Class>,
    facts: &Facts,
    node: &str,
) -> Option<String> {
    let minimum = match level(&pod.metadata, MINIMUM) {
        Ok(None | Some(Isolation::Process)) => return None,
        Ok(Some(minimum)) => minimum,
        Err(unclear @ (Unclear::Value { .. } | Unclear::Label(_))) => {
            return Some(format!(
                "how far the pod must be kept apart is not known: {unclear}"
            ));
        }
    };
    let handler = class.map_or("", |class| class.handler.as_str());
    let declared = class.and_then(|class| class.declared);
    let (name, _) = facts.describe(handler);
    let found = facts.isolation(handler, declared);
    // What an administrator says of the class holds where it is less.
    let found = match (found, declared) {
        (Some(found), Some(declared)) => Some(found.min(declared)),
        (found, _) => found,
    };
    match found {
        Some(found) if found >= minimum => None,
        Some(found) => Some(format!(
            "runtime handler {name:?} of node {node:?} isolates by {found}, and the pod demands at least {minimum} (annotation {MINIMUM})"
        )),
        None => Some(format!(
            "nobody knows how runtime handler {name:?} of node {node:?} isolates, and the pod demands at least {minimum} (annotation {MINIMUM})"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Behind;
    use serde_json::json;

    fn facts() -> Facts {
        let behind = |name: &str, isolation| {
            let behind = Behind {
                isolation,
                ..Behind::default()
            };
            (name.to_owned(), behind)
        };
        Facts {
            behind: BTreeMap::from([
                behind("runc", Some(Isolation::Process)),
                behind("runsc", Some(Isolation::Sandbox)),
                // A name that promises more than there is.
                behind("kata", Some(Isolation::Process)),
                behind("odd", None),
            ]),
            default_handler: "runc".to_owned(),
            ..Facts::default()
        }
    }

    #[test]
    fn a_pod_is_refused_where_its_handler_is_weaker_than_it_demands() {
        let class = |handler: &str, declared| Class {
            handler: handler.to_owned(),
            declared,
        };
        let facts = facts();
        for (demand, class, refused) in [
            (json!(null), Some(class("runc", None)), None),
            (json!("process"), None, None),
            (json!("sandbox"), None, Some("handler \"runc\"")),
            (json!("sandbox"), Some(class("runsc", None)), None),
            (
                json!("vm"),
                Some(class("runsc", None)),
                Some("isolates by sandbox"),
            ),
            (
                json!("vm"),
                Some(class("kata", None)),
                Some("isolates by process"),
            ),
            // What is declared is not believed where the node knows better.
            (
                json!("vm"),
                Some(class("kata", Some(Isolation::Vm))),
                Some("isolates by process"),
            ),
            (json!("vm"), Some(class("odd", None)), Some("nobody knows")),
            (json!("vm"), Some(class("odd", Some(Isolation::Vm))), None),
            (
                json!("sandbox"),
                Some(class("runsc", Some(Isolation::Process))),
                Some("isolates by process"),
            ),
            (
                json!("quantum"),
                Some(class("runsc", None)),
                Some("is not known"),
            ),
        ] {
            let annotations = if demand.is_null() {
                json!({})
            } else {
                json!({MINIMUM: demand})
            };
            let pod =
                serde_json::from_value(json!({"metadata": {"annotations": annotations}})).unwrap();
            let got = shortfall(&pod, class.as_ref(), &facts, "n");
            match refused {
                None => assert_eq!(got, None, "{demand} {class:?}"),
                Some(part) => assert!(
                    got.as_deref().is_some_and(|got| got.contains(part)),
                    "{demand} {class:?} {got:?}"
                ),
            }
        }
    }

    #[test]
    fn the_default_handler_is_told_of_too() {
        let levels = facts().isolation_levels();
        assert_eq!(levels.get(""), Some(&Isolation::Process));
        assert_eq!(levels.get("runsc"), Some(&Isolation::Sandbox));
        assert_eq!(levels.get("odd"), None);
    }
}
