//! The RuntimeClasses that go with handlers.
//!
//! A class of ours is one that is as we have made it: with our label, and an annotation that says what it was made of. One that
//! somebody has made or changed is theirs.

use std::collections::{BTreeMap, BTreeSet};

use berth_core::managed_class::{Published, published};
use k8s_openapi::api::node::v1::{Overhead, RuntimeClass, Scheduling};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use crate::report::label;
use crate::wanted::Handler;

/// The label of classes and pods of ours, and its value.
pub const OWNER: (&str, &str) = ("app.kubernetes.io/managed-by", "berth-installer");
/// The annotation of a class: what it was made of.
const MADE: &str = "installer.berth.dev/made-of";

/// The name of the class with which a handler is proved: without a node selector, since the label comes after it.
#[must_use]
pub fn verifying_name(handler: &str) -> String {
    format!("berth-verify-{handler}")
}

/// The class for users.
fn users_class(handler: &Handler) -> Option<RuntimeClass> {
    let overhead = match &handler.overhead {
        Some(amounts) if amounts.is_empty() => None,
        Some(amounts) => Some(Overhead {
            pod_fixed: Some(amounts.clone()),
        }),
        None => published(&handler.name).map(Published::overhead),
    };
    let scheduling = Scheduling {
        node_selector: Some([(label(&handler.name), "true".to_owned())].into()),
        tolerations: None,
    };
    Some(made(
        handler.class_name()?,
        &handler.name,
        overhead,
        Some(scheduling),
    ))
}

fn made(
    name: &str,
    handler: &str,
    overhead: Option<Overhead>,
    scheduling: Option<Scheduling>,
) -> RuntimeClass {
    let mut class = RuntimeClass {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some([(OWNER.0.to_owned(), OWNER.1.to_owned())].into()),
            ..ObjectMeta::default()
        },
        handler: handler.to_owned(),
        overhead,
        scheduling,
    };
    let annotations = [(MADE.to_owned(), spec(&class))];
    class.metadata.annotations = Some(annotations.into());
    class
}

fn spec(class: &RuntimeClass) -> String {
    json!([
        class.metadata.name,
        class.handler,
        class.overhead,
        class.scheduling
    ])
    .to_string()
}

/// Whether a class is as we have made it.
#[must_use]
pub fn is_ours(class: &RuntimeClass) -> bool {
    let labels = class.metadata.labels.as_ref();
    let owner = labels.and_then(|labels| labels.get(OWNER.0));
    let annotations = class.metadata.annotations.as_ref();
    let made = annotations.and_then(|annotations| annotations.get(MADE));
    owner.map(String::as_str) == Some(OWNER.1) && made == Some(&spec(class))
}

/// A step.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Make this class.
    Make(Box<RuntimeClass>),
    /// Write another overhead or node selector into this class.
    Change(Box<RuntimeClass>),
    /// Remove it, unless a pod uses it.
    Remove(Box<RuntimeClass>),
}

/// What there is to know of the cluster.
#[derive(Debug)]
pub struct Cluster<'a> {
    /// The list.
    pub wanted: &'a [Handler],
    /// Handlers that a node advertises.
    pub advertised: BTreeSet<String>,
    /// The classes.
    pub classes: &'a [RuntimeClass],
}

/// The steps towards what should be there, and what keeps others from being done.
#[must_use]
pub fn steps(cluster: &Cluster<'_>) -> (Vec<Step>, Vec<String>) {
    let mut wanted = BTreeMap::new();
    for handler in cluster.wanted {
        let verifying = verifying_name(&handler.name);
        wanted.insert(
            verifying.clone(),
            made(&verifying, &handler.name, None, None),
        );
        if let Some(class) = users_class(handler) {
            wanted.insert(class.metadata.name.clone().unwrap_or_default(), class);
        }
    }
    let (mut steps, mut problems) = (Vec::new(), Vec::new());
    for (name, class) in &wanted {
        let is_verifying = class.scheduling.is_none();
        let found = cluster
            .classes
            .iter()
            .find(|found| found.metadata.name.as_ref() == Some(name));
        match found {
            // Nobody is shown a class that no node can run.
            None if is_verifying || cluster.advertised.contains(&class.handler) => {
                steps.push(Step::Make(Box::new(class.clone())))
            }
            None => {}
            Some(found) if !is_ours(found) => {
                problems.push(format!(
                    "RuntimeClass {name:?} is not the installer's, and is left alone"
                ));
            }
            Some(found) if found.handler != class.handler => {
                // A handler can't be changed: another class takes its place when nothing uses it.
                steps.push(Step::Remove(Box::new(found.clone())));
            }
            Some(found) if spec(found) != spec(class) => {
                let mut changed = class.clone();
                changed
                    .metadata
                    .resource_version
                    .clone_from(&found.metadata.resource_version);
                changed.metadata.uid.clone_from(&found.metadata.uid);
                steps.push(Step::Change(Box::new(changed)));
            }
            Some(_) => {}
        }
    }
    for class in cluster.classes.iter().filter(|class| is_ours(class)) {
        let is_wanted = class
            .metadata
            .name
            .as_ref()
            .is_some_and(|name| wanted.contains_key(name));
        // Labels go first: else a pod could be sent to a node by a class that is gone when its sandbox is made.
        if !is_wanted && !cluster.advertised.contains(&class.handler) {
            steps.push(Step::Remove(Box::new(class.clone())));
        }
    }
    (steps, problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handlers(text: &str) -> Vec<Handler> {
        crate::wanted::parse(text).unwrap()
    }

    fn planned(wanted: &[Handler], advertised: &[&str], classes: &[RuntimeClass]) -> Vec<String> {
        let advertised = advertised.iter().map(|name| (*name).to_owned()).collect();
        let (steps, problems) = steps(&Cluster {
            wanted,
            advertised,
            classes,
        });
        let name = |class: &RuntimeClass| class.metadata.name.clone().unwrap();
        let steps = steps.iter().map(|step| match step {
            Step::Make(class) => format!("make {}", name(class)),
            Step::Change(class) => format!("change {}", name(class)),
            Step::Remove(class) => format!("remove {}", name(class)),
        });
        steps.chain(problems).collect()
    }

    const KATA: &str = "- {name: kata-qemu, kind: shim, binary: /k, class: kata}";

    fn all(text: &str, advertised: &str) -> Vec<RuntimeClass> {
        let wanted = handlers(text);
        let (steps, _) = steps(&Cluster {
            wanted: &wanted,
            advertised: [advertised.to_owned()].into(),
            classes: &[],
        });
        let made = |step: Step| match step {
            Step::Make(class) | Step::Change(class) | Step::Remove(class) => *class,
        };
        steps.into_iter().map(made).collect()
    }

    #[test]
    fn a_class_comes_with_the_first_node_and_goes_with_the_last() {
        let wanted = handlers(KATA);
        assert_eq!(planned(&wanted, &[], &[]), ["make berth-verify-kata-qemu"]);
        let classes = all(KATA, "kata-qemu");
        assert_eq!(
            planned(&wanted, &["kata-qemu"], &[]),
            ["make berth-verify-kata-qemu", "make kata"]
        );
        // It stays when its nodes are away for a while.
        assert_eq!(planned(&wanted, &[], &classes), [""; 0]);
        // Labels go first.
        assert_eq!(planned(&[], &["kata-qemu"], &classes), [""; 0]);
        assert_eq!(
            planned(&[], &[], &classes),
            ["remove berth-verify-kata-qemu", "remove kata"]
        );
    }

    #[test]
    fn the_class_says_where_and_what_it_costs() {
        let class = &all(KATA, "kata-qemu")[1];
        assert_eq!(
            json!({"handler": class.handler, "overhead": class.overhead, "scheduling": class.scheduling}),
            json!({"handler": "kata-qemu", "overhead": {"podFixed": {"cpu": "250m", "memory": "160Mi"}},
                "scheduling": {"nodeSelector": {"handler.berth.dev/kata-qemu": "true"}}})
        );
        let own = KATA.replace('}', ", overhead: {memory: 1Gi}}");
        assert_eq!(
            planned(&handlers(&own), &["kata-qemu"], &all(KATA, "kata-qemu")),
            ["change kata"]
        );
        let none = KATA.replace('}', ", overhead: {}}");
        assert_eq!(all(&none, "kata-qemu")[1].overhead, None);
        assert_eq!(
            all(&KATA.replace("class: kata", "class: ''"), "kata-qemu").len(),
            1
        );
    }

    #[test]
    fn what_is_somebodys_is_left_alone() {
        let wanted = handlers(KATA);
        let changes: [fn(&mut RuntimeClass); 4] = [
            |class| class.metadata.labels = None,
            |class| class.metadata.annotations = None,
            |class| class.scheduling = None,
            |class| class.handler = "other".to_owned(),
        ];
        for change in changes {
            let mut classes = all(KATA, "kata-qemu");
            change(&mut classes[1]);
            assert_eq!(
                planned(&wanted, &["kata-qemu"], &classes),
                ["RuntimeClass \"kata\" is not the installer's, and is left alone"]
            );
            assert_eq!(
                planned(&[], &[], &classes),
                ["remove berth-verify-kata-qemu"]
            );
        }
    }

    #[test]
    fn another_handler_takes_another_class() {
        let wanted = handlers(&KATA.replace("kata-qemu", "kata-clh"));
        let found = planned(&wanted, &["kata-clh"], &all(KATA, "kata-qemu"));
        assert_eq!(
            found,
            [
                "make berth-verify-kata-clh",
                "remove kata",
                "remove berth-verify-kata-qemu"
            ]
        );
    }
}
