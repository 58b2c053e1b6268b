//! What is to be done, as a function of what there is.

use std::collections::BTreeSet;
use std::sync::Arc;

use berth_core::isolation::NodeHandlers;
use berth_core::managed_class::{Published, UNUSABLE_SINCE, is_known, is_managed, make, published};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::ResourceExt as _;

use super::Config;
use crate::node_health::is_ready;

/// A step.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    /// Make this class.
    Make(Box<RuntimeClass>),
    /// Note that no node can run it.
    Mark(Arc<RuntimeClass>),
    /// Take that back.
    Unmark(Arc<RuntimeClass>),
    /// Remove it, unless something names it.
    Remove(Arc<RuntimeClass>),
}

/// The steps towards what should be there.
pub(super) fn plan(
    nodes: &[Arc<Node>],
    classes: &[Arc<RuntimeClass>],
    config: &Config,
    now: Timestamp,
) -> Vec<Action> {
    let gets_class =
        |handler: &str| is_known(handler) || config.more_handlers.iter().any(|h| h == handler);
    let told: Vec<(bool, NodeHandlers)> = nodes
        .iter()
        .map(|node| (works(node), NodeHandlers::of(node)))
        .collect();
    let working: BTreeSet<&str> = told
        .iter()
        .filter(|(works, _)| *works)
        .flat_map(|(_, handlers)| &handlers.usable)
        .map(String::as_str)
        .filter(|handler| gets_class(handler))
        .collect();
    let named = |name: &str| classes.iter().any(|class| class.name_any() == name);
    let make = working
        .iter()
        .filter(|handler| !named(handler))
        .map(|handler| {
            let overhead = published(handler).map(Published::overhead);
            Action::Make(Box::new(make(handler, overhead)))
        });
    let mut actions: Vec<Action> = make.collect();
    for class in classes.iter().filter(|class| is_managed(class)) {
        let is_there = told
            .iter()
            .any(|(_, handlers)| handlers.has(&class.handler));
        let since = class.annotations().get(UNUSABLE_SINCE);
        let action = match (is_there, since) {
            (true, None) => continue,
            (true, Some(_)) => Action::Unmark,
            (false, None) => Action::Mark,
            (false, Some(since)) => match since.parse::<Timestamp>() {
                Ok(since) if since <= now => {
                    let grace = jiff::SignedDuration::try_from(config.grace);
                    let is_over = grace.is_ok_and(|grace| now.duration_since(since) >= grace);
                    if !is_over {
                        continue;
                    }
                    Action::Remove
                }
                // What is no time, or is yet to come, says nothing.
                Ok(_) | Err(_) => Action::Mark,
            },
        };
        actions.push(action(Arc::clone(class)));
    }
    actions
}

/// Whether handlers of the node count as working: it is ready, and stays.
fn works(node: &Node) -> bool {
    node.metadata.deletion_timestamp.is_none() && is_ready(node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Duration;

    fn node(name: &str, ready: &str, handlers: &[&str]) -> Arc<Node> {
        let handlers: Vec<_> = handlers.iter().map(|h| json!({"name": h})).collect();
        let body = json!({"metadata": {"name": name}, "status": {
            "conditions": [{"type": "Ready", "status": ready}], "runtimeHandlers": handlers}});
        Arc::new(serde_json::from_value(body).unwrap())
    }

    fn now() -> Timestamp {
        "2026-06-01T12:00:00Z".parse().unwrap()
    }

    fn planned(nodes: &[Arc<Node>], classes: &[RuntimeClass]) -> Vec<String> {
        let classes: Vec<_> = classes.iter().cloned().map(Arc::new).collect();
        let config = Config {
            more_handlers: vec!["mine".to_owned()],
            grace: Duration::from_secs(600),
            ..Config::default()
        };
        let actions = plan(nodes, &classes, &config, now());
        let shown = actions.iter().map(|action| match action {
            Action::Make(class) => format!("make {}", class.name_any()),
            Action::Mark(class) => format!("mark {}", class.name_any()),
            Action::Unmark(class) => format!("unmark {}", class.name_any()),
            Action::Remove(class) => format!("remove {}", class.name_any()),
        });
        shown.collect()
    }

    fn marked(name: &str, since: &str) -> RuntimeClass {
        let mut class = make(name, None);
        let annotations = class.metadata.annotations.as_mut().unwrap();
        annotations.insert(UNUSABLE_SINCE.to_owned(), since.to_owned());
        class
    }

    #[test]
    fn a_handler_that_works_gets_a_class() {
        let nodes = [
            node("a", "True", &["", "runc", "kata-qemu", "mine"]),
            node("b", "True", &["", "runc", "crun"]),
            // Nothing is known of it to work.
            node("c", "False", &["", "youki"]),
        ];
        let want = ["make crun", "make kata-qemu", "make mine", "make runc"];
        assert_eq!(planned(&nodes, &[]), want);
        let there = [make("runc", None), make("mine", None)];
        assert_eq!(planned(&nodes, &there), ["make crun", "make kata-qemu"]);
        // A user's own class of the name is left alone, whatever its handler.
        let mut own = make("crun", None);
        own.handler = "other".to_owned();
        own.metadata.annotations = None;
        assert_eq!(
            planned(&nodes, &[there[0].clone(), there[1].clone(), own]),
            ["make kata-qemu"]
        );
    }

    #[test]
    fn no_node_chooses_a_name() {
        let names = [
            "gvisor",
            "production",
            "secure",
            "kata-evil",
            "KATA",
            "../x",
            "runc ",
            "default",
        ];
        assert_eq!(planned(&[node("evil", "True", &names)], &[]), [""; 0]);
        let thousands: Vec<String> = (0..10_000).map(|i| format!("kata-{i}")).collect();
        let thousands: Vec<&str> = thousands.iter().map(String::as_str).collect();
        assert_eq!(planned(&[node("evil", "True", &thousands)], &[]), [""; 0]);
    }

    #[test]
    fn the_overhead_is_the_published_one() {
        let actions = plan(
            &[node("a", "True", &["kata-qemu"])],
            &[],
            &Config::default(),
            now(),
        );
        let [Action::Make(class)] = actions.as_slice() else {
            panic!("{actions:?}")
        };
        let fixed = class.overhead.as_ref().unwrap().pod_fixed.as_ref().unwrap();
        assert_eq!(
            (fixed["memory"].0.as_str(), fixed["cpu"].0.as_str()),
            ("160Mi", "250m")
        );
        assert!(is_managed(class));
    }

    #[test]
    fn a_class_that_nobody_can_run_is_marked_then_removed() {
        let without = [node("a", "True", &["", "runc"])];
        let with = [node("a", "False", &["", "crun"])];
        let class = |since: &str| [make("runc", None), marked("crun", since)];
        assert_eq!(
            planned(&without, &[make("runc", None), make("crun", None)]),
            ["mark crun"]
        );
        assert_eq!(planned(&without, &class("2026-06-01T11:50:01Z")), [""; 0]);
        assert_eq!(
            planned(&without, &class("2026-06-01T11:50:00Z")),
            ["remove crun"]
        );
        // A node that is not ready may be again.
        assert_eq!(
            planned(&with, &class("2026-06-01T11:00:00Z")),
            ["mark runc", "unmark crun"]
        );
        for nonsense in ["yesterday", "2999-01-01T00:00:00Z"] {
            assert_eq!(
                planned(&without, &class(nonsense)),
                ["mark crun"],
                "{nonsense}"
            );
        }
        // An old kubelet tells of no handlers, and is taken to have all.
        assert_eq!(
            planned(&[node("old", "True", &[])], &[make("crun", None)]),
            [""; 0]
        );
    }

    #[test]
    fn what_a_user_has_changed_is_never_touched() {
        let without = [node("a", "True", &["", "runc"])];
        let changes: [fn(&mut RuntimeClass); 4] = [
            |class| {
                class.overhead = Some(
                    Published {
                        mebibytes: 1,
                        milli_cores: 1,
                    }
                    .overhead(),
                )
            },
            |class| {
                class
                    .metadata
                    .labels
                    .as_mut()
                    .unwrap()
                    .insert("team".into(), "a".into())
                    .map_or((), drop)
            },
            |class| class.metadata.labels = None,
            |class| {
                let annotations = class.metadata.annotations.as_mut().unwrap();
                annotations.insert(
                    "kubectl.kubernetes.io/last-applied-configuration".into(),
                    "{}".into(),
                );
            },
        ];
        for change in changes {
            let mut class = marked("crun", "2026-06-01T00:00:00Z");
            change(&mut class);
            assert_eq!(planned(&without, &[make("runc", None), class]), [""; 0]);
        }
    }
}
