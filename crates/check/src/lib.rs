//! What will not work, found before anything is applied: `berth check`.
//!
//! [`Facts`] are gathered from manifests, from a cluster's objects and from node configurations; [`problems`]
//! judges them. Offline a node is known by its handlers only; then selectors and taints are not judged.

mod fields;
mod gather;
pub mod migrate;
mod nodes;
mod problem;
mod quotas;
mod workloads;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ResourceQuota};
use k8s_openapi::api::node::v1::RuntimeClass;

use berth_core::advice::{Advice, namespace, pod as of_pods};
use berth_core::annotations::{ALLOWED_CLASSES, DEFAULT_CLASS};
use berth_core::isolation::Isolation;
use berth_core::nearest::nearest;
use berth_placement::early;

pub use problem::{Kind, Problem};

/// Something and where it was found: a file, or a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed<T> {
    /// The file's name, or `cluster`.
    pub place: String,
    /// The thing.
    pub it: T,
}

/// A pod, or the pod that a workload would make.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    /// `Pod`, `Deployment`, ...
    pub kind: String,
    /// The pod, with the namespace of its workload.
    pub pod: Pod,
    /// Whether the API server has admitted it already.
    pub admitted: bool,
    /// How many such pods it makes.
    pub replicas: i64,
    /// Where the pod is in it: `spec` of a pod, `spec.template.spec` of a Deployment.
    pub at: String,
}

/// A handler of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandlerFact {
    /// Why it cannot run pods, if it cannot.
    pub broken: Option<String>,
    /// Whether somebody wrote it down (a broken default that nobody uses is no problem).
    pub configured: bool,
    /// What keeps its pods from the node's kernel, where that is known.
    pub isolation: Option<Isolation>,
}

/// A node: by its configuration, by its object, or both.
#[derive(Clone, Debug, Default)]
pub struct NodeFacts {
    /// The node's name, or the configuration's.
    pub name: String,
    /// Its handlers; `None` when it reports none (an old kubelet).
    pub handlers: Option<BTreeMap<String, HandlerFact>>,
    /// Its object, with labels and taints.
    pub node: Option<Node>,
}

/// All that is known. What a file has takes the place of what a cluster has by the same name: it is what will be there.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Classes, in v1.
    pub classes: Vec<Placed<RuntimeClass>>,
    /// Pods and what makes pods.
    pub workloads: Vec<Placed<Workload>>,
    /// Namespaces, for their policy.
    pub namespaces: Vec<Placed<Namespace>>,
    /// Quotas.
    pub quotas: Vec<Placed<ResourceQuota>>,
    /// Nodes.
    pub nodes: Vec<NodeFacts>,
    /// What was wrong already when the facts were gathered.
    pub found: Vec<Problem>,
    /// What of a cluster could not be looked at, with the reason: what is not known is no problem.
    pub unseen: BTreeMap<String, String>,
}

/// The place of what comes from a cluster.
const CLUSTER: &str = "cluster";

fn text(field: &Option<String>) -> &str {
    field.as_deref().unwrap_or_default()
}

/// Everything that will not work, sorted by place and object.
#[must_use]
pub fn problems(facts: &Facts) -> Vec<Problem> {
    let hosts = nodes::hosts(&facts.nodes);
    let mut problems = facts.found.clone();
    for class in &facts.classes {
        let name = text(&class.it.metadata.name);
        let object = format!("RuntimeClass {name}");
        let mut advice = early::of_class(&class.it, &hosts);
        advice.extend(of_pods::annotations(&class.it.metadata, None));
        let overhead = class
            .it
            .overhead
            .as_ref()
            .and_then(|o| o.pod_fixed.as_ref());
        advice.extend(of_pods::fractions(overhead, "overhead.podFixed"));
        problems.extend(Problem::advised(&class.place, &object, advice));
        problems.extend(quotas::of_class(facts, class));
    }
    problems.extend(broken_handlers(facts));
    for namespace in &facts.namespaces {
        problems.extend(of_namespace(facts, namespace));
    }
    for workload in &facts.workloads {
        problems.extend(workloads::of_workload(facts, &hosts, workload));
    }
    problems.sort();
    problems.dedup();
    problems
}

/// Handlers that somebody configured and that cannot run, whether or not a class names them.
fn broken_handlers(facts: &Facts) -> Vec<Problem> {
    let mut problems = Vec::new();
    for node in &facts.nodes {
        for (name, handler) in node.handlers.iter().flatten() {
            if let (Some(reason), true) = (&handler.broken, handler.configured) {
                problems.push(Problem::new(
                    &node.name,
                    &format!("handler {name}"),
                    Kind::HandlerBroken,
                    berth_core::handlers::cannot_run(name, reason),
                    "mend what the message names, or remove the handler",
                ));
            }
        }
    }
    problems
}

fn of_namespace(facts: &Facts, namespace: &Placed<Namespace>) -> Vec<Problem> {
    let metadata = &namespace.it.metadata;
    let object = format!("Namespace {}", text(&metadata.name));
    let empty = BTreeMap::new();
    let annotations = metadata.annotations.as_ref().unwrap_or(&empty);
    let mut advice = of_pods::annotations(metadata, None);
    advice.extend(namespace::policy(annotations, |class| {
        if find_class(facts, class).is_some() || facts.unseen.contains_key("runtimeclasses") {
            Ok(())
        } else {
            Err(meant(facts, class))
        }
    }));
    Problem::advised(&namespace.place, &object, advice)
}

fn find_class<'f>(facts: &'f Facts, name: &str) -> Option<&'f RuntimeClass> {
    let mut classes = facts.classes.iter().map(|c| &c.it);
    classes.find(|c| text(&c.metadata.name) == name)
}

/// The class that was probably meant.
fn meant(facts: &Facts, class: &str) -> Option<String> {
    let names: BTreeSet<&str> = facts
        .classes
        .iter()
        .map(|c| text(&c.it.metadata.name))
        .collect();
    nearest(class, names).map(str::to_owned)
}

/// The policy of a namespace.
fn policy<'f>(facts: &'f Facts, namespace: &str) -> Option<&'f BTreeMap<String, String>> {
    let mut all = facts.namespaces.iter();
    let found = all.find(|n| text(&n.it.metadata.name) == namespace)?;
    let annotations = found.it.metadata.annotations.as_ref()?;
    let has = |key| annotations.contains_key(key);
    (has(DEFAULT_CLASS) || has(ALLOWED_CLASSES)).then_some(annotations)
}

/// The advice of a class that pods name and that isn't there.
fn class_missing(facts: &Facts, class: &str) -> Advice {
    Advice::ClassMissing {
        class: class.to_owned(),
        meant: meant(facts, class),
    }
}

#[cfg(test)]
mod tests;
